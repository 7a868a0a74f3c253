"""The calibration audit: figures that are known beforehand, and a warning for each way in which samples are poor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pennyweight.errors import InputError
from pennyweight_export._tensorflow import tf
from pennyweight_export.audit import Audit, audit, require_disjoint
from pennyweight_export.evidence import digests
from pennyweight_export.quiet import quiet

RANDOM = np.random.default_rng(0)
MATRIX = RANDOM.normal(0, 0.3, (16, 8)).astype(np.float32)
ROWS = RANDOM.uniform(0, 1, (600, 16)).astype(np.float32)
LABELS = np.arange(300) % 3


def converted(body: Any) -> bytes:
    function = tf.function(lambda x: {"y": body(x)}, input_signature=[tf.TensorSpec((None, 16), tf.float32, "x")])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], function)
    with quiet():
        content: bytes = converter.convert()
    return content


PLAIN = converted(lambda x: tf.nn.softmax(tf.matmul(x, MATRIX)))


def audited(content: bytes = PLAIN, samples: Any = None, labels: Any = LABELS, others: Any = None) -> Audit:
    samples = ROWS[:300] if samples is None else samples
    others = {"": ROWS[300:]} if others is None else others
    return audit(content, {"": samples}, others, labels, ("a", "b", "c"))


def test_good_samples_bring_no_warning() -> None:
    found = audited()
    assert found.warnings == found.record["warnings"] == []
    assert (found.record["tensors"], found.record["constant_tensors"], found.record["compared_with"]) == (3, 0, 300)
    assert found.record["fewest_of_a_class"] == 100
    assert 0 < found.record["halves"]["worst"] < 0.25
    assert found.record["halves"]["median"] <= found.record["halves"]["worst"]
    assert 0 < found.record["bootstrap"]["worst"] < 0.25


def test_the_share_of_clipped_values_is_counted_per_tensor() -> None:
    others = ROWS[300:].copy()
    others[:30, :8] = 2.0  # 240 of 4,800 values beyond what calibration saw
    found = audited(others={"": others})
    (share,) = (share for name, share in found.record["clipped"].items() if "x" in name)
    assert share == pytest.approx(240 / 4800, abs=2e-3)  # a few of the rest lie outside, too
    assert any("leave the ranges" in warning for warning in found.warnings)


def test_few_samples_warn() -> None:
    found = audited(samples=ROWS[:20], labels=LABELS[:20])
    assert "20 calibration samples are few; 100 and more give steadier ranges" in found.warnings


def test_constant_samples_warn() -> None:
    found = audited(samples=np.full((300, 16), 0.5, np.float32))
    # The two others hold several numbers, the same ones in every sample.
    assert found.record["constant_tensors"] == 1
    assert any("is constant in the calibration samples" in warning for warning in found.warnings)


def test_whole_numbers_that_name_things_are_not_constant() -> None:
    table = RANDOM.normal(0, 1, (20, 4)).astype(np.float32)
    function = tf.function(
        lambda x: {"y": tf.reduce_sum(tf.gather(table, x), axis=1)},
        input_signature=[tf.TensorSpec((None, 5), tf.int32, "x")],
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], function)
    with quiet():
        content = converter.convert()
    words = RANDOM.integers(0, 20, (600, 5)).astype(np.int32)
    found = audit(content, {"": words[:300]}, {"": words[300:]})
    assert not any("constant" in warning for warning in found.warnings)
    assert (found.record["constant_tensors"], "fewest_of_a_class" in found.record) == (0, False)


def test_missing_and_rare_classes_warn() -> None:
    labels = np.where(np.arange(300) < 3, 1, 0)
    found = audited(labels=labels)
    assert found.record["fewest_of_a_class"] == 0
    assert "no calibration sample is of class c" in found.warnings
    assert "fewer than 5 calibration samples are of class b" in found.warnings


def test_ranges_that_hang_on_one_sample_warn() -> None:
    samples = ROWS[:300].copy()
    samples[7] *= 5
    found = audited(samples=samples)
    assert found.record["halves"]["worst"] > 0.25
    assert any("depend on which samples are drawn" in warning for warning in found.warnings)


def test_a_saturating_activation_warns() -> None:
    steep = converted(lambda x: tf.matmul(tf.tanh(tf.matmul(x, MATRIX * 200)), MATRIX[:8]))
    warnings = audited(steep).warnings
    assert any("before a tanh, which is saturated beyond ±3" in warning for warning in warnings)
    gentle = converted(lambda x: tf.matmul(tf.tanh(tf.matmul(x, MATRIX)), MATRIX[:8]))
    assert audited(gentle).warnings == []


def test_channels_far_apart_warn() -> None:
    spread = np.logspace(0, 3, 8).astype(np.float32)
    uneven = converted(lambda x: tf.matmul(tf.nn.relu(tf.matmul(x, MATRIX * spread)), MATRIX[:8] / spread[:, None]))
    assert any("have ranges far apart" in warning for warning in audited(uneven).warnings)


def test_few_values_that_stretch_a_range_warn() -> None:
    samples = ROWS[:300].copy()
    samples[5, 0] = 40
    assert any("few values stretch the ranges" in warning for warning in audited(samples=samples).warnings)


def test_without_others_nothing_is_said_to_be_clipped() -> None:
    record = audited(others={}).record
    assert (record["clipped"], record["compared_with"]) == ({}, 0)


def test_calibration_samples_that_are_evaluation_samples_are_refused() -> None:
    calibration, evaluation = digests({"x": ROWS[:100]}), digests({"x": ROWS[95:200]})
    with pytest.raises(InputError, match="5 of 100 calibration samples are evaluation samples too"):
        require_disjoint(calibration, evaluation)
    require_disjoint(calibration, digests({"x": ROWS[100:200]}))

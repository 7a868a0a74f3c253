"""The lab's network on the embedded digits, whole: each artifact on each installed engine beside Keras itself."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pennyweight import load, open_bundle
from pennyweight.engines import engines_for, is_installed
from pennyweight.golden import replay_golden
from pennyweight_data import Dataset, load_data
from pennyweight_export.recipes import choose_recipes
from pennyweight_export.tflite_file import read_tflite

PAIRS = [
    (artifact, engine)
    for artifact in (recipe.name for recipe in choose_recipes())
    for engine in engines_for(artifact.rpartition(".")[2])
    if is_installed(engine)
]
FLOAT_PAIRS = [pair for pair in PAIRS if pair[0].startswith("float32")]
OTHER_PAIRS = [pair for pair in PAIRS if not pair[0].startswith("float32")]


@cache
def digits() -> Dataset:
    return load_data("digits")


@pytest.fixture(scope="module")
def keras_probabilities(lab_model: Any) -> Any:
    """Give softmax in float64 of Keras' own logits: nothing of the exporter's is in it."""
    logits = lab_model.predict(digits().x_test, batch_size=1000, verbose=0).astype(np.float64)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("artifact", "engine"), FLOAT_PAIRS)
def test_a_float_artifact_gives_keras_probabilities(
    lab_bundle: Path, keras_probabilities: Any, artifact: str, engine: str
) -> None:
    got = load(lab_bundle, artifact=artifact, engine=engine).predict(digits().x_test)
    assert np.abs(got - keras_probabilities).max() <= 1e-5  # the issue's own figure


@pytest.mark.parametrize(("artifact", "engine"), OTHER_PAIRS)
def test_fewer_bits_agree_with_keras_and_keep_its_accuracy(
    lab_bundle: Path, keras_probabilities: Any, artifact: str, engine: str
) -> None:
    answers = np.asarray(load(lab_bundle, artifact=artifact, engine=engine).predict(digits().x_test)).argmax(axis=1)
    original = keras_probabilities.argmax(axis=1)
    right, originally_right = (float((found == digits().y_test).mean()) for found in (answers, original))
    assert (answers == original).mean() >= 0.993  # the issue's own figures
    assert right >= originally_right - 0.003


@pytest.mark.parametrize(("artifact", "engine"), PAIRS)
def test_any_batch_size_gives_the_same_answers(lab_bundle: Path, artifact: str, engine: str) -> None:
    model, images = load(lab_bundle, artifact=artifact, engine=engine), digits().x_test[:1000]
    thousand = np.asarray(model.predict(images))
    for size in (1, 7):
        pieces = np.concatenate([model.predict(images[start : start + size]) for start in range(0, 70, size)])
        # Kernels for one row and for many sum in different order.
        assert np.abs(pieces - thousand[:70]).max() <= 1e-6


@pytest.mark.parametrize(("artifact", "engine"), PAIRS)
def test_the_verdict_and_the_golden_set_hold(lab_bundle: Path, artifact: str, engine: str) -> None:
    bundle = open_bundle(lab_bundle)
    (record,) = [record for record in bundle.manifest.artifact(artifact).engines if record.engine == engine]
    assert (record.loaded, record.ran, record.verdict) == (True, True, "pass")
    assert record.figures["samples"] == 10_000
    assert replay_golden(load(bundle, artifact=artifact, engine=engine), bundle.golden()).passed


def test_every_installed_engine_has_a_record(lab_bundle: Path) -> None:
    specs = open_bundle(lab_bundle).manifest.artifacts
    assert [(spec.name, record.engine) for spec in specs for record in spec.engines] == PAIRS


def test_the_artifacts_hold_few_operators_and_int8_is_integer(lab_bundle: Path) -> None:
    manifest = open_bundle(lab_bundle).manifest
    assert manifest.artifact("float32.tflite").operators == {
        "CAST": 1, "MUL": 1, "RESHAPE": 1, "FULLY_CONNECTED": 3, "SOFTMAX": 1
    }  # fmt: skip
    int8 = manifest.artifact("int8.tflite")
    assert int8.operators == {"QUANTIZE": 1, "RESHAPE": 1, "FULLY_CONNECTED": 3, "SOFTMAX": 1, "DEQUANTIZE": 1}
    assert int8.float_operators == {}
    onnx = manifest.artifact("int8.onnx")
    assert onnx.operators == {"QuantizeLinear": 3, "DequantizeLinear": 10, "Reshape": 1, "Gemm": 3, "Softmax": 1}
    assert list(onnx.float_operators) == ["Softmax"]


def test_a_pixel_travels_as_it_is(lab_bundle: Path) -> None:
    bundle = open_bundle(lab_bundle)
    for spec in bundle.manifest.artifacts:
        (wire,) = spec.inputs
        assert (wire.dtype, wire.scale, wire.zero_point) == ("uint8", None, None)
        assert spec.outputs[0].dtype == "float32"
    (fact,) = read_tflite(bundle.read("int8.tflite"), "int8.tflite").inputs
    assert fact.scale == pytest.approx(1 / 255, rel=1e-6)  # a float32 holds seven digits
    assert fact.zero_point == 0


def test_the_evaluation_set_is_the_whole_test_part_with_keras_answers(
    lab_bundle: Path, keras_probabilities: Any
) -> None:
    samples = open_bundle(lab_bundle).evaluation()
    np.testing.assert_array_equal(samples.inputs["image"], digits().x_test)
    assert samples.labels is not None
    np.testing.assert_array_equal(samples.labels, digits().y_test)
    assert np.abs(samples.outputs["probabilities"] - keras_probabilities).max() <= 1e-6  # float32 softmax
    golden = open_bundle(lab_bundle).golden()
    assert 16 <= golden.rows <= 32
    assert golden.labels is not None
    assert set(golden.labels) == set(range(10))


def test_the_manifest_says_where_the_ranges_are_from(lab_bundle: Path, lab_model: Any) -> None:
    manifest = open_bundle(lab_bundle).manifest
    record = manifest.artifact("int8.tflite").calibration
    assert record is not None
    assert (record["samples"], record["seed"], record["classes"]) == (500, 0, 10)
    assert record["input_range"] == [0.0, 1.0]
    assert manifest.source["parameters"] == lab_model.count_params() == 10_575
    assert manifest.outputs[0].labels == tuple("0123456789")
    assert manifest.inputs[0].image is not None
    assert manifest.inputs[0].image[:3] == ("gray", 20, 20)


def test_the_model_card_states_every_figure(lab_bundle: Path) -> None:
    card = (lab_bundle / "README.md").read_text()
    for spec in open_bundle(lab_bundle).manifest.artifacts:
        for record in spec.engines:
            row = next(line for line in card.splitlines() if line.startswith(f"| {spec.name} | {record.engine} "))
            low, high = record.figures["accuracy_interval"]
            assert f"| {record.figures['accuracy']:.2%} | {low:.2%}–{high:.2%} |" in row
    assert "CC BY-SA 3.0" in card
    assert "10,575 parameters" in card

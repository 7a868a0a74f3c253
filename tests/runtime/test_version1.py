"""Format version 1 is a promise: the bundle that was committed with it loads, and answers as its original did."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from pennyweight import load, open_bundle
from pennyweight.golden import replay_golden
from support import FIXTURE, installed_pairs

# The whole bundle as it was committed. If this fails, somebody made it anew: put the old one back.
MANIFEST_SHA256 = "82027833434ecc95be68a69df4f6f8244bf99a605417e147dd55248fd12a5960"


def test_the_bundle_is_the_one_that_was_committed() -> None:
    raw = (FIXTURE / "manifest.json").read_bytes()
    assert hashlib.sha256(raw).hexdigest() == MANIFEST_SHA256
    assert json.loads(raw)["version"] == 1
    assert open_bundle(FIXTURE).check() == []


@pytest.mark.parametrize(("artifact", "engine"), installed_pairs())
def test_it_answers_as_its_original_did(artifact: str, engine: str) -> None:
    bundle = open_bundle(FIXTURE)
    golden = bundle.golden()
    with load(bundle, artifact=artifact, engine=engine) as model:
        result = replay_golden(model, golden)
        one_by_one = [model.classify(image)[0] for image in golden.inputs["image"]]
    assert result.passed
    # The stored answers are another model's than one that always says the same.
    assert result.samples == golden.rows == 24
    assert len(set(one_by_one)) >= 8
    original = golden.outputs["probabilities"]
    clear = np.sort(original)[:, -1] - np.sort(original)[:, -2] > 2 * result.tolerance
    assert clear.any()
    assert [name for name, sure in zip(one_by_one, clear) if sure] == [
        str(index) for index in original[clear].argmax(axis=1)
    ]


@pytest.mark.parametrize(("artifact", "engine"), installed_pairs())
def test_another_models_answers_are_refused(artifact: str, engine: str) -> None:
    bundle = open_bundle(FIXTURE)
    golden = bundle.golden()
    others = {name: np.roll(outputs, 1, axis=1) for name, outputs in golden.outputs.items()}
    with load(bundle, artifact=artifact, engine=engine) as model:
        assert not replay_golden(model, golden._replace(outputs=others)).passed


def test_its_manifest_is_read_whole() -> None:
    manifest = open_bundle(FIXTURE).manifest
    assert manifest.source["parameters"] == 1010
    assert [spec.name for spec in manifest.artifacts] == ["float32.tflite", "int8.tflite", "float32.onnx"]
    assert [len(spec.engines) for spec in manifest.artifacts] == [2, 2, 1]
    assert {record.verdict for spec in manifest.artifacts for record in spec.engines} == {"pass"}
    image = manifest.inputs[0].image
    assert image is not None
    assert (image.colour, image.height, image.width) == ("gray", 20, 20)

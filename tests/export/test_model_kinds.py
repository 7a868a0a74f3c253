"""A small model of every kind goes through export, and every engine's answers are set beside Keras' own."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest

from pennyweight import load
from pennyweight.bundle import Bundle
from pennyweight.engines import engines_for, is_installed
from pennyweight.manifest import ArtifactSpec
from pennyweight_export import export

from .kinds import KINDS

# Each float32 sum is rounded some hundred times on the way: 1e-7 a step, 1e-5 in all.
FLOAT = 1e-5
# Eight bits of each tensor's range, several layers deep, on random weights; a wrong graph is off by 0.7 and more.
INT8 = 0.3
# What a recurrent layer that isn't written out can't become.
GAPS = {"long lstm": ["int8.tflite", "int8.onnx"]}
# Name, dtype of each input; name, meaning and labelling of each output.
INTERFACES = {
    "dense regression": ([("input", "float32")], [("output", "raw", "none")]),
    "residual cnn": ([("image", "uint8")], [("probabilities", "probabilities", "single")]),
    "lstm": ([("input", "float32")], [("probabilities", "probabilities", "single")]),
    "gru": ([("input", "float32")], [("output", "raw", "none")]),
    "attention": ([("input", "float32")], [("probabilities", "probabilities", "single")]),
    "embedding": ([("input", "int32")], [("probabilities", "probabilities", "single")]),
    "two in, two out": (
        [("picture", "uint8"), ("facts", "float32")],
        [("kind", "probabilities", "single"), ("size", "raw", "none")],
    ),
    "autoencoder": ([("image", "uint8")], [("output", "raw", "none")]),
    "segmentation": ([("image", "uint8")], [("probabilities", "probabilities", "single")]),
    "several labels": ([("input", "float32")], [("probabilities", "probabilities", "multi")]),
    "subclassed": ([("image", "uint8")], [("probabilities", "probabilities", "single")]),
    "long lstm": ([("input", "float32")], [("output", "raw", "none")]),
}
# These end in a sigmoid of their own; the others that give probabilities end in logits.
SIGMOID = {"embedding", "several labels"}


class Made(NamedTuple):
    """The bundle that was made of a model, and what Keras answers to the evaluation inputs, by output."""

    kind: str
    bundle: Bundle
    wanted: Mapping[str, Any]


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Give a model's bundle with float32 and int8 in both formats."""
    kind = str(request.param)
    model, data = KINDS[kind]()
    bundle = export(model, data, tmp_path_factory.mktemp("kind") / "b", precision=["float32", "int8"], repair=False)
    inputs = bundle.evaluation().inputs
    answers = model.predict(inputs if len(inputs) > 1 else next(iter(inputs.values())), verbose=0)
    every = answers if isinstance(answers, list) else [answers]
    named = zip(bundle.manifest.outputs, every)
    return Made(kind, bundle, {spec.name: _headed(array, spec.meaning, kind) for spec, array in named})


def _headed(answers: Any, meaning: str, kind: str) -> Any:
    """Append the softmax that the model lacks."""
    if meaning != "probabilities" or kind in SIGMOID:
        return answers
    raised = np.exp(answers - answers.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def errors(made: Made, artifact: ArtifactSpec, engine: str) -> dict[str, float]:
    """Give each output's RMS error over the spread of Keras' answers."""
    inputs = made.bundle.evaluation().inputs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # int8 of random weights may fail its gate, which `load` says
        model = load(made.bundle, artifact=artifact.name, engine=engine)
    answers = model.predict(inputs if len(inputs) > 1 else next(iter(inputs.values())))
    by_name = answers if isinstance(answers, dict) else dict.fromkeys(made.wanted, answers)
    assert {name: array.shape for name, array in by_name.items()} == {k: v.shape for k, v in made.wanted.items()}
    return {
        name: float(np.sqrt(np.mean((by_name[name] - array) ** 2)) / array.std()) for name, array in made.wanted.items()
    }


def test_every_artifact_answers_like_keras_on_every_engine(made: Made) -> None:
    names = ["float32.tflite", "int8.tflite", "float32.onnx", "int8.onnx"]
    gaps = {gap.artifact: gap.reason for gap in made.bundle.manifest.gaps}
    assert [name for name in names if name in gaps] == GAPS.get(made.kind, []), gaps
    assert [spec.name for spec in made.bundle.manifest.artifacts] == [name for name in names if name not in gaps]
    measured = {
        (spec.name, engine): errors(made, spec, engine)
        for spec in made.bundle.manifest.artifacts
        for engine in engines_for(spec.format)
        if is_installed(engine)
    }
    allowed = {"float32": FLOAT, "int8": INT8}
    wrong = {
        pair: found for pair, found in measured.items() if max(found.values()) > allowed[pair[0].partition(".")[0]]
    }
    assert len(measured) >= 2
    assert not wrong


def test_the_interface_says_what_goes_in_and_comes_out(made: Made) -> None:
    manifest = made.bundle.manifest
    inputs, outputs = INTERFACES[made.kind]
    assert [(spec.name, spec.dtype) for spec in manifest.inputs] == inputs
    assert [(spec.name, spec.meaning, spec.labelling) for spec in manifest.outputs] == outputs
    tokens = [wire.dtype for spec in manifest.artifacts for wire in spec.inputs if manifest.inputs[0].dtype == "int32"]
    assert set(tokens) <= {"int32"}


def test_a_batch_is_fixed_only_where_a_loop_needs_it_and_then_it_is_recorded(made: Made) -> None:
    for spec in made.bundle.manifest.artifacts:
        fixed = made.kind == "long lstm" and spec.format == "tflite"
        assert spec.converter.get("batch") == (1 if fixed else None)

"""A small model of every kind goes through export, and every engine's answers are set beside Keras' own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest

from pennyweight import load
from pennyweight.bundle import Bundle
from pennyweight.engines import engines_for, is_installed
from pennyweight_export import export

from .kinds import KINDS

# Each float32 sum is rounded some hundred times on the way: 1e-7 a step, 1e-5 in all.
FLOAT = 1e-5
# Eight bits of each tensor's range, several layers deep, on random weights: a wrong graph is off by 0.7 and more.
INT8 = {"residual cnn": 0.2, "lstm": 0.2, "attention": 0.3, "dense regression": 0.2}
INT8_OTHERWISE = 0.12
RELU = np.vectorize(lambda value: max(value, 0.0))


class Made(NamedTuple):
    """A model of one kind, the bundle that was made of it, and its own answers to the evaluation inputs by name."""

    kind: str
    model: Any
    bundle: Bundle
    original: Mapping[str, Any]


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Give a model's bundle with float32 and int8 in both formats."""
    kind = str(request.param)
    model, data = KINDS[kind]()
    bundle = export(model, data, tmp_path_factory.mktemp("kind") / "b", precision=["float32", "int8"])
    inputs = bundle.evaluation().inputs
    answers = model.predict(inputs if len(inputs) > 1 else next(iter(inputs.values())), verbose=0)
    names = [spec.name for spec in bundle.manifest.outputs]
    return Made(kind, model, bundle, dict(zip(names, answers if isinstance(answers, list) else [answers])))


def headed(answers: Any, spec: Any, kind: str) -> Any:
    """Append the head that the model lacks, in numpy."""
    if spec.meaning != "probabilities" or kind in ("embedding", "several labels"):
        return answers
    raised = np.exp(answers - answers.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def test_every_artifact_runs_on_every_engine_and_answers_like_keras(made: Made) -> None:
    manifest = made.bundle.manifest
    inputs = made.bundle.evaluation().inputs
    wanted = {spec.name: headed(made.original[spec.name], spec, made.kind) for spec in manifest.outputs}
    ran = 0
    for artifact in manifest.artifacts:
        for engine in filter(is_installed, engines_for(artifact.format)):
            with pytest.warns() if False else _quiet():
                model = load(made.bundle, artifact=artifact.name, engine=engine)
            answers = model.predict(inputs if len(inputs) > 1 else next(iter(inputs.values())))
            by_name = answers if isinstance(answers, dict) else {manifest.outputs[0].name: answers}
            allowed = INT8.get(made.kind, INT8_OTHERWISE) if artifact.precision == "int8" else FLOAT
            for name, expected in wanted.items():
                assert by_name[name].shape == expected.shape
                error = np.sqrt(np.mean((by_name[name] - expected) ** 2)) / expected.std()
                assert error <= allowed, f"{artifact.name} on {engine}, {name}: relative error {error:.3g}"
            ran += 1
    assert ran >= 3


def _quiet() -> Any:
    import warnings

    context = warnings.catch_warnings()
    context.__enter__()
    warnings.simplefilter("ignore")
    return context

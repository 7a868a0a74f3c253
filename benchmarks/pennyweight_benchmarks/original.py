"""The original Keras model's own rows: the same samples, timed as the artifacts are, in a fresh process.

It is called the three ways that people call it, each from one image as a NumPy array to a label and its probability:
``tf.function`` (compiled once for a batch of one), ``model(x)`` and ``model.predict``.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns
from typing import Any
from zipfile import is_zipfile

import numpy as np
import numpy.typing as npt

from pennyweight.bench import Plan
from pennyweight.bundle import EVALUATION_NAME, Bundle, open_bundle
from pennyweight.commands.bench import BASELINE
from pennyweight.errors import CheckFailedError, InputError, UsageError
from pennyweight.isolation import run_isolated
from pennyweight.latency import peak_bytes, time_call
from pennyweight.manifest import Manifest, plain_json
from pennyweight.parity import compare_answers
from pennyweight.quantization import sigmoid, softmax
from pennyweight.samples import Samples

JsonObject = dict[str, Any]
Array = npt.NDArray[Any]
Answer = Callable[[Array], Array]

CALLED = "Keras model(x)"
PREDICT = "Keras predict"
# TensorFlow's import and the rounds of the slowest way take longer than an engine's.
EXTRA_SECONDS = 240.0
ROWS = 1024
# Rounding in another order stays far below this; another training of the same network doesn't.
SAME = 1e-3


def measure_original(model: Path, bundle: Bundle, plan: Plan) -> list[JsonObject]:
    """Measure the original Keras model on a bundle's samples, each round in a fresh child process.

    Args:
        model: the ``.keras`` file that the bundle was exported from.
        bundle: its golden inputs are timed, its evaluation set (if it has one) gives accuracy and agreement.
        plan: rounds and seconds are for each way of calling; the three ways share a round's process, as TensorFlow's
            import takes most of the time. Every process is a cold start of the first way.

    Returns:
        Rows like those of ``pennyweight.bench.measure_bench``, with "bytes" and "parity" (figures or None) added.

    Raises:
        InputError: no such file, or no Keras model.
        CheckFailedError: it answers unlike the model that the bundle was exported from.
    """
    if not model.is_file():
        raise InputError(f"{model}: no such model file; give the .keras file that the bundle was exported from")
    if not is_zipfile(model):
        raise InputError(f"{model}: not a whole Keras model; save the model again")
    arguments: JsonObject = {"model": str(model), "bundle": str(bundle.path), "seconds": plan.seconds}
    arguments["least"] = plan.least_calls
    rows: list[JsonObject] = []
    for number in range(plan.rounds):
        arguments.update(started_ns=perf_counter_ns(), seed=plan.seed + number, parity=number == 0)
        timeout = plan.timeout + EXTRA_SECONDS
        answer = run_isolated("pennyweight_benchmarks.original:original_task", arguments, timeout)
        if not rows:
            rows = answer["rows"]
            continue
        for row, further in zip(rows, answer["rows"], strict=True):
            row["rounds"] += further["rounds"]
            row["cold_starts"] += further["cold_starts"]
    return rows


def original_task(arguments: JsonObject) -> JsonObject:
    """Be the child: load the model with Keras, check it against the bundle, time its three ways in random order.

    "parity" in ``arguments`` says whether the evaluation set is answered too; else that is None.
    """
    import keras
    import tensorflow

    imported = perf_counter_ns()
    bundle = open_bundle(arguments["bundle"])
    model = _load(arguments["model"], keras)
    golden = bundle.golden()
    ways = _ways(model, bundle.manifest, golden, arguments["model"], tensorflow)
    loaded = perf_counter_ns()
    images = list(next(iter(golden.inputs.values())))
    ways[BASELINE](images[0][None])
    answered = perf_counter_ns()
    stamps = {"imported_ns": imported, "loaded_ns": loaded, "answered_ns": answered}
    cold = {name: stamp - arguments["started_ns"] for name, stamp in stamps.items()}
    cold["peak_bytes"] = peak_bytes()
    size = Path(arguments["model"]).stat().st_size
    rows = []
    for name in ways:
        row = {"artifact": Path(arguments["model"]).name, "engine": name, "engine_version": keras.__version__}
        row.update(threads=None, status="ok", reason="", rounds=[], cold_starts=[cold] if name == BASELINE else [])
        rows.append({**row, "bytes": size, "parity": _parity(ways[name], bundle) if arguments["parity"] else None})
    order = random.Random(arguments["seed"])
    calls = {name: _single(way, bundle.manifest) for name, way in ways.items()}
    for row in order.sample(rows, len(rows)):
        timing = time_call(calls[row["engine"]], images, arguments["seconds"], arguments["least"])
        row["rounds"].append(timing._asdict())
    return {"rows": rows}


def _load(path: str, keras: Any) -> Any:
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: not a whole Keras model ({first[:200]}); save the model again") from error


def _ways(model: Any, manifest: Manifest, golden: Samples, path: str, tensorflow: Any) -> dict[str, Answer]:
    """Give the ways to call it, each from a batch of the bundle's inputs to a batch of its outputs."""
    scale, offset = manifest.source.get("scale", 1.0), manifest.source.get("offset", 0.0)

    def fed(batch: Array) -> Array:
        if (scale, offset) == (1.0, 0.0):
            return batch
        return batch.astype(np.float32) * np.float32(scale) + np.float32(offset)

    head, finish = _head(lambda batch: np.asarray(model(fed(batch), training=False)), golden, path, tensorflow)
    compiled = tensorflow.function(lambda batch: head(model(batch, training=False)))
    return {
        BASELINE: lambda batch: np.asarray(compiled(tensorflow.constant(fed(batch)))),
        CALLED: lambda batch: finish(np.asarray(model(fed(batch), training=False))),
        PREDICT: lambda batch: finish(np.asarray(model.predict(fed(batch), verbose=0, batch_size=ROWS))),
    }


def _head(call: Answer, golden: Samples, path: str, tensorflow: Any) -> tuple[Callable[[Any], Any], Answer]:
    """Give what turns the model's outputs into the bundle's, in the graph and in NumPy: nothing, softmax or sigmoid.

    The golden set tells which; where none of them does, this model isn't the bundle's original.
    """
    mend = "give the .keras file that the bundle was exported from"
    if len(golden.inputs) != 1 or len(golden.outputs) != 1:
        raise UsageError("--original takes models with one input and one output")
    (inputs,), (wanted,) = golden.inputs.values(), golden.outputs.values()
    try:
        outputs = call(inputs)
    except Exception as error:
        raise CheckFailedError(f"{path} can't take this bundle's inputs; {mend}") from error
    heads: list[tuple[Callable[[Any], Any], Answer]] = [
        (tensorflow.identity, np.asarray),
        (tensorflow.nn.softmax, softmax),
        (tensorflow.math.sigmoid, sigmoid),
    ]
    for in_graph, in_numpy in heads:
        answers = in_numpy(outputs)
        if answers.shape == wanted.shape and np.allclose(answers, wanted, rtol=SAME, atol=SAME):
            return in_graph, in_numpy
    raise CheckFailedError(f"{path} answers unlike this bundle's original; {mend}")


def _single(way: Answer, manifest: Manifest) -> Callable[[Array], Any]:
    """Give the call for one image: to a label and its probability, as ``classify`` does; numbers stay numbers."""
    spec = manifest.outputs[0]
    if spec.labelling != "single":
        return lambda image: way(image[None])
    labels = spec.labels or tuple(str(index) for index in range(max(2, spec.shape[-1])))

    def classify(image: Array) -> tuple[str, float]:
        row = way(image[None])[0]
        index = int(row.argmax()) if len(row) > 1 else int(row[0] >= 0.5)
        return labels[index], float(row.max() if len(row) > 1 else row[0])

    return classify


def _parity(way: Answer, bundle: Bundle) -> JsonObject | None:
    spec = bundle.manifest.outputs[0]
    if EVALUATION_NAME not in bundle.manifest.files or spec.labelling != "single" or len(spec.shape) != 1:
        return None
    samples = bundle.evaluation()
    inputs = next(iter(samples.inputs.values()))
    answers = np.concatenate([way(inputs[start : start + ROWS]) for start in range(0, len(inputs), ROWS)])
    labels = spec.labels or tuple(str(index) for index in range(max(2, spec.shape[-1])))
    figures: JsonObject = plain_json(compare_answers(answers, samples.outputs[spec.name], samples.labels, labels))
    return figures

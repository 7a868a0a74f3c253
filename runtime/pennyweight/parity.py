"""Parity: whether an artifact on an engine still is the model that was trained, measured on paired samples.

Every sample was answered by the original model when the bundle was made. Here the artifact answers the same ones, and
what counts is the pairs: which answers flipped, how far accuracy can have dropped, and whether that is allowed.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .bundle import Bundle, open_bundle
from .errors import InputError
from .latency import peak_bytes
from .loading import load, machine
from .manifest import Manifest, OutputSpec, plain_json
from .model import Model
from .sample_file import SampleFile, piece_rows
from .samples import Samples
from .tallies import ClassTally, Flip, NumberTally, tally_answers, tally_numbers
from .tallies import chosen_classes as chosen_classes
from .verdicts import CONFIDENCE as CONFIDENCE
from .verdicts import MAX_DROP as MAX_DROP
from .verdicts import MAX_RELATIVE_ERROR, Gates, class_names, judge, judge_classes
from .verdicts import NumericParity as NumericParity
from .verdicts import Parity as Parity

Array = Any  # np.ndarray[Any, Any] can't be subscripted at run time on numpy 1.21


def measure_parity(
    model: Model,
    samples: Samples,
    *,
    max_drop: float = MAX_DROP,
    confidence: float = CONFIDENCE,
    max_relative_error: float = MAX_RELATIVE_ERROR,
    max_difference: float | None = None,
) -> Parity | NumericParity:
    """Answer the samples and set the answers beside the original's.

    The verdict of a classifier: "pass" when the upper end of the drop's interval is at most ``max_drop``, "fail" when
    the lower end lies above it, "inconclusive" between. As the interval is two-sided, a model whose true drop is
    larger than allowed passes at most half of 1 − ``confidence`` of the time. Answers that are NaN or infinite fail.

    Args:
        model: a loaded artifact.
        samples: inputs with the original's outputs, and labels where there are any: whole numbers from 0, (n,).
        max_drop: the accuracy that may be lost, as a fraction (0.005 is half a percentage point).
        confidence: of every interval, two-sided.
        max_relative_error: the gate for outputs that name no single label.
        max_difference: another one for these: the largest absolute difference of a value; None for no such gate.

    Raises:
        InputError: no samples, or labels that don't fit the model's classes.
        EngineError: the engine failed.
    """
    if not samples.rows:
        raise InputError("there are no samples to compare; give a data set with at least one")
    answers, step = _answers(model, samples), piece_rows(model.manifest)
    cuts = [(start, start + step) for start in range(0, samples.rows, step)]
    pieces = [samples.part(*cut) for cut in cuts]
    means = (
        None if _is_classifier(model.manifest.outputs) else _means((piece.outputs for piece in pieces), samples.rows)
    )
    parts = ({name: array[slice(*cut)] for name, array in answers.items()} for cut in cuts)
    tally = _tally(model.manifest, zip(parts, pieces), means, 0)
    gates = Gates(max_drop, confidence, max_relative_error, max_difference)
    return judge(tally, model.manifest, samples.labels is not None, gates)


def compare_answers(
    answers: Array,
    originals: Array,
    labels: Array | None,
    names: tuple[str, ...],
    max_drop: float = MAX_DROP,
    confidence: float = CONFIDENCE,
) -> Parity:
    """Set a classifier's probabilities (n, classes), or (n, 1) for a binary one, beside the original's."""
    tally = tally_answers(answers, originals, labels, len(names))
    return judge_classes(tally, names, labels is not None, Gates(max_drop, confidence))


def parity_task(arguments: dict[str, Any]) -> dict[str, Any]:
    """Measure one artifact × engine, for ``run_isolated``.

    ``arguments`` holds "bundle", "artifact" and "engine", and may hold "threads", "data" and ``Gates``. Gives the
    figures as JSON, with "engine_version", "machine" and "peak_bytes" beside them.
    """
    bundle, answer = open_bundle(arguments["bundle"]), tally_task(arguments)
    gates = Gates(**{name: arguments[name] for name in Gates._fields if name in arguments})
    parity = judge(tally_from(answer), bundle.manifest, answer["labelled"], gates)
    return {**plain_json(parity), **{name: answer[name] for name in ("engine_version", "machine", "peak_bytes")}}


def tally_task(arguments: dict[str, Any]) -> dict[str, Any]:
    """Count the answers to the pieces from "first" up to "stop" (by default all), for ``run_isolated``.

    ``arguments`` as for ``parity_task``. Gives "classes" or "numbers" for ``tally_from``, "labelled", and what
    describes the child.
    """
    bundle = open_bundle(arguments["bundle"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an earlier verdict is no news: this is where a new one is made
        model = load(
            bundle, artifact=arguments["artifact"], engine=arguments["engine"], threads=arguments.get("threads", 1)
        )
    with sample_file(bundle, arguments.get("data")) as file:
        classifier = _is_classifier(bundle.manifest.outputs)
        means = None if classifier else _means(file.outputs(), file.rows)
        first, stop = arguments.get("first", 0), arguments.get("stop", file.pieces)
        answered = ((_answers(model, piece), piece) for piece in file.read(first, stop))
        tally = _tally(bundle.manifest, answered, means, first * file.piece_rows)
        kind = {"classes": tally._asdict()} if isinstance(tally, ClassTally) else {"numbers": tally}
        about = {"engine_version": model.engine.version, "machine": machine(), "peak_bytes": peak_bytes()}
        return {**kind, **about, "labelled": file.labelled}


def tally_from(answer: Mapping[str, Any]) -> ClassTally | dict[str, NumberTally]:
    """Give the tally that ``tally_task`` made, from its JSON."""
    if "classes" in answer:
        content = answer["classes"]
        return ClassTally(**{**content, "flips": [Flip(*flip) for flip in content["flips"]]})
    return {name: NumberTally(*columns) for name, columns in answer["numbers"].items()}


def add_tallies(
    one: ClassTally | dict[str, NumberTally], other: ClassTally | dict[str, NumberTally]
) -> ClassTally | dict[str, NumberTally]:
    """Give the tally of both parts, of which ``other`` comes later."""
    if isinstance(one, ClassTally) and isinstance(other, ClassTally):
        return one + other
    if isinstance(one, ClassTally) or isinstance(other, ClassTally):
        raise TypeError("classes and numbers can't be added")
    return {name: tally + other[name] for name, tally in one.items()}


def sample_file(bundle: Bundle, data: str | None) -> SampleFile:
    """Open the bundle's evaluation set, or the ``.npz`` of samples that the user gave; raise BundleError."""
    if data is None:
        return _some(bundle.evaluation_file())
    try:
        file = Path(data).open("rb")  # noqa: SIM115  the SampleFile closes it
    except OSError as error:
        raise InputError(f"{data}: can't be read ({error.strerror}); check the path and permissions") from error
    return _some(SampleFile(file, bundle.manifest, data))


def _some(file: SampleFile) -> SampleFile:
    if file.rows:
        return file
    file.close()
    raise InputError(f"{file.where}: there are no samples to compare; give a data set with at least one")


def _is_classifier(outputs: tuple[OutputSpec, ...]) -> bool:
    return len(outputs) == 1 and outputs[0].labelling == "single" and len(outputs[0].shape) == 1


def _answers(model: Model, samples: Samples) -> Mapping[str, Array]:
    answers = model.predict(samples.inputs if len(samples.inputs) > 1 else next(iter(samples.inputs.values())))
    return answers if isinstance(answers, Mapping) else {model.manifest.outputs[0].name: answers}


def _tally(
    manifest: Manifest,
    pieces: Iterable[tuple[Mapping[str, Array], Samples]],
    means: Mapping[str, Array] | None,
    first: int,
) -> ClassTally | dict[str, NumberTally]:
    """Count piece by piece; ``means`` are the original's, for outputs that name no class."""
    total: Any = None
    spec = manifest.outputs[0]
    for answers, piece in pieces:
        tally: Any
        if means is None:
            classes = len(class_names(spec))
            tally = tally_answers(answers[spec.name], piece.outputs[spec.name], piece.labels, classes, first)
        else:
            tally = tally_numbers(answers, piece.outputs, means)
        total = tally if total is None else add_tallies(total, tally)
        first += piece.rows
    result: ClassTally | dict[str, NumberTally] = total
    return result


def _means(outputs: Iterable[Mapping[str, Array]], rows: int) -> dict[str, Array]:
    """Give the original's mean of each element of each output over all samples; of one sample alone, nothing."""
    sums: dict[str, Array] = {}
    for piece in outputs:
        for name, array in piece.items():
            part = array.reshape(len(array), -1).sum(axis=0, dtype=np.float64)
            sums[name] = part if name not in sums else sums[name] + part
    return {name: total / rows if rows > 1 else np.zeros_like(total) for name, total in sums.items()}

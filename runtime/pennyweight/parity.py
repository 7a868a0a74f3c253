"""Parity: whether an artifact on an engine still is the model that was trained, measured on paired samples.

Every sample was answered by the original model when the bundle was made. Here the artifact answers the same ones, and
what counts is the pairs: which answers flipped, how far accuracy can have dropped, and whether that is allowed.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from .bundle import open_bundle
from .errors import InputError
from .loading import load, machine
from .manifest import OutputSpec, plain_json
from .model import Model
from .samples import Samples
from .statistics import drop_interval, mcnemar_exact, samples_to_decide, wilson_interval

Array = Any  # np.ndarray[Any, Any] can't be subscripted at run time on numpy 1.21
Interval = tuple[float, float]

MAX_DROP = 0.005
CONFIDENCE = 0.95
# Of an output that is no classification: the error's RMS over the standard deviation of the original's output.
MAX_RELATIVE_ERROR = 0.05


class ClassRecall(NamedTuple):
    """One class: how many samples have it, and which fractions of them the original and this model find."""

    label: str
    samples: int
    original: float
    recall: float


class Parity(NamedTuple):
    """A classifier beside its original. Rates are fractions of 1; intervals are two-sided at ``confidence``.

    ``reference`` is "labels", or "original" for samples without labels: then the original's answer counts as the right
    one, what only labels could tell is None, and the drop is the rate of disagreement, which no true drop exceeds.
    ``ties`` counts answers whose highest probability stands there twice; the lowest index is taken. ``samples_needed``
    is how many samples in all would decide an inconclusive verdict if they flip at the same rates.
    """

    kind: str
    verdict: str
    reason: str
    samples: int
    reference: str
    max_drop: float
    confidence: float
    accuracy: float | None
    accuracy_interval: Interval | None
    original_accuracy: float | None
    original_interval: Interval | None
    agreement: float
    agreement_interval: Interval
    flips_lost: int
    flips_won: int
    flips_other: int
    mcnemar_p: float | None
    drop: float
    drop_interval: Interval
    ties: int
    not_finite: int
    largest_difference: float | None
    samples_needed: int | None
    classes: tuple[ClassRecall, ...]


class OutputDifference(NamedTuple):
    """One numeric output beside the original's: see ``NumericParity``."""

    name: str
    relative_error: float | None
    snr_db: float | None
    cosine: float | None
    largest: float | None
    not_finite: int


class NumericParity(NamedTuple):
    """Outputs that name no single label, beside the original's.

    ``relative_error`` is the RMS error over the original output's standard deviation across samples, so that a large
    constant part can't hide a dead model; ``snr_db`` is the same in decibels (None for an exact match); ``cosine`` is
    between both outputs with the original's mean taken off; ``largest`` is the largest absolute difference.
    """

    kind: str
    verdict: str
    reason: str
    samples: int
    max_relative_error: float
    outputs: tuple[OutputDifference, ...]


def measure_parity(
    model: Model,
    samples: Samples,
    *,
    max_drop: float = MAX_DROP,
    confidence: float = CONFIDENCE,
    max_relative_error: float = MAX_RELATIVE_ERROR,
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

    Raises:
        InputError: no samples, or labels that don't fit the model's classes.
        EngineError: the engine failed.
    """
    if not samples.rows:
        raise InputError("there are no samples to compare; give a data set with at least one")
    answers = model.predict(samples.inputs if len(samples.inputs) > 1 else next(iter(samples.inputs.values())))
    by_name = answers if isinstance(answers, Mapping) else {model.manifest.outputs[0].name: answers}
    if _is_classifier(model.manifest.outputs):
        name = model.manifest.outputs[0].name
        return compare_answers(by_name[name], samples.outputs[name], samples.labels, model.labels, max_drop, confidence)
    return _compare_numbers(by_name, samples.outputs, max_relative_error)


def compare_answers(
    answers: Array,
    originals: Array,
    labels: Array | None,
    names: tuple[str, ...],
    max_drop: float = MAX_DROP,
    confidence: float = CONFIDENCE,
) -> Parity:
    """Set a classifier's probabilities (n, classes), or (n, 1) for a binary one, beside the original's."""
    finite = np.isfinite(answers).all(axis=-1)
    predicted, original = np.where(finite, chosen_classes(answers), -1), chosen_classes(originals)
    truth = original if labels is None else _checked_labels(labels, len(answers), len(names))
    right, original_right = predicted == truth, original == truth
    rows, agreeing = len(answers), int((predicted == original).sum())
    lost, won = int((original_right & ~right).sum()), int((right & ~original_right).sum())
    interval = drop_interval(lost, won, rows, confidence)
    parity = Parity(
        kind="classification",
        verdict="",
        reason="",
        samples=rows,
        reference="original" if labels is None else "labels",
        max_drop=max_drop,
        confidence=confidence,
        accuracy=None if labels is None else int(right.sum()) / rows,
        accuracy_interval=None if labels is None else wilson_interval(int(right.sum()), rows, confidence),
        original_accuracy=None if labels is None else int(original_right.sum()) / rows,
        original_interval=None if labels is None else wilson_interval(int(original_right.sum()), rows, confidence),
        agreement=agreeing / rows,
        agreement_interval=wilson_interval(agreeing, rows, confidence),
        flips_lost=lost,
        flips_won=won,
        flips_other=rows - agreeing - lost - won,
        mcnemar_p=None if labels is None else mcnemar_exact(lost, won),
        drop=(lost - won) / rows,
        drop_interval=interval,
        ties=_count_ties(answers[finite]),
        not_finite=int((~finite).sum()),
        largest_difference=_largest(answers[finite], originals[finite]),
        samples_needed=None,
        classes=() if labels is None else _recalls(predicted, original, truth, names),
    )
    return _judged(parity)


def chosen_classes(probabilities: Array) -> Array:
    """Give the class index of each row: the highest, a tie takes the lowest index; binary says class 1 from 0.5 on."""
    if probabilities.shape[-1] == 1:
        return (probabilities[:, 0] >= 0.5).astype(np.int64)
    return probabilities.argmax(axis=-1)


def parity_task(arguments: dict[str, Any]) -> dict[str, Any]:
    """Measure one artifact × engine, for ``run_isolated``.

    ``arguments`` holds "bundle", "artifact" and "engine", and may hold "threads", "max_drop" and "confidence".
    Gives the figures as JSON, with "engine_version" and "machine" beside them.
    """
    bundle = open_bundle(arguments["bundle"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an earlier verdict is no news: this is where a new one is made
        model = load(
            bundle, artifact=arguments["artifact"], engine=arguments["engine"], threads=arguments.get("threads", 1)
        )
    parity = measure_parity(
        model,
        bundle.evaluation(),
        max_drop=arguments.get("max_drop", MAX_DROP),
        confidence=arguments.get("confidence", CONFIDENCE),
    )
    return {**plain_json(parity), "engine_version": model.engine.version, "machine": machine()}


def _is_classifier(outputs: tuple[OutputSpec, ...]) -> bool:
    return len(outputs) == 1 and outputs[0].labelling == "single" and len(outputs[0].shape) == 1


def _judged(parity: Parity) -> Parity:
    low, high = parity.drop_interval
    allowed = f"allowed {_points(parity.max_drop)}"
    level = f"{parity.confidence:.10g} confidence"
    if parity.not_finite:
        return parity._replace(verdict="fail", reason=f"{parity.not_finite} answers are NaN or infinite")
    if high <= parity.max_drop:
        return parity._replace(verdict="pass", reason=f"the drop is at most {_points(high)} at {level}, {allowed}")
    if low > parity.max_drop:
        return parity._replace(verdict="fail", reason=f"the drop is at least {_points(low)} at {level}, {allowed}")
    needed = samples_to_decide(parity.flips_lost, parity.flips_won, parity.samples, parity.max_drop, parity.confidence)
    more = (
        f"about {needed} samples would decide" if needed else "the drop seen is the one allowed, so no number decides"
    )
    reason = f"the drop lies between {_points(low)} and {_points(high)} at {level}, {allowed}; {more}"
    return parity._replace(verdict="inconclusive", reason=reason, samples_needed=needed)


def _points(fraction: float) -> str:
    return f"{100 * fraction:.2f} points"


def _checked_labels(labels: Array, rows: int, classes: int) -> Array:
    if labels.shape != (rows,) or labels.dtype.kind not in "biu":
        raise InputError(f"labels are {labels.dtype} {labels.shape}; give whole numbers of shape ({rows},)")
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(
            f"labels run from {labels.min()} to {labels.max()}; this model has the classes 0..{classes - 1}"
        )
    return labels.astype(np.int64)


def _count_ties(answers: Array) -> int:
    if answers.shape[-1] == 1:
        return int((answers[:, 0] == 0.5).sum())
    return int(((answers == answers.max(axis=-1, keepdims=True)).sum(axis=-1) > 1).sum())


def _largest(answers: Array, originals: Array) -> float | None:
    if not answers.size:
        return None
    return float(np.abs(answers.astype(np.float64) - originals).max())


def _recalls(predicted: Array, original: Array, truth: Array, names: tuple[str, ...]) -> tuple[ClassRecall, ...]:
    counts = np.bincount(truth, minlength=len(names))
    found = np.bincount(truth[predicted == truth], minlength=len(names))
    first = np.bincount(truth[original == truth], minlength=len(names))
    return tuple(
        ClassRecall(name, int(counts[k]), int(first[k]) / int(counts[k]), int(found[k]) / int(counts[k]))
        for k, name in enumerate(names)
        if counts[k]
    )


def _compare_numbers(answers: Mapping[str, Array], originals: Mapping[str, Array], limit: float) -> NumericParity:
    outputs = tuple(_output_difference(name, answers[name], original) for name, original in originals.items())
    worst = max(outputs, key=lambda output: float("inf") if output.relative_error is None else output.relative_error)
    rows = len(next(iter(originals.values())))
    if worst.relative_error is None:
        verdict, reason = "fail", f"{worst.name}: {worst.not_finite} answers are NaN or infinite"
        if not worst.not_finite:
            reason = f"{worst.name}: the original never changes, and this differs by up to {worst.largest:.3g}"
    else:
        verdict = "pass" if worst.relative_error <= limit else "fail"
        reason = f"{worst.name}: relative error {worst.relative_error:.3g}, allowed {limit:g}"
    return NumericParity("numbers", verdict, reason, rows, limit, outputs)


def _output_difference(name: str, answers: Array, originals: Array) -> OutputDifference:
    got, wanted = (array.reshape(len(array), -1).astype(np.float64) for array in (answers, originals))
    not_finite = int((~np.isfinite(got)).any(axis=1).sum())
    if not_finite:
        return OutputDifference(name, None, None, None, None, not_finite)
    mean = wanted.mean(axis=0) if len(wanted) > 1 else np.zeros(wanted.shape[1])
    error, signal, answer = got - wanted, wanted - mean, got - mean
    noise_power, power = float((error**2).mean()), float((signal**2).mean())
    relative = (noise_power / power) ** 0.5 if power else (None if noise_power else 0.0)
    length = float(np.linalg.norm(signal) * np.linalg.norm(answer))
    return OutputDifference(
        name,
        relative_error=relative,
        snr_db=-20 * float(np.log10(relative)) if relative else None,
        cosine=float((signal * answer).sum()) / length if length else None,
        largest=float(np.abs(error).max()),
        not_finite=0,
    )

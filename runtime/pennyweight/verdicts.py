"""The figures and the verdict that are made of what was counted; see ``parity`` for how it is counted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from .manifest import Manifest, OutputSpec
from .statistics import drop_interval, mcnemar_exact, samples_to_decide, wilson_interval
from .tallies import ClassTally, Flip, NumberTally, exact_sum, median_margin

Interval = tuple[float, float]

MAX_DROP = 0.005
CONFIDENCE = 0.95
# Of an output that is no classification: the error's RMS over the standard deviation of the original's output.
MAX_RELATIVE_ERROR = 0.05


class Gates(NamedTuple):
    """What decides: of classifiers the drop at a confidence, of other outputs the relative error and the difference."""

    max_drop: float = MAX_DROP
    confidence: float = CONFIDENCE
    max_relative_error: float = MAX_RELATIVE_ERROR
    max_difference: float | None = None


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
    is how many samples in all would decide an inconclusive verdict if they flip at the same rates. The margin of a
    flipped sample is how sure the original was of its answer, its highest probability less its second: small ones are
    what quantisation blurs, large ones are faults. ``flipped`` are those of the largest margin.
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
    flip_margin_median: float | None = None
    flip_margin_largest: float | None = None
    flipped: tuple[Flip, ...] = ()

    def _repr_html_(self) -> str:
        from .notebook import parity_html

        return parity_html(self)


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
    max_difference: float | None = None

    def _repr_html_(self) -> str:
        from .notebook import numeric_parity_html

        return numeric_parity_html(self)


def judge(
    tally: ClassTally | dict[str, NumberTally], manifest: Manifest, labelled: bool, gates: Gates
) -> Parity | NumericParity:
    """Make the figures and the verdict of what was counted."""
    if isinstance(tally, ClassTally):
        return judge_classes(tally, class_names(manifest.outputs[0]), labelled, gates)
    return _judge_numbers(tally, gates)


def class_names(spec: OutputSpec) -> tuple[str, ...]:
    """Give the classes' names in the order of a single-label output."""
    return spec.labels or tuple(str(index) for index in range(2 if spec.shape == (1,) else spec.shape[-1]))


def judge_classes(tally: ClassTally, names: tuple[str, ...], labelled: bool, gates: Gates) -> Parity:
    """Make a classifier's figures and verdict; ``names`` are the classes'."""
    rows, lost, won, confidence = tally.samples, tally.lost, tally.won, gates.confidence
    recalls = tuple(
        ClassRecall(name, counted, original / counted, found / counted)
        for name, (counted, original, found) in zip(names, tally.classes)
        if counted
    )
    parity = Parity(
        kind="classification",
        verdict="",
        reason="",
        samples=rows,
        reference="labels" if labelled else "original",
        max_drop=gates.max_drop,
        confidence=confidence,
        accuracy=tally.right / rows if labelled else None,
        accuracy_interval=wilson_interval(tally.right, rows, confidence) if labelled else None,
        original_accuracy=tally.original_right / rows if labelled else None,
        original_interval=wilson_interval(tally.original_right, rows, confidence) if labelled else None,
        agreement=tally.agreeing / rows,
        agreement_interval=wilson_interval(tally.agreeing, rows, confidence),
        flips_lost=lost,
        flips_won=won,
        flips_other=rows - tally.agreeing - lost - won,
        mcnemar_p=mcnemar_exact(lost, won) if labelled else None,
        drop=(lost - won) / rows,
        drop_interval=drop_interval(lost, won, rows, confidence),
        ties=tally.ties,
        not_finite=tally.not_finite,
        largest_difference=tally.largest,
        samples_needed=None,
        classes=recalls if labelled else (),
        flip_margin_median=median_margin(tally),
        flip_margin_largest=tally.largest_margin,
        flipped=tuple(tally.flips),
    )
    return _judged(parity)


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


def _judge_numbers(tally: Mapping[str, NumberTally], gates: Gates) -> NumericParity:
    outputs = tuple(_output_difference(name, one) for name, one in tally.items())
    verdict, reasons = "pass", []
    for output in outputs:
        failed, reason = _numeric_reason(output, gates)
        verdict = "fail" if failed else verdict
        reasons.append((failed, reason))
    worst = [reason for failed, reason in reasons if failed] or [reason for _, reason in reasons]
    rows = sum(next(iter(tally.values())).rows)
    return NumericParity(
        "numbers", verdict, "; ".join(worst), rows, gates.max_relative_error, outputs, gates.max_difference
    )


def _numeric_reason(output: OutputDifference, gates: Gates) -> tuple[bool, str]:
    """Say whether an output fails a gate, and why it does or doesn't."""
    error, limit = output.relative_error, gates.max_relative_error
    if output.not_finite:
        return True, f"{output.name}: {output.not_finite} answers are NaN or infinite"
    if error is None:
        return True, f"{output.name}: the original never changes, and this differs by up to {output.largest:.3g}"
    if error > limit:
        return True, f"{output.name}: relative error {error:.3g}, allowed {limit:g}"
    if gates.max_difference is not None and output.largest is not None and output.largest > gates.max_difference:
        return True, f"{output.name}: differs by up to {output.largest:.3g}, allowed {gates.max_difference:g}"
    return False, f"{output.name}: relative error {error:.3g}, allowed {limit:g}"


def _output_difference(name: str, tally: NumberTally) -> OutputDifference:
    not_finite = sum(tally.not_finite)
    if not_finite:
        return OutputDifference(name, None, None, None, None, not_finite)
    noise, power, answer, product = map(exact_sum, (tally.noise, tally.signal, tally.answer, tally.product))
    relative = math.sqrt(noise / power) if power else (None if noise else 0.0)
    length = math.sqrt(power) * math.sqrt(answer)
    return OutputDifference(
        name,
        relative_error=relative,
        snr_db=-20 * math.log10(relative) if relative else None,
        cosine=product / length if length else None,
        largest=max(tally.largest),
        not_finite=0,
    )

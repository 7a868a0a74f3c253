"""What is counted of paired answers, piece by piece: pieces counted anywhere add up to the same figures.

Counts are whole numbers. What is a sum of floats is kept per piece and added exactly (``math.fsum``), so that neither
the order of the pieces nor the number of processes shows in a figure's last digit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from .errors import InputError

Array = Any  # np.ndarray[Any, Any] can't be subscripted at run time on numpy 1.21

# The flipped samples that are kept one by one: those of which the original was surest.
MOST_FLIPS = 24
# Margins are counted in bins of a thousandth.
MARGIN_BINS = 1000


class Flip(NamedTuple):
    """One sample on which the two models name different classes, by index, with both probabilities.

    ``margin`` is how sure the original was: its highest probability less its second. ``label`` is None without labels.
    """

    sample: int
    label: int | None
    original: int
    original_probability: float
    margin: float
    answer: int
    probability: float | None


class ClassTally(NamedTuple):
    """Counts of a classifier's answers beside the original's. ``classes`` holds (samples, original right, right)."""

    samples: int
    right: int
    original_right: int
    agreeing: int
    lost: int
    won: int
    ties: int
    not_finite: int
    largest: float | None
    classes: list[list[int]]
    margins: list[int]
    largest_margin: float | None
    flips: list[Flip]

    def __add__(self, other: ClassTally) -> ClassTally:  # type: ignore[override]
        """Give the tally of both parts."""
        numbers = {name: getattr(self, name) + getattr(other, name) for name in _COUNTED}
        flips = sorted([*self.flips, *other.flips], key=_surest)[:MOST_FLIPS]
        return ClassTally(
            **numbers,
            largest=_most(self.largest, other.largest),
            classes=(np.array(self.classes) + np.array(other.classes)).tolist(),
            margins=(np.array(self.margins) + np.array(other.margins)).tolist(),
            largest_margin=_most(self.largest_margin, other.largest_margin),
            flips=flips,
        )


_COUNTED = ("samples", "right", "original_right", "agreeing", "lost", "won", "ties", "not_finite")


class NumberTally(NamedTuple):
    """Of one numeric output, a figure per piece: rows, those not finite, the largest difference, sums of products.

    The signal is the original's output less its mean over all samples, the answer is taken off the same mean.
    """

    rows: list[int]
    not_finite: list[int]
    largest: list[float]
    noise: list[float]
    signal: list[float]
    answer: list[float]
    product: list[float]

    def __add__(self, other: NumberTally) -> NumberTally:  # type: ignore[override]
        """Give the tally of both parts."""
        return NumberTally(**{name: [*getattr(self, name), *getattr(other, name)] for name in self._fields})


def tally_answers(answers: Array, originals: Array, labels: Array | None, classes: int, first: int = 0) -> ClassTally:
    """Count a classifier's probabilities (n, classes), or (n, 1) for a binary one, beside the original's.

    ``first`` is the first sample's index in the whole set. Raises InputError for labels that aren't classes.
    """
    finite = np.isfinite(answers).all(axis=-1)
    predicted, original = np.where(finite, chosen_classes(answers), -1), chosen_classes(originals)
    truth = original if labels is None else _checked_labels(labels, len(answers), classes)
    # bincount refuses int64 on a 32-bit system.
    truth = truth.astype(np.intp)
    right, original_right = predicted == truth, original == truth
    flipped = np.flatnonzero(predicted != original)
    margins = _margins(originals[flipped])
    counts = [np.bincount(part, minlength=classes) for part in (truth, truth[original_right], truth[right])]
    kept = flipped[np.lexsort((flipped, -margins))][:MOST_FLIPS]
    top, answered = _probabilities(originals[kept], original[kept]), _probabilities(answers[kept], predicted[kept])
    flips = [
        Flip(
            first + int(row),
            None if labels is None else int(truth[row]),
            int(original[row]),
            float(top[k]),
            float(_margins(originals[row : row + 1])[0]),
            int(predicted[row]),
            float(answered[k]) if predicted[row] >= 0 else None,
        )
        for k, row in enumerate(kept)
    ]
    return ClassTally(
        samples=len(answers),
        right=int(right.sum()),
        original_right=int(original_right.sum()),
        agreeing=len(answers) - len(flipped),
        lost=int((original_right & ~right).sum()),
        won=int((right & ~original_right).sum()),
        ties=_count_ties(answers[finite]),
        not_finite=int((~finite).sum()),
        largest=_largest(answers[finite], originals[finite]),
        classes=np.stack(counts, axis=1).tolist(),
        margins=np.bincount(
            np.clip((margins * MARGIN_BINS).astype(int), 0, MARGIN_BINS - 1), minlength=MARGIN_BINS
        ).tolist(),
        largest_margin=float(margins.max()) if len(margins) else None,
        flips=flips,
    )


def tally_numbers(
    answers: Mapping[str, Array], originals: Mapping[str, Array], means: Mapping[str, Array]
) -> dict[str, NumberTally]:
    """Count one piece's numeric outputs beside the original's; ``means`` are the original's over all samples, flat."""
    return {name: _tally_output(answers[name], original, means[name]) for name, original in originals.items()}


def chosen_classes(probabilities: Array) -> Array:
    """Give the class index of each row: the highest, a tie takes the lowest index; binary says class 1 from 0.5 on."""
    if probabilities.shape[-1] == 1:
        return (probabilities[:, 0] >= 0.5).astype(np.int64)
    return probabilities.argmax(axis=-1)


def median_margin(tally: ClassTally) -> float | None:
    """Give the median margin of the flipped samples, right to half a thousandth; None where nothing flipped."""
    total = sum(tally.margins)
    if not total:
        return None
    return float((np.searchsorted(np.cumsum(tally.margins), (total + 1) / 2) + 0.5) / MARGIN_BINS)


def _tally_output(answers: Array, originals: Array, mean: Array) -> NumberTally:
    got, wanted = (array.reshape(len(array), -1).astype(np.float64) for array in (answers, originals))
    not_finite = int((~np.isfinite(got)).any(axis=1).sum())
    if not_finite:
        return NumberTally([len(got)], [not_finite], [0.0], [0.0], [0.0], [0.0], [0.0])
    error, signal, answer = got - wanted, wanted - mean, got - mean
    sums = [[float((a * b).sum())] for a, b in ((error, error), (signal, signal), (answer, answer), (signal, answer))]
    return NumberTally([len(got)], [0], [float(np.abs(error).max(initial=0.0))], *sums)


def exact_sum(parts: list[float]) -> float:
    """Add floats without rounding in between, so that their order doesn't matter."""
    return math.fsum(parts)


def _margins(originals: Array) -> Array:
    if originals.shape[-1] == 1:
        return np.abs(2.0 * originals[:, 0].astype(np.float64) - 1)
    ranked = np.partition(originals.astype(np.float64), -2, axis=-1)
    return ranked[:, -1] - ranked[:, -2]


def _probabilities(outputs: Array, classes: Array) -> Array:
    """Give each row's probability of its class."""
    if outputs.shape[-1] == 1:
        return np.where(classes == 1, outputs[:, 0], 1 - outputs[:, 0])
    return outputs[np.arange(len(outputs)), classes]


def _surest(flip: Flip) -> tuple[float, int]:
    return -flip.margin, flip.sample


def _most(*values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return max(known) if known else None


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

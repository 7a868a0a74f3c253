"""The statistics behind every figure: intervals and tests for proportions, paired drops and latency ratios."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, variance
from typing import Callable

Interval = tuple[float, float]

# Beyond this many samples no number is worth naming: the true drop lies on the margin for all one can tell.
MOST_SAMPLES = 10**9


def wilson_interval(successes: float, samples: float, confidence: float = 0.95) -> Interval:
    """Give the score interval of a proportion.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    """
    if samples <= 0 or not 0 <= successes <= samples:
        raise ValueError(f"{successes} of {samples} is no proportion")
    z2 = _z(confidence) ** 2
    centre = (successes + z2 / 2) / (samples + z2)
    spread = math.sqrt(z2 * (successes * (samples - successes) / samples + z2 / 4)) / (samples + z2)
    low = 0.0 if successes == 0 else max(0.0, centre - spread)
    high = 1.0 if successes == samples else min(1.0, centre + spread)
    return low, high


def mcnemar_exact(lost: int, won: int) -> float:
    """Give the two-sided p-value that flips in both directions are equally likely: binomial(lost + won, 1/2).

    Q. McNemar, "Note on the sampling error of the difference between correlated proportions", Psychometrika 12 (1947).
    """
    flips, fewer = lost + won, min(lost, won)
    if fewer < 0:
        raise ValueError(f"{lost} and {won} flips can't be counted")
    if lost == won:
        return 1.0
    log_term = math.lgamma(flips + 1) - math.lgamma(fewer + 1) - math.lgamma(flips - fewer + 1) - flips * math.log(2)
    tail = ratio = 1.0
    for k in range(fewer, 0, -1):
        ratio *= k / (flips - k + 1)
        tail += ratio
        if ratio < 1e-17 * tail:
            break
    return min(1.0, 2.0 * math.exp(log_term) * tail)


def drop_interval(lost: float, won: float, samples: float, confidence: float = 0.95) -> Interval:
    """Give the interval of a paired drop in accuracy, (lost − won) / samples, as fractions.

    The score interval of T. Tango, "Equivalence test and confidence interval for the difference in proportions for
    the paired-sample design", Statistics in Medicine 17 (1998), with a continuity correction of half a flip: the
    number of flips is whole, and without the correction the interval covers less than 94 % where flips are few.

    Args:
        lost: samples that only the original answers right.
        won: samples that only the other model answers right.
        samples: all samples, flipped or not.
        confidence: the two-sided level; each end alone is wrong at most half of the rest of the time.
    """
    if samples <= 0 or lost < 0 or won < 0 or lost + won > samples * (1 + 1e-12):
        raise ValueError(f"{lost} and {won} flips of {samples} samples can't be")
    return -_upper_drop(won, lost, samples, confidence), _upper_drop(lost, won, samples, confidence)


def samples_to_decide(lost: int, won: int, samples: int, margin: float, confidence: float = 0.95) -> int | None:
    """Give how many samples, flipping at the rates seen, put the whole drop interval on one side of ``margin``.

    None where no number would: the drop seen is the margin itself.
    """

    def decided(count: float) -> bool:
        scale = count / samples
        low, high = drop_interval(lost * scale, won * scale, count, confidence)
        return high <= margin or low > margin

    high = samples
    while not decided(high):
        high *= 2
        if high > MOST_SAMPLES:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decided(middle) else (middle, high)
    return max(high, 1)


def order_interval(ordered: Sequence[float], fraction: float, confidence: float = 0.95) -> Interval | None:
    """Give the interval of a quantile from the sorted values alone, whatever their distribution.

    H. A. David and H. N. Nagaraja, Order Statistics (2003), 7.1: the number of values below the true quantile is
    binomial. None where there are too few values for both ends.
    """
    rest = (1 - confidence) / 2
    size, below, low, high = len(ordered), 0.0, None, None
    for k in range(size):
        at_most = below + math.exp(
            math.lgamma(size + 1)
            - math.lgamma(k + 1)
            - math.lgamma(size - k + 1)
            + k * math.log(fraction)
            + (size - k) * math.log1p(-fraction)
        )
        if at_most <= rest:
            low = k
        if high is None and 1 - at_most <= rest:
            high = k
        below = at_most
    return None if low is None or high is None else (ordered[low], ordered[high])


def log_mean_interval(rounds: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Give the interval of the typical value of ``rounds`` (one positive figure per round), or None for one round.

    Student's t on the logarithms of the rounds' figures. The rounds, not the calls, are the independent
    observations: calls within one process share its memory layout and the machine's state of that moment.
    """
    if len(rounds) < 2:
        return None
    logs = [math.log(value) for value in rounds]
    half = student_quantile(len(logs) - 1, confidence) * math.sqrt(variance(logs) / len(logs))
    return math.exp(fmean(logs) - half), math.exp(fmean(logs) + half)


def ratio_interval(slower: Sequence[float], faster: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Give the interval of ``slower`` / ``faster`` from one positive figure per round of each, or None for one round.

    B. L. Welch, "The generalization of 'Student's' problem …", Biometrika 34 (1947), on logarithms; the degrees of
    freedom are rounded down.
    """
    if len(slower) < 2 or len(faster) < 2:
        return None
    logs = [[math.log(value) for value in rounds] for rounds in (slower, faster)]
    parts = [variance(values) / len(values) for values in logs]
    total, difference = sum(parts), fmean(logs[0]) - fmean(logs[1])
    if total == 0:
        return math.exp(difference), math.exp(difference)
    freedom = total**2 / sum(part**2 / (len(values) - 1) for part, values in zip(parts, logs))
    half = student_quantile(max(1, int(freedom + 1e-9)), confidence) * math.sqrt(total)
    return math.exp(difference - half), math.exp(difference + half)


def student_quantile(freedom: int, confidence: float = 0.95) -> float:
    """Give t with P(|T| ≤ t) = ``confidence`` for Student's distribution with a whole number of degrees of freedom."""
    _z(confidence)
    top = 1.0
    while _student_within(top, freedom) < confidence:
        top *= 2
    return _root(lambda t: _student_within(t, freedom) - confidence, 0.0, top)


def _student_within(t: float, freedom: int) -> float:
    """Give P(|T| ≤ t): Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 26.7.3 and 26.7.4."""
    angle = math.atan2(t, math.sqrt(freedom))
    cosine2 = math.cos(angle) ** 2
    odd = freedom % 2
    term = total = 0.0 if freedom == 1 else (math.cos(angle) if odd else 1.0)
    for k in range(3 if odd else 2, freedom - 1, 2):
        term *= cosine2 * (k - 1) / k
        total += term
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total


def _upper_drop(lost: float, won: float, samples: float, confidence: float) -> float:
    z, seen = _z(confidence), (lost - won) / samples

    def score(drop: float) -> float:
        """Tango's statistic for a true drop above the one seen, corrected by half a flip."""
        discordant = 2 * _won_rate(lost, won, samples, drop) + drop * (1 - drop)
        return samples * (drop - seen) - 0.5 - z * math.sqrt(samples * max(discordant, 0.0))

    return 1.0 if score(1.0) <= 0 else _root(score, seen, 1.0)


def _won_rate(lost: float, won: float, samples: float, drop: float) -> float:
    """Give the most likely rate of won flips when the true drop is ``drop`` (Tango 1998, equation 12's q21)."""
    a = 2 * samples
    b = (2 * samples - lost + won) * drop - lost - won
    c = -won * drop * (1 - drop)
    root = math.sqrt(max(b * b - 4 * a * c, 0.0))
    # The second form is the same number without the cancellation that the first has for b > 0.
    rate = (root - b) / (2 * a) if b <= 0 else (-2 * c / (root + b))
    return max(rate, 0.0, -drop)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Give where a function changes from at most 0 at ``low`` to above it at ``high``, by bisection."""
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if function(middle) <= 0 else (low, middle)
    return high


def _z(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence of {confidence} isn't between 0 and 1")
    return NormalDist().inv_cdf((1 + confidence) / 2)

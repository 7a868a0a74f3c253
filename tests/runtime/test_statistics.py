"""The statistics, held to scipy and statsmodels where they are installed, to brute force, and to simulation."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from pennyweight.statistics import (
    drop_interval,
    log_mean_interval,
    mcnemar_exact,
    order_interval,
    ratio_interval,
    samples_to_decide,
    student_quantile,
    wilson_interval,
)


@pytest.mark.parametrize(("successes", "samples"), [(0, 1), (0, 200), (1, 7), (9276, 10_000), (10_000, 10_000)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
def test_wilson_agrees_with_statsmodels(successes: int, samples: int, confidence: float) -> None:
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    wanted = proportion.proportion_confint(successes, samples, alpha=1 - confidence, method="wilson")
    # Both are a handful of float64 operations.
    assert wilson_interval(successes, samples, confidence) == pytest.approx(wanted, abs=1e-12)


def test_wilson_reaches_the_ends_exactly() -> None:
    assert wilson_interval(0, 50)[0] == 0.0
    assert wilson_interval(50, 50)[1] == 1.0


@pytest.mark.parametrize("bad", [(1, 0), (-1, 5), (6, 5)])
def test_what_is_no_proportion_is_refused(bad: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="no proportion"):
        wilson_interval(*bad)


def test_mcnemar_is_the_binomial_sum() -> None:
    for lost, won in itertools.product(range(12), repeat=2):
        flips, fewer = lost + won, min(lost, won)
        exact = min(Fraction(1), 2 * Fraction(sum(math.comb(flips, k) for k in range(fewer + 1)), 2**flips))
        # lgamma and exp lose a few units in the last place.
        assert mcnemar_exact(lost, won) == pytest.approx(float(exact), rel=1e-12)


@pytest.mark.parametrize(("lost", "won"), [(100, 50), (1000, 1100), (0, 900), (500_000, 501_000), (10**6, 10**6 + 1)])
def test_mcnemar_stays_right_for_large_counts(lost: int, won: int) -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    wanted = scipy_stats.binomtest(lost, lost + won).pvalue
    # log-gamma of 2·10⁶ is 3·10⁷, so its rounding alone is 4·10⁻⁹ of the result.
    assert mcnemar_exact(lost, won) == pytest.approx(wanted, rel=1e-7)
    assert mcnemar_exact(won, lost) == mcnemar_exact(lost, won)


def test_mcnemar_tells_a_shift_from_chance() -> None:
    assert mcnemar_exact(10, 10) == 1.0
    assert mcnemar_exact(40, 10) < 0.001


@pytest.mark.parametrize(
    ("lost", "won", "samples"), [(0, 0, 200), (3, 0, 200), (7, 2, 500), (60, 40, 10_000), (2, 9, 50)]
)
def test_the_drop_interval_inverts_tangos_test(lost: int, won: int, samples: int) -> None:
    """At each end the constrained maximum likelihood, found by brute force, gives a corrected statistic of 1.96."""
    optimize = pytest.importorskip("scipy.optimize")
    low, high = drop_interval(lost, won, samples)
    for drop in (low, high):

        def minus_likelihood(rate: float, drop: float = drop) -> float:
            cells = [(lost, rate + drop), (won, rate), (samples - lost - won, 1 - 2 * rate - drop)]
            return -sum(count * math.log(max(cell, 1e-300)) for count, cell in cells if count)

        least = max(0.0, -drop)
        found = optimize.minimize_scalar(
            minus_likelihood, bounds=(least, (1 - drop) / 2), method="bounded", options={"xatol": 1e-14}
        )
        spread = math.sqrt(samples * (2 * found.x + drop * (1 - drop)))
        distance = abs(lost - won - samples * drop) - 0.5
        # The bounded search finds the rate to about 1e-8, which the square root makes 1e-4 where it is nearly 0.
        assert distance / spread == pytest.approx(1.959964, abs=2e-3)


def test_the_drop_interval_mirrors_and_stays_in_range() -> None:
    assert drop_interval(5, 20, 1000) == tuple(-end for end in reversed(drop_interval(20, 5, 1000)))
    assert drop_interval(200, 0, 200)[1] == 1.0
    low, high = drop_interval(0, 0, 10_000)
    assert low == -high < 0


@pytest.mark.parametrize("bad", [(1, 1, 0), (-1, 0, 10), (6, 5, 10)])
def test_impossible_flips_are_refused(bad: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="can't be"):
        drop_interval(*bad)


def simulated(samples: int, lost_rate: float, won_rate: float, chance: Any, interval: Any) -> tuple[float, float]:
    """Give coverage of the true drop, and how often the upper end lies below it, over 20,000 pairs of models."""
    trials = 20_000
    rates = [lost_rate, won_rate, 1 - lost_rate - won_rate]
    flips, times = np.unique(chance.multinomial(samples, rates, trials)[:, :2], axis=0, return_counts=True)
    drop, covered, below = lost_rate - won_rate, 0, 0
    for (lost, won), count in zip(flips.tolist(), times.tolist()):
        low, high = interval(lost, won, samples)
        covered += count * (low <= drop <= high)
        below += count * (high < drop)
    return covered / trials, below / trials


# From few flips to many, in one direction and in both, and from samples too few to decide to more than enough.
CELLS = [
    (samples, flips, share)
    for samples in (200, 500, 1000, 2000, 5000, 10_000)
    for flips in (0.002, 0.005, 0.01, 0.02, 0.05)
    for share in (0.5, 0.75, 1.0)
]


@pytest.mark.parametrize(("samples", "flips", "share"), CELLS)
def test_the_drop_interval_covers_the_truth_and_the_gate_holds(samples: int, flips: float, share: float) -> None:
    chance = np.random.default_rng([samples, int(1000 * flips), int(100 * share)])
    covered, below = simulated(samples, flips * share, flips * (1 - share), chance, drop_interval)
    assert covered >= 0.94
    # The gate passes where the upper end is within the margin. A true drop just above the margin is the one that
    # passes most easily, and there that is an upper end below the truth: at most half of 5 %.
    assert below <= 0.025


def test_the_simulation_would_catch_a_bad_interval() -> None:
    """Wald's interval, which textbooks give, must fail the same check."""

    def wald(lost: int, won: int, samples: int) -> tuple[float, float]:
        drop = (lost - won) / samples
        half = 1.96 * math.sqrt(max(lost + won - (lost - won) ** 2 / samples, 0)) / samples
        return drop - half, drop + half

    covered, _ = simulated(200, 0.0075, 0.0025, np.random.default_rng(0), wald)
    assert covered < 0.94


def test_the_number_of_samples_decides() -> None:
    margin = 0.005
    needed = samples_to_decide(1, 1, 200, margin)
    assert needed is not None
    assert needed > 200

    def upper(count: int) -> float:
        return drop_interval(count / 200, count / 200, count)[1]

    assert upper(needed) <= margin < upper(needed - 1)


def test_a_drop_beyond_the_margin_needs_samples_to_fail() -> None:
    needed = samples_to_decide(4, 0, 200, 0.005)
    assert needed is not None
    assert drop_interval(4 * needed / 200, 0, needed)[0] > 0.005


def test_no_number_of_samples_decides_a_drop_on_the_margin() -> None:
    assert samples_to_decide(1, 0, 200, 0.005) is None


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 8, 30, 121])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_students_quantile_agrees_with_scipy(freedom: int, confidence: float) -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    assert student_quantile(freedom, confidence) == pytest.approx(
        scipy_stats.t.ppf((1 + confidence) / 2, freedom), rel=1e-9
    )


def test_the_ratio_interval_is_welchs() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    slower, faster = [2.1, 2.3, 2.0, 2.2, 2.15], [1.0, 1.1, 0.95, 1.05, 1.02]
    interval = ratio_interval(slower, faster)
    result = scipy_stats.ttest_ind(np.log(slower), np.log(faster), equal_var=False).confidence_interval(0.95)
    assert interval is not None
    # Degrees of freedom are rounded down here, which widens the interval a little and never narrows it.
    assert interval[0] <= math.exp(result.low) < math.exp(result.high) <= interval[1]
    assert interval == pytest.approx((math.exp(result.low), math.exp(result.high)), rel=0.01)


def test_equal_things_are_called_different_as_seldom_as_promised() -> None:
    chance = np.random.default_rng(5)
    claims = 0
    for _ in range(2000):
        rounds = np.exp(chance.normal(0, 0.03, (2, 5)))
        interval = ratio_interval(rounds[0].tolist(), rounds[1].tolist())
        assert interval is not None
        claims += not interval[0] <= 1 <= interval[1]
    # 5 % of 2,000 is 100; three standard errors above it are 129.
    assert claims <= 129


def test_a_slowdown_of_a_tenth_is_found() -> None:
    chance = np.random.default_rng(6)
    rounds = np.exp(chance.normal(0, 0.01, (2, 5)))
    interval = ratio_interval((1.1 * rounds[0]).tolist(), rounds[1].tolist())
    assert interval is not None
    assert interval[0] > 1


def test_one_round_has_no_interval() -> None:
    assert log_mean_interval([3.0]) is None
    assert ratio_interval([3.0], [1.0, 2.0]) is None


def test_the_interval_of_rounds_holds_their_typical_value() -> None:
    interval = log_mean_interval([1.0, 2.0, 4.0])
    assert interval is not None
    assert interval[0] < 2.0 < interval[1]
    assert log_mean_interval([2.0, 2.0]) == pytest.approx((2.0, 2.0))


@pytest.mark.parametrize(("size", "fraction"), [(100, 0.5), (1000, 0.9), (2000, 0.99), (5000, 0.999)])
def test_the_interval_of_order_is_the_binomials(size: int, fraction: float) -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    interval = order_interval([float(k) for k in range(1, size + 1)], fraction)
    assert interval is not None
    low, high = interval
    # The true quantile lies below the k-th value with the chance that fewer than k values lie below it.
    assert scipy_stats.binom.cdf(low - 1, size, fraction) <= 0.025 < scipy_stats.binom.cdf(low, size, fraction)
    assert scipy_stats.binom.sf(high - 1, size, fraction) <= 0.025 < scipy_stats.binom.sf(high - 2, size, fraction)


def test_the_interval_of_order_covers_the_quantile() -> None:
    chance = np.random.default_rng(9)
    covered = 0
    for _ in range(2000):
        interval = order_interval(np.sort(chance.exponential(1, 500)).tolist(), 0.9)
        assert interval is not None
        covered += interval[0] <= math.log(10) <= interval[1]
    # 95 % of 2,000 are 1,900; three standard errors below are 1,871.
    assert covered >= 1871


def test_too_few_values_have_no_interval_of_order() -> None:
    assert order_interval([1.0, 2.0, 3.0], 0.99) is None
    assert order_interval([], 0.5) is None

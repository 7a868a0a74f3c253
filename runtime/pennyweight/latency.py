"""Latency of a call: the clockwork that warms up, times each call singly, and keeps the evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter_ns, sleep
from typing import Any, NamedTuple

import numpy as np

Array = Any  # np.ndarray[Any, Any] can't be subscripted at run time on numpy 1.21
Call = Callable[[Any], Any]

QUANTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}
# So few calls can't show what happens once in a hundred (or a thousand): the quantile stays empty.
LEAST_FOR = {"p50": 1, "p90": 10, "p99": 100, "p99.9": 1000}
# Fewer calls than a p99.9 needs are kept whole, so that all rounds' together can give it.
KEPT_SAMPLES = 400
KEPT_WHOLE = 1000
# A block of the warm-up lasts at least this long, and its median must agree with its two predecessors' this closely.
BLOCK_NS = 5_000_000
BLOCK_CALLS = 5
SETTLED = 1.03
WARM_UP_LIMIT_NS = 1_000_000_000
# Slow models: the least number of calls is tried for until the time is this many times what was asked for.
PATIENCE = 20
# Calls at a rate that only wake the caches and the engine's threads, and aren't counted.
FIRST_PACED = 3
# Bins of a histogram per octave: its quantiles are right to 0.3 %.
BINS = 256


class Timing(NamedTuple):
    """One round of single calls in one process, all times in nanoseconds with the timer's own cost taken off.

    ``quantiles`` are of all ``calls``; None where they are too few for it. ``samples`` are every ``every``-th call, in
    order of time. ``settled`` says whether the warm-up of ``warm_up_calls`` ended with a steady median.
    ``resident_bytes`` is the process's memory after it (None where the system doesn't tell), ``late`` how many calls
    at a rate ended after the next was due.
    """

    calls: int
    quantiles: dict[str, float | None]
    fastest: float
    slowest: float
    samples: list[float]
    every: int
    timer_ns: float
    warm_up_calls: int
    settled: bool
    resident_bytes: int | None = None
    late: int = 0


def time_call(call: Call, inputs: Sequence[Any], seconds: float, least: int = BLOCK_CALLS) -> Timing:
    """Warm ``call`` up, then time it singly on ``inputs`` in turn for about ``seconds``.

    At least ``least`` calls are timed, as long as that doesn't take many times ``seconds``.
    """
    warm_up_calls, settled = _warm_up(call, inputs)
    resident = memory_bytes("VmRSS")
    durations = _timed(call, inputs, seconds, least)
    return _timing(durations, warm_up_calls, settled)._replace(resident_bytes=resident)


def time_paced(call: Call, inputs: Sequence[Any], rate: float, calls: int) -> Timing:
    """Time ``calls`` calls at ``rate`` per second, asleep between them as one who waits for a camera's frames."""
    clock, period, late = perf_counter_ns, int(1e9 / rate), 0
    durations: list[int] = []
    due = clock()
    for number in range(calls + FIRST_PACED):
        one = inputs[number % len(inputs)]
        sleep(max(0, due - clock()) / 1e9)
        start = clock()
        call(one)
        end = clock()
        durations.append(end - start)
        due += period
        if end > due:
            late += number >= FIRST_PACED
            due = end  # a camera drops the frames that nobody took
    return _timing(durations[FIRST_PACED:], FIRST_PACED, True)._replace(late=late)


def time_steps(steps: Sequence[Call], inputs: Sequence[Any], seconds: float) -> list[float]:
    """Give the median nanoseconds of each step of an answer, as they follow one another, for about ``seconds``."""
    clock, cost = perf_counter_ns, timer_cost()
    times: list[list[int]] = [[] for _ in steps]
    end = clock() + int(seconds * 1e9)
    while clock() < end or len(times[0]) < BLOCK_CALLS:
        for value in inputs[:BLOCK_CALLS]:
            for step, kept in zip(steps, times):
                start = clock()
                value = step(value)
                kept.append(clock() - start)
    return [max(float(np.median(kept)) - cost, 1.0) for kept in times]


class Histogram:
    """Durations counted by size, so that hours of calls fit in a few kilobytes; quantiles are right to 0.3 %."""

    def __init__(self) -> None:
        self.calls = 0
        self.slowest = 0.0
        self._counts = np.zeros(64 * BINS, np.int64)

    def add(self, durations: Sequence[float] | Array) -> None:
        """Count positive durations in nanoseconds."""
        values = np.maximum(np.asarray(durations, np.float64), 1.0)
        self.calls += len(values)
        self.slowest = max(self.slowest, float(values.max(initial=0.0)))
        self._counts += np.bincount((np.log2(values) * BINS).astype(np.intp), minlength=len(self._counts))

    def quantile(self, name: str) -> float | None:
        """Give "p50", "p90", "p99" or "p99.9", or None for too few calls."""
        if self.calls < LEAST_FOR[name]:
            return None
        wanted = QUANTILES[name] / 100 * (self.calls - 1) + 1
        return float(2 ** ((int(np.searchsorted(np.cumsum(self._counts), wanted)) + 0.5) / BINS))


def time_spans(
    call: Call, inputs: Sequence[Any], seconds: float, span: float, rate: float | None, after: Callable[[], Any]
) -> list[dict[str, Any]]:
    """Call for ``seconds``, without a pause or at ``rate`` per second, and give p50 and p99 per ``span`` of seconds.

    ``after`` is called when a span has ended, outside all timing; what it gives is that span's "state". The first
    span begins cold: there is no warm-up.
    """
    clock, cost = perf_counter_ns, timer_cost()
    begin = clock()
    spans = []
    while clock() < begin + seconds * 1e9:
        start = clock()
        end = min(start + span * 1e9, begin + seconds * 1e9)
        histogram, number = Histogram(), 0
        while clock() < end:
            if rate is not None:
                sleep(max(0.0, start + number * 1e9 / rate - clock()) / 1e9)
                durations = _pass(call, [inputs[number % len(inputs)]], 1)
                number += 1
            else:
                durations = []
                flush = min(end, clock() + BLOCK_NS)
                while clock() < flush:
                    durations += _pass(call, inputs, BLOCK_CALLS)
            histogram.add(np.asarray(durations) - cost)
        times = {name: histogram.quantile(name) for name in ("p50", "p99")}
        spans.append(
            {
                "start_s": round((start - begin) / 1e9, 3),
                "seconds": round((clock() - start) / 1e9, 3),
                "calls": histogram.calls,
                "quantiles": times,
                "slowest": histogram.slowest,
                "state": after(),
            }
        )
    return spans


def quantiles(durations: Array) -> dict[str, float | None]:
    """Give p50, p90, p99 and p99.9 of the durations; None for those that so few calls can't show."""
    return {
        name: float(np.percentile(durations, percent)) if len(durations) >= LEAST_FOR[name] else None
        for name, percent in QUANTILES.items()
    }


def timer_cost(readings: int = 2000) -> float:
    """Give the median of what two readings of the clock with nothing between them differ by, in nanoseconds."""
    clock = perf_counter_ns
    differences = []
    for _ in range(readings):
        start = clock()
        differences.append(clock() - start)
    return float(np.median(differences))


def _warm_up(call: Call, inputs: Sequence[Any]) -> tuple[int, bool]:
    """Call until three blocks in a row have the same median; give the number of calls and whether that was reached."""
    clock = perf_counter_ns
    medians: list[float] = []
    calls, limit = 0, clock() + WARM_UP_LIMIT_NS
    while clock() < limit:
        block: list[int] = []
        end = clock() + BLOCK_NS
        while clock() < end or len(block) < BLOCK_CALLS:
            block += _pass(call, inputs, BLOCK_CALLS)
        calls += len(block)
        medians.append(float(np.median(block)))
        last = medians[-3:]
        if len(last) == 3 and max(last) <= SETTLED * min(last):
            return calls, True
    return calls, False


def _timed(call: Call, inputs: Sequence[Any], seconds: float, least: int) -> list[int]:
    clock = perf_counter_ns
    start = clock()
    enough, limit = start + int(seconds * 1e9), start + int(PATIENCE * seconds * 1e9)
    durations: list[int] = []
    while clock() < enough or (len(durations) < least and clock() < limit):
        durations += _pass(call, inputs, BLOCK_CALLS if len(durations) < least else len(inputs))
    return durations


def _pass(call: Call, inputs: Sequence[Any], most: int) -> list[int]:
    """Time ``call`` on up to ``most`` inputs, each call singly."""
    clock = perf_counter_ns
    durations: list[int] = []
    append = durations.append
    for one in inputs[:most]:
        start = clock()
        call(one)
        append(clock() - start)
    return durations


def _timing(raw: Sequence[int], warm_up_calls: int, settled: bool) -> Timing:
    cost = timer_cost()
    # What is quicker than the timer can tell is given as one tick, never as nothing.
    durations = np.maximum(np.asarray(raw, np.float64) - cost, 1.0)
    every = 1 if len(durations) < KEPT_WHOLE else -(-len(durations) // KEPT_SAMPLES)
    return Timing(
        calls=len(durations),
        quantiles=quantiles(durations),
        fastest=float(durations.min()),
        slowest=float(durations.max()),
        samples=durations[::every].round(1).tolist(),
        every=every,
        timer_ns=cost,
        warm_up_calls=warm_up_calls,
        settled=settled,
    )


def memory_bytes(field: str) -> int | None:
    """Give this process's resident size, "VmRSS", or the largest it had, "VmHWM"; None where Linux doesn't tell it."""
    try:
        status = Path("/proc/self/status").read_bytes()
        return int(status.partition(field.encode() + b":")[2].split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        return None


def peak_bytes() -> int | None:
    """Give the largest resident size that this process had; None where Linux doesn't tell it."""
    return memory_bytes("VmHWM")

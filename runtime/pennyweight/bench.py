"""A bench: every artifact × engine timed in fresh worker processes, in rounds of random order, with all the evidence.

The result is one JSON object; every figure, table and claim is made from it by the functions below.
"""

from __future__ import annotations

import datetime
import platform
import random
import sys
from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter_ns
from typing import Any, NamedTuple

from .bundle import Bundle
from .engines import ENGINES, is_installed
from .errors import PennyweightError
from .isolation import run_child, run_isolated
from .latency import COLD_START, LEAST_FOR, pack_sample, quantiles
from .machine import activity, machine_facts, machine_state, taints
from .statistics import log_mean_interval, ratio_interval

FORMAT = "pennyweight-bench"
VERSION = 1
JsonObject = dict[str, Any]
Progress = Callable[[str], None]

NO_DIFFERENCE = "no measurable difference"
# Where an engine's wheels end; what isn't said here may just not be installed.
NO_WHEEL: dict[str, tuple[Callable[[], bool], str]] = {
    "tflite-runtime": (lambda: sys.version_info >= (3, 12) or sys.platform != "linux", "CPython up to 3.11 on Linux"),
    "ai-edge-litert": (lambda: platform.machine() == "armv7l", "64-bit processors"),
    "onnxruntime": (lambda: platform.machine() == "armv7l", "64-bit processors"),
}


# All rounds together should hold as many calls as a p99 needs.
CALLS_WANTED = LEAST_FOR["p99"]


class Plan(NamedTuple):
    """How much is measured: rounds, seconds of timed calls in each, cold starts, the order's seed, a child's limit."""

    rounds: int = 5
    seconds: float = 0.1
    cold_starts: int = 3
    seed: int = 1
    timeout: float = 60.0

    @property
    def least_calls(self) -> int:
        """The calls that a round should have at least."""
        return -(-CALLS_WANTED // self.rounds)


DEFAULT = Plan()
QUICK = Plan(rounds=3, seconds=0.05, cold_starts=1)


def measure_bench(
    bundle: Bundle,
    pairs: Sequence[tuple[str, str]],
    plan: Plan = DEFAULT,
    threads: Sequence[int] = (1,),
    progress: Progress = print,
) -> JsonObject:
    """Measure pairs of artifact and engine.

    Args:
        bundle: its golden inputs are what is answered.
        pairs: artifact and engine; an engine that isn't installed gives a row that says so.
        plan: how much is measured.
        threads: the engine's, for one inference; each number gives rows of its own.
        progress: called with a line of text before each child is started.

    Returns:
        The result as JSON: "rows" with each round's ``Timing``, and the machine's facts and states. A worker that
        crashes, hangs or can't load is a row with the status "failed"; the others finish.
    """
    rows = [_new_row(artifact, engine, number) for artifact, engine in pairs for number in threads]
    facts, states, start = machine_facts(), [machine_state()], activity()
    order = random.Random(plan.seed)
    golden = bundle.golden()
    sample = pack_sample(golden.inputs, bundle.manifest, 0)
    for number in range(max(plan.rounds, plan.cold_starts)):
        for row in order.sample(rows, len(rows)):
            if row["status"] == "ok":
                progress(f"round {number + 1} of {plan.rounds}: {row['artifact']} on {row['engine']}")
                _one_round(row, bundle, plan, number, sample)
        states.append(machine_state())
    return {
        "format": FORMAT,
        "version": VERSION,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "bundle": bundle.manifest.name,
        "plan": plan._asdict(),
        "machine": facts,
        "states": states,
        "taints": taints(facts, states, start, activity()),
        "rows": rows,
    }


def absence(engine: str) -> str:
    """Give why an engine isn't there: no wheel for this Python or processor, or just not installed."""
    impossible, wheels = NO_WHEEL[engine]
    if impossible():
        return f"no wheel for Python {platform.python_version()} on {platform.machine()} (wheels: {wheels})"
    return f"not installed ({ENGINES[engine].install})"


def quantile(row: JsonObject, name: str) -> float | None:
    """Give a row's "p50", "p90", "p99" or "p99.9" in nanoseconds: the median of its rounds'.

    Where a round has too few calls for it, that of all rounds' calls together; None where these are too few as well.
    """
    values = [one["quantiles"][name] for one in row["rounds"]]
    if not values:
        return None
    if None not in values:
        return float(median(values))
    samples = [sample for one in row["rounds"] for sample in one["samples"]]
    whole = all(one["every"] == 1 for one in row["rounds"])
    pooled: float | None = quantiles(samples)[name] if whole else None
    return pooled


def median_interval(row: JsonObject) -> tuple[float, float] | None:
    """Give the 95 % interval of a row's median latency, in nanoseconds, or None for fewer than two rounds."""
    return log_mean_interval([one["quantiles"]["p50"] for one in row["rounds"]])


def speed_up(baseline: JsonObject, row: JsonObject) -> tuple[float, tuple[float, float] | None] | None:
    """Give how many times as fast as ``baseline`` a row is, with its 95 % interval; None where either has no figure."""
    medians = [[one["quantiles"]["p50"] for one in rows["rounds"]] for rows in (baseline, row)]
    if not all(medians):
        return None
    return median(medians[0]) / median(medians[1]), ratio_interval(medians[0], medians[1])


def claim(ratio: tuple[float, tuple[float, float] | None] | None) -> str:
    """Say a ratio with its interval, or that there is no measurable difference; empty where there is no figure."""
    if ratio is None:
        return ""
    value, interval = ratio
    if interval is None:
        return f"×{_digits(value)} (one round: no interval)"
    low, high = interval
    if low <= 1 <= high:
        return NO_DIFFERENCE
    return f"×{_digits(value)} ({_digits(low)}–{_digits(high)})"


def microseconds(nanoseconds: float | None) -> str:
    """Write a time in µs with three significant digits; empty for None."""
    return "" if nanoseconds is None else _digits(nanoseconds / 1000)


def _digits(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def _new_row(artifact: str, engine: str, threads: int) -> JsonObject:
    row: JsonObject = {"artifact": artifact, "engine": engine, "threads": threads, "status": "ok", "reason": ""}
    row.update(engine_version=None, rounds=[], cold_starts=[])
    if not is_installed(engine):
        row.update(status="absent", reason=absence(engine))
    return row


def _one_round(row: JsonObject, bundle: Bundle, plan: Plan, number: int, sample: bytes) -> None:
    """Add a round's figures to the row, or fail it; this process sleeps while a child works."""
    words = [str(bundle.path), row["artifact"], row["engine"], str(row["threads"])]
    try:
        if number < plan.rounds:
            arguments = dict(zip(("bundle", "artifact", "engine"), words), threads=row["threads"])
            arguments.update(seconds=plan.seconds, least=plan.least_calls)
            timing = run_isolated("pennyweight.latency:latency_task", arguments, plan.timeout)
            row["engine_version"] = timing.pop("engine_version")
            row["rounds"].append(timing)
        if number < plan.cold_starts:
            started = perf_counter_ns()
            times = run_child([sys.executable, "-c", COLD_START, *words], sample, plan.timeout)
            stamps = {name: times[name] - started for name in ("imported_ns", "loaded_ns", "answered_ns")}
            row["cold_starts"].append({**stamps, "peak_bytes": times["peak_bytes"]})
    except PennyweightError as error:
        row.update(status="failed", reason=str(error), rounds=[], cold_starts=[])

"""A bench: every artifact × engine timed in fresh worker processes, in rounds of random order, with all the evidence.

The result is one JSON object; every figure, table and claim is made from it by the functions below.
"""

from __future__ import annotations

import datetime
import random
import sys
from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter_ns
from typing import Any, NamedTuple

from .bundle import Bundle
from .engines import absence, is_installed
from .errors import PennyweightError
from .isolation import run_child, run_isolated
from .latency import LEAST_FOR, QUANTILES, quantiles
from .machine import activity, busy_processes, machine_facts, machine_state, taints, temperatures
from .notebook import BenchResult
from .statistics import log_mean_interval, order_interval, ratio_interval
from .worker import COLD_START, STEPS, pack_sample

FORMAT = "pennyweight-bench"
VERSION = 1
JsonObject = dict[str, Any]
Progress = Callable[[str], None]

NO_DIFFERENCE = "no measurable difference"
# What a cold start is made of, each with the stamp that ends it.
COLD_PARTS = {
    "interpreter": "interpreter_ns",
    "numpy": "numpy_ns",
    "runtime": "runtime_ns",
    "engine": "imported_ns",
    "load": "loaded_ns",
    "first run": "answered_ns",
}
# All rounds together should hold as many calls as a p99 needs.
CALLS_WANTED = LEAST_FOR["p99"]


class Plan(NamedTuple):
    """How much is measured: rounds, seconds of timed calls in each, cold starts, the order's seed, a child's limits.

    ``batches`` are the sizes whose throughput is measured; ``rate`` adds calls at so many per second, ``sustain`` a
    run of so many seconds after the rounds; ``memory_mb`` is the address space that a worker may have.
    """

    rounds: int = 5
    seconds: float = 0.1
    cold_starts: int = 3
    seed: int = 1
    timeout: float = 60.0
    batches: tuple[int, ...] = (1, 8, 64, 512)
    rate: float | None = None
    sustain: float = 0.0
    memory_mb: int | None = None

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
        The result as JSON: "rows" with each round's ``Timing`` (and the rest of ``worker.latency_task``), cold starts
        and, if asked for, the "sustained" spans; the machine's facts, and its states before, after each child, and at
        the end. A worker that crashes, hangs, runs out of memory or can't load is a row with the status "failed"; the
        others finish.
    """
    rows = [_new_row(artifact, engine, number) for artifact, engine in pairs for number in threads]
    facts, states, readings = machine_facts(), [machine_state()], [activity()]
    order = random.Random(plan.seed)
    golden = bundle.golden()
    sample = pack_sample(golden.inputs, bundle.manifest, 0)
    for number in range(max(plan.rounds, plan.cold_starts)):
        for row in order.sample(rows, len(rows)):
            if row["status"] == "ok":
                progress(f"round {number + 1} of {plan.rounds}: {row['artifact']} on {row['engine']}")
                _one_round(row, bundle, plan, number, sample)
                states.append(machine_state())
                readings.append(activity())
    for row in rows:
        if plan.sustain and row["status"] == "ok":
            progress(f"{row['artifact']} on {row['engine']} for {plan.sustain:g} s")
            _sustain(row, bundle, plan)
            states += [span["state"] for span in row["sustained"]]
            readings.append(activity())
    result = {
        "format": FORMAT,
        "version": VERSION,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "bundle": bundle.manifest.name,
        "plan": plan._asdict(),
        "machine": facts,
        "states": states,
        "temperature": temperatures(states),
        "busy": busy_processes(readings),
        "taints": taints(facts, states, readings),
        "rows": rows,
    }
    return BenchResult(result)


def quantile(row: JsonObject, name: str) -> float | None:
    """Give a row's "p50", "p90", "p99" or "p99.9" in nanoseconds: the median of its rounds'.

    Where a round has too few calls for it, that of all rounds' calls together; None where these are too few as well.
    """
    values = [one["quantiles"][name] for one in row["rounds"]]
    if values and None not in values:
        return float(median(values))
    pooled: float | None = quantiles(_pooled(row))[name]
    return pooled


def quantile_interval(row: JsonObject, name: str) -> tuple[float, float] | None:
    """Give the 95 % interval of a row's quantile in nanoseconds; None where there are too few rounds or calls for it.

    It is of the rounds' figures, so it holds what differs from process to process; where a quantile needs all rounds'
    calls together it is the order statistics' interval of these, which doesn't.
    """
    values = [one["quantiles"][name] for one in row["rounds"]]
    if values and None not in values:
        return log_mean_interval(values)
    return order_interval(sorted(_pooled(row)), QUANTILES[name] / 100)


def median_interval(row: JsonObject) -> tuple[float, float] | None:
    """Give the 95 % interval of a row's median latency, in nanoseconds, or None for fewer than two rounds."""
    return quantile_interval(row, "p50")


def paced(row: JsonObject) -> JsonObject | None:
    """Give the row with the rounds of its calls at a rate in the rounds' place, or None where there are none."""
    rounds = [one["paced"] for one in row["rounds"] if one.get("paced")]
    return {**row, "rounds": rounds} if rounds else None


def step_medians(row: JsonObject) -> dict[str, float]:
    """Give the nanoseconds of "prepare", "run" and "finish", each the median of its rounds'; empty without figures."""
    steps = [one["steps"] for one in row["rounds"] if one.get("steps")]
    return {name: float(median(one[name] for one in steps)) for name in STEPS} if steps else {}


def throughput(row: JsonObject) -> dict[int, tuple[float, tuple[float, float] | None]]:
    """Give images per second by size of batch: the median of the rounds', and its 95 % interval; or nothing."""
    rates: dict[int, list[float]] = {}
    for one in row["rounds"]:
        for batch in one.get("batches") or ():
            if batch["images_per_second"]:
                rates.setdefault(batch["size"], []).append(batch["images_per_second"])
    return {size: (float(median(values)), log_mean_interval(values)) for size, values in rates.items()}


def cold_parts(row: JsonObject) -> dict[str, float]:
    """Give the nanoseconds of each part of a cold start and, last, of the "total"; medians over the cold starts."""
    starts = row["cold_starts"]
    if not starts:
        return {}
    parts: dict[str, list[float]] = {}
    for one in starts:
        before = 0
        for name, stamp in COLD_PARTS.items():
            if stamp in one:
                parts.setdefault(name, []).append(one[stamp] - before)
                before = one[stamp]
        parts.setdefault("total", []).append(one["answered_ns"])
    return {name: float(median(values)) for name, values in parts.items()}


def memory(row: JsonObject) -> dict[str, float]:
    """Give the bytes of a worker that answers single images: "steady" after its warm-up, "peak" up to its end."""
    found = {
        "steady": [one.get("resident_bytes") for one in row["rounds"]],
        "peak": [one.get("peak_bytes") for one in [*row["rounds"], *row["cold_starts"]]],
    }
    known = {name: [value for value in values if value] for name, values in found.items()}
    return {name: float(max(values)) for name, values in known.items() if values}


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
        return f"×{digits(value)} (one round: no interval)"
    low, high = interval
    if low <= 1 <= high:
        return NO_DIFFERENCE
    return f"×{digits(value)} ({digits(low)}–{digits(high)})"


def microseconds(nanoseconds: float | None) -> str:
    """Write a time in µs with three significant digits; empty for None."""
    return "" if nanoseconds is None else digits(nanoseconds / 1000)


def _pooled(row: JsonObject) -> list[float]:
    """Give all rounds' calls, or nothing where a round kept only a part of them."""
    whole = all(one["every"] == 1 for one in row["rounds"])
    return [sample for one in row["rounds"] for sample in one["samples"]] if whole else []


def digits(value: float) -> str:
    """Write a number with three significant digits, and whole from a hundred on."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def _new_row(artifact: str, engine: str, threads: int) -> JsonObject:
    row: JsonObject = {"artifact": artifact, "engine": engine, "threads": threads, "status": "ok", "reason": ""}
    row.update(engine_version=None, rounds=[], cold_starts=[], sustained=[])
    if not is_installed(engine):
        row.update(status="absent", reason=absence(engine))
    return row


def _one_round(row: JsonObject, bundle: Bundle, plan: Plan, number: int, sample: bytes) -> None:
    """Add a round's figures to the row, or fail it; this process sleeps while a child works."""
    words = [str(bundle.path), row["artifact"], row["engine"], str(row["threads"])]
    try:
        if number < plan.rounds:
            arguments = {**_arguments(row, bundle, plan), "least": plan.least_calls, "batches": plan.batches}
            arguments["seconds"] = plan.seconds
            timing = run_isolated("pennyweight.worker:latency_task", arguments, plan.timeout, memory_mb=plan.memory_mb)
            row["engine_version"] = timing.pop("engine_version")
            row["rounds"].append(timing)
        if number < plan.cold_starts:
            started = perf_counter_ns()
            command = [sys.executable, "-c", COLD_START, *words]
            times = run_child(command, sample, plan.timeout, memory_mb=plan.memory_mb)
            stamps = {name: times[name] - started for name in COLD_PARTS.values()}
            row["cold_starts"].append({**stamps, "peak_bytes": times["peak_bytes"]})
    except PennyweightError as error:
        _fail(row, error)


def _sustain(row: JsonObject, bundle: Bundle, plan: Plan) -> None:
    arguments = {**_arguments(row, bundle, plan), "seconds": plan.sustain}
    limit = plan.timeout + plan.sustain
    try:
        answer = run_isolated("pennyweight.worker:sustained_task", arguments, limit, memory_mb=plan.memory_mb)
    except PennyweightError as error:
        _fail(row, error)
    else:
        row["sustained"] = answer["spans"]


def _arguments(row: JsonObject, bundle: Bundle, plan: Plan) -> JsonObject:
    names = {name: row[name] for name in ("artifact", "engine", "threads")}
    return {"bundle": str(bundle.path), **names, "rate": plan.rate}


def _fail(row: JsonObject, error: PennyweightError) -> None:
    row.update(status="failed", reason=str(error), rounds=[], cold_starts=[], sustained=[])

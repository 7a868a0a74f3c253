"""``bench``: latency of one image, cold start and memory, per artifact and engine."""

from __future__ import annotations

import argparse
from statistics import median
from typing import Any

from pennyweight.bench import (
    DEFAULT,
    QUICK,
    Plan,
    absence,
    claim,
    measure_bench,
    median_interval,
    microseconds,
    quantile,
    speed_up,
)
from pennyweight.bundle import open_bundle
from pennyweight.engines import is_installed
from pennyweight.errors import EngineMissingError, UsageError
from pennyweight.output import emit, progress
from pennyweight.tables import text_table

from ._arguments import add_bundle, add_choice, add_threads
from .verify import pairs

HELP = "latency of one image, cold start and memory"
EXTENSIBLE = True
HEADER = [
    "artifact",
    "engine",
    "median µs",
    "interval",
    "p90",
    "p99",
    "speed-up",
    "cold start ms",
    "peak MB",
]
JsonObject = dict[str, Any]
# Among the rows that `bench --original` of the workstation adds, the one that a speed-up is over.
BASELINE = "Keras tf.function"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_bundle(parser)
    add_choice(parser)
    add_threads(parser)
    parser.add_argument("--rounds", type=int, metavar="N", help=f"fresh processes per row (default {DEFAULT.rounds})")
    parser.add_argument("--seconds", type=float, metavar="S", help=f"of calls per round (default {DEFAULT.seconds:g})")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the random order (default 1)")


def run(args: argparse.Namespace) -> int:
    """Exit code 1 when a worker failed."""
    results = measure(args)
    show(results, args)
    return 1 if any(row["status"] == "failed" for row in results["rows"]) else 0


def measure(args: argparse.Namespace) -> JsonObject:
    """Do what the arguments ask for; give the result as ``pennyweight.bench.measure_bench`` does."""
    bundle = open_bundle(args.bundle)
    tried = pairs(bundle, args.artifact, args.engine)
    if args.engine and not is_installed(args.engine):
        raise EngineMissingError(f"{args.engine} isn't here: {absence(args.engine)}")
    return measure_bench(bundle, tried, plan_from(args), (args.threads,), lambda text: progress(args, text))


def plan_from(args: argparse.Namespace) -> Plan:
    """Give the plan that the arguments describe; raise UsageError for numbers that make none."""
    plan = QUICK if args.quick else DEFAULT
    rounds = plan.rounds if args.rounds is None else args.rounds
    seconds = plan.seconds if args.seconds is None else args.seconds
    if not 1 <= rounds <= 1000:
        raise UsageError(f"--rounds {rounds} isn't between 1 and 1000")
    if not 0.001 <= seconds <= 600:
        raise UsageError(f"--seconds {seconds:g} isn't between 0.001 and 600")
    if not 1 <= args.threads <= 1024:
        raise UsageError(f"--threads {args.threads} isn't between 1 and 1024")
    timeout = plan.timeout + 40 * seconds
    return plan._replace(rounds=rounds, seconds=seconds, seed=args.seed, timeout=timeout)


def show(results: JsonObject, args: argparse.Namespace) -> None:
    """Print the result as a table, or as the arguments ask."""
    emit(args, results, bench_text(results))


def bench_text(results: JsonObject) -> str:
    """Lay the result out for a terminal."""
    rows = results["rows"]
    measured = [row for row in rows if row["rounds"]]
    baseline = next((row for row in measured if row["engine"] == BASELINE), measured[0] if measured else None)
    table = text_table(HEADER, [_cells(row, baseline) for row in rows], 2)
    facts, state = results["machine"], results["states"][-1]
    machine = f"{facts['cpu']}, {facts['cpus']} CPUs, governor {facts['governor']}, {state['frequency_mhz']} MHz"
    machine += f", {state['temperature_c']} °C, throttling {state['throttled']}, load {state['load']}"
    lines = [f"{results['bundle']}: one image, {_effort(measured)}; {machine}", "", table]
    lines += [f"{_name(row)}: {row['status']}: {row['reason']}" for row in rows if row["reason"]]
    lines += [
        f"{_name(row)}: the warm-up didn't settle in {count} of {len(row['rounds'])} rounds"
        for row in measured
        if (count := sum(not one["settled"] for one in row["rounds"]))
    ]
    lines += [f"tainted: {taint['cause']}; {taint['remedy']}" for taint in results["taints"]]
    return "\n".join(lines)


def _name(row: JsonObject) -> str:
    return f"{row['artifact']} on {row['engine']}"


def _effort(measured: list[JsonObject]) -> str:
    if not measured:
        return "nothing measured"
    least, most = (pick(one["calls"] for row in measured for one in row["rounds"]) for pick in (min, max))
    rounds, threads = len(measured[-1]["rounds"]), measured[-1]["threads"]
    return f"{rounds} rounds of {least:,} to {most:,} calls, {threads} thread{'s' if threads != 1 else ''}"


def _cells(row: JsonObject, baseline: JsonObject | None) -> list[str]:
    name = f"{row['engine']} {row['engine_version'] or ''}".strip()
    if not row["rounds"]:
        return [row["artifact"], name, row["status"], *[""] * (len(HEADER) - 3)]
    interval = median_interval(row)
    faster = "baseline" if row is baseline or baseline is None else claim(speed_up(baseline, row))
    cold = [one["answered_ns"] for one in row["cold_starts"]]
    peaks = [one["peak_bytes"] for one in row["cold_starts"] if one["peak_bytes"]]
    return [
        row["artifact"],
        name,
        microseconds(quantile(row, "p50")),
        "" if interval is None else f"{microseconds(interval[0])}–{microseconds(interval[1])}",
        microseconds(quantile(row, "p90")),
        microseconds(quantile(row, "p99")),
        faster,
        f"{median(cold) / 1e6:.0f}" if cold else "",
        f"{max(peaks) / 1e6:.0f}" if peaks else "",
    ]

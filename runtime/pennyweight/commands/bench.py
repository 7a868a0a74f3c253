"""``bench``: latency of one image, throughput, cold start and memory, per artifact, engine and threads."""

from __future__ import annotations

import argparse
import re
from typing import Any

from pennyweight.bench import (
    COLD_PARTS,
    DEFAULT,
    QUICK,
    Plan,
    claim,
    cold_parts,
    digits,
    measure_bench,
    memory,
    microseconds,
    paced,
    quantile,
    quantile_interval,
    speed_up,
    step_medians,
    throughput,
)
from pennyweight.bundle import open_bundle
from pennyweight.engines import absence, is_installed
from pennyweight.errors import EngineMissingError, UsageError
from pennyweight.latency import QUANTILES
from pennyweight.machine import machine_line
from pennyweight.output import emit, progress
from pennyweight.tables import text_table
from pennyweight.worker import STEPS

from ._arguments import add_bundle, add_choice
from .verify import pairs

HELP = "latency of one image, throughput, cold start and memory"
EXTENSIBLE = True
JsonObject = dict[str, Any]
# Among the rows that `bench --original` of the workstation adds, the one that a speed-up is over.
BASELINE = "Keras tf.function"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_bundle(parser)
    add_choice(parser)
    parser.add_argument(
        "--threads",
        type=int,
        nargs="+",
        default=[1],
        metavar="N",
        help="threads for one inference (default 1); several",
    )
    parser.add_argument("--rounds", type=int, metavar="N", help=f"fresh processes per row (default {DEFAULT.rounds})")
    parser.add_argument("--seconds", type=float, metavar="S", help=f"of calls per round (default {DEFAULT.seconds:g})")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument(
        "--rate", type=float, metavar="FPS", help="also answer so many images per second, asleep between"
    )
    parser.add_argument(
        "--for", dest="sustain", metavar="TIME", help="also answer for so long, such as 10m: p50 and p99 per minute"
    )
    parser.add_argument("--memory-limit", type=int, metavar="MB", help="address space that a worker may have (Linux)")
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
    return measure_bench(bundle, tried, plan_from(args), args.threads, lambda text: progress(args, text))


def plan_from(args: argparse.Namespace) -> Plan:
    """Give the plan that the arguments describe; raise UsageError for numbers that make none."""
    plan = QUICK if args.quick else DEFAULT
    rounds = plan.rounds if args.rounds is None else args.rounds
    seconds = plan.seconds if args.seconds is None else args.seconds
    if not 1 <= rounds <= 1000:
        raise UsageError(f"--rounds {rounds} isn't between 1 and 1000")
    if not 0.001 <= seconds <= 600:
        raise UsageError(f"--seconds {seconds:g} isn't between 0.001 and 600")
    for threads in args.threads:
        if not 1 <= threads <= 1024:
            raise UsageError(f"--threads {threads} isn't between 1 and 1024")
    if len(set(args.threads)) < len(args.threads):
        raise UsageError("--threads names a number twice")
    if args.rate is not None and not 0.01 <= args.rate <= 100_000:
        raise UsageError(f"--rate {args.rate:g} isn't between 0.01 and 100,000 images per second")
    if args.memory_limit is not None and args.memory_limit < 1:
        raise UsageError(f"--memory-limit {args.memory_limit} isn't a number of MB from 1 on")
    sustain = 0.0 if args.sustain is None else duration(args.sustain)
    plan = plan._replace(rounds=rounds, seconds=seconds, seed=args.seed, rate=args.rate, sustain=sustain)
    paced_seconds = max(plan.least_calls / args.rate, seconds) if args.rate else 0.0
    # Slow models may take many times the seconds, and batches take their time too.
    timeout = plan.timeout + 40 * seconds + 2 * paced_seconds + 60
    return plan._replace(timeout=timeout, memory_mb=args.memory_limit)


def duration(text: str) -> float:
    """Read "90s", "10m", "1h" or a plain number of seconds; raise UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    seconds = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]] if match else 0.0
    if not 0.1 <= seconds <= 7 * 86_400:
        raise UsageError(f"--for {text!r} is no time from 0.1s to a week, such as 10m")
    return seconds


def show(results: JsonObject, args: argparse.Namespace) -> None:
    """Print the result as a table, or as the arguments ask."""
    emit(args, results, bench_text(results))


def bench_text(results: JsonObject) -> str:
    """Lay the result out for a terminal."""
    rows = results["rows"]
    measured = [row for row in rows if row["rounds"]]
    baseline = next((row for row in measured if row["engine"] == BASELINE), measured[0] if measured else None)
    header = ["artifact", "engine", *(f"{name} µs" for name in QUANTILES), "speed-up"]
    machine = machine_line(results["machine"], results["states"])
    lines = [f"{results['bundle']}: one image, {_effort(measured)}; {machine}", ""]
    lines += [text_table(header, [_cells(row, baseline, rows) for row in rows], 2)]
    if measured:
        lines += ["", *_costs(measured, rows)]
    slowed = [(row, other) for row in measured if (other := paced(row))]
    if slowed:
        rate = f"{results['plan']['rate']:g} images per second"
        header = ["artifact", f"engine, at {rate}", *(f"{name} µs" for name in QUANTILES), "late calls"]
        cells = [[*_names(row, rows), *_quantiles(other), _late(other)] for row, other in slowed]
        lines += ["", text_table(header, cells, 2)]
    lines += _sustained(measured, rows)
    lines += [f"{_name(row)}: {row['status']}: {row['reason']}" for row in rows if row["reason"]]
    lines += _cautions(measured)
    lines += [f"tainted: {taint['cause']}; {taint['remedy']}" for taint in results["taints"]]
    return "\n".join(lines)


def _name(row: JsonObject) -> str:
    return f"{row['artifact']} on {row['engine']}"


def _names(row: JsonObject, rows: list[JsonObject]) -> list[str]:
    name = f"{row['engine']} {row['engine_version'] or ''}".strip()
    several = len({one["threads"] for one in rows if one["threads"]}) > 1
    return [row["artifact"], f"{name}, {row['threads']} threads" if several and row["threads"] else name]


def _effort(measured: list[JsonObject]) -> str:
    if not measured:
        return "nothing measured"
    least, most = (pick(one["calls"] for row in measured for one in row["rounds"]) for pick in (min, max))
    rounds, threads = len(measured[-1]["rounds"]), sorted({row["threads"] for row in measured if row["threads"]})
    counts = " or ".join(map(str, threads or [1]))
    return f"{rounds} rounds of {least:,} to {most:,} calls, {counts} thread{'s' if counts != '1' else ''}"


def _cells(row: JsonObject, baseline: JsonObject | None, rows: list[JsonObject]) -> list[str]:
    if not row["rounds"]:
        return [*_names(row, rows), row["status"], *[""] * len(QUANTILES)]
    faster = "baseline" if row is baseline or baseline is None else claim(speed_up(baseline, row))
    return [*_names(row, rows), *_quantiles(row), faster]


def _quantiles(row: JsonObject) -> list[str]:
    """Give each quantile with its interval; empty where the calls are too few for it."""
    cells = []
    for name in QUANTILES:
        interval, text = quantile_interval(row, name), microseconds(quantile(row, name))
        cells.append(f"{text} ({microseconds(interval[0])}–{microseconds(interval[1])})" if interval and text else text)
    return cells


def _late(row: JsonObject) -> str:
    return f"{sum(one['late'] for one in row['rounds']):,} of {sum(one['calls'] for one in row['rounds']):,}"


def _costs(measured: list[JsonObject], rows: list[JsonObject]) -> list[str]:
    """Give the tables of where a call's time goes with the throughput, and of the cold start with the memory."""
    sizes = sorted({size for row in measured for size in throughput(row)})
    header = ["artifact", "engine", *(f"{name} µs" for name in STEPS), *(f"img/s at {size}" for size in sizes)]
    cells = []
    for row in measured:
        steps, rates = step_medians(row), throughput(row)
        speeds = [digits(rates[size][0]) if size in rates else "" for size in sizes]
        if steps or rates:
            cells.append([*_names(row, rows), *(microseconds(steps.get(name)) for name in STEPS), *speeds])
    lines = [text_table(header, cells, 2), ""] if cells else []
    known = {name for row in measured for name in cold_parts(row)}
    parts = [name for name in (*COLD_PARTS, "total") if name in known]
    cells = []
    for row in measured:
        times, size = cold_parts(row), memory(row)
        spent = [digits(times[name] / 1e6) if name in times else "" for name in parts]
        sizes_mb = [f"{size[name] / 1e6:.0f}" if name in size else "" for name in ("steady", "peak")]
        cells.append([*_names(row, rows), *spent, *sizes_mb])
    header = ["artifact", "engine", *(f"{name} ms" for name in parts), "steady MB", "peak MB"]
    return [*lines, text_table(header, cells, 2)]


def _sustained(measured: list[JsonObject], rows: list[JsonObject]) -> list[str]:
    spans = [(row, span) for row in measured for span in row.get("sustained") or ()]
    if not spans:
        return []
    header = ["artifact", "engine", "from s", "calls", "p50 µs", "p99 µs", "slowest µs", "°C", "MHz"]
    cells = [
        [
            *_names(row, rows),
            f"{span['start_s']:.0f}",
            f"{span['calls']:,}",
            *(microseconds(span["quantiles"][name]) for name in ("p50", "p99")),
            microseconds(span["slowest"]),
            *(str(span["state"][name]) for name in ("temperature_c", "frequency_mhz")),
        ]
        for row, span in spans
    ]
    return ["", text_table(header, cells, 2)]


def _cautions(measured: list[JsonObject]) -> list[str]:
    lines = []
    for row in measured:
        count = sum(not one["settled"] for one in row["rounds"])
        if count:
            lines.append(f"{_name(row)}: the warm-up didn't settle in {count} of {len(row['rounds'])} rounds")
        missing = {one["size"]: one["reason"] for part in row["rounds"] for one in part.get("batches") or ()}
        lines += [f"{_name(row)}: no batch of {size}: {reason}" for size, reason in missing.items() if reason]
        few = [name for name in QUANTILES if quantile(row, name) is None]
        if few:
            calls = sum(one["calls"] for one in row["rounds"])
            lines.append(f"{_name(row)}: {calls:,} calls are too few for {', '.join(few)}")
    return lines

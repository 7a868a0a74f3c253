"""``select``: the fastest artifact × engine × threads that passes parity, remembered for ``load``."""

from __future__ import annotations

import argparse
import os
from statistics import median
from typing import Any

from pennyweight.bench import DEFAULT, QUICK, measure_bench, microseconds
from pennyweight.bundle import EVALUATION_NAME, Bundle, open_bundle
from pennyweight.choices import Choice, bundle_digest, device_name, write_choice
from pennyweight.engines import absence, engine_version, is_installed
from pennyweight.errors import CheckFailedError, PennyweightError
from pennyweight.isolation import run_isolated
from pennyweight.loading import machine
from pennyweight.output import emit, notice, progress
from pennyweight.statistics import ratio_interval
from pennyweight.tables import text_table

from ._arguments import add_bundle, add_choice
from .verify import pairs

HELP = "the fastest artifact, engine and threads that pass parity, remembered for load"
# Parity on the largest evaluation set that a bundle carries unasked (50 MB) takes a Pi minutes, not longer.
TIMEOUT = 1800.0
JsonObject = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_bundle(parser)
    add_choice(parser)
    parser.add_argument(
        "--threads", type=int, nargs="+", metavar="N", help="numbers of threads to try (default 1, 2, 4)"
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")


def run(args: argparse.Namespace) -> int:
    """Measure, choose, remember; exit code 1 when nothing here passes parity."""
    bundle = open_bundle(args.bundle)
    verdicts = [_verdict(bundle, *pair, args) for pair in pairs(bundle, args.artifact, args.engine)]
    passing = [(one["artifact"], one["engine"]) for one in verdicts if one["verdict"] == "pass"]
    if not passing:
        reasons = "; ".join(
            f"{one['artifact']} on {one['engine']}: {one['reason'] or one['verdict']}" for one in verdicts
        )
        raise CheckFailedError(f"{bundle.path}: nothing here passes parity ({reasons})")
    threads = args.threads or [number for number in (1, 2, 4) if number <= (os.cpu_count() or 1)]
    plan = QUICK if args.quick else DEFAULT
    bench = measure_bench(
        bundle, passing, plan._replace(cold_starts=0, batches=()), threads, lambda text: progress(args, text)
    )
    rows = sorted((row for row in bench["rows"] if row["status"] == "ok"), key=_median)
    if not rows:
        raise CheckFailedError(f"{bundle.path}: nothing could be timed ({bench['rows'][0]['reason']})")
    best = _simplest(rows)
    choice = Choice(
        bundle=bundle_digest(bundle),
        device=device_name(),
        artifact=best["artifact"],
        engine=best["engine"],
        engine_version=best["engine_version"],
        threads=best["threads"],
        measured=bench["created"],
        median_ns=_median(best),
    )
    path = write_choice(bundle, choice)
    kept = f"remembered in {path}" if path else "not remembered: there is no cache folder (set XDG_CACHE_HOME)"
    emit(
        args,
        {"choice": choice._asdict(), "kept": kept, "verdicts": verdicts, "bench": bench},
        _text(rows, best, verdicts),
    )
    notice(args, kept)
    for taint in bench["taints"]:
        notice(args, f"the measurement is tainted: {taint['cause']}; {taint['remedy']}")
    return 0


def _verdict(bundle: Bundle, artifact: str, engine: str, args: argparse.Namespace) -> JsonObject:
    """Give the verdict that the bundle holds for this machine and engine version, or measure parity here."""
    row: JsonObject = {"artifact": artifact, "engine": engine, "verdict": None, "reason": ""}
    if not is_installed(engine):
        return {**row, "reason": absence(engine)}
    try:
        record = bundle.manifest.artifact(artifact).record_for(engine, engine_version(engine), machine())
        if record is not None and record.verdict is not None:
            return {**row, "verdict": record.verdict, "reason": record.reason}
        progress(args, f"parity of {artifact} on {engine}, which has no verdict on this machine")
        arguments = {"bundle": str(bundle.path), "artifact": artifact, "engine": engine}
        # The margin that the bundle's own verdicts were made with.
        gate = {key: value for key, value in bundle.manifest.gate.items() if isinstance(value, (int, float))}
        if EVALUATION_NAME in bundle.manifest.files:
            parity = run_isolated("pennyweight.parity:parity_task", {**gate, **arguments}, TIMEOUT)
            return {**row, "verdict": parity["verdict"], "reason": parity["reason"]}
        golden = run_isolated("pennyweight.golden:golden_task", arguments, TIMEOUT)
    except PennyweightError as error:
        return {**row, "verdict": "fail", "reason": str(error)}
    return {**row, "verdict": "pass" if golden["passed"] else "fail", "reason": "by the golden set alone"}


def _said(verdict: JsonObject) -> str:
    return f"{verdict['artifact']} on {verdict['engine']}: {verdict['reason'] or verdict['verdict']}"


def _median(row: JsonObject) -> float:
    return float(median(one["quantiles"]["p50"] for one in row["rounds"]))


def _simplest(rows: list[JsonObject]) -> JsonObject:
    """Give the fastest row, or one with fewer threads where the difference between them can't be shown."""
    best = rows[0]
    for row in rows[1:]:
        interval = ratio_interval(_rounds(row), _rounds(rows[0]))
        alike = interval is None or interval[0] <= 1
        same = (row["artifact"], row["engine"]) == (best["artifact"], best["engine"])
        if alike and same and row["threads"] < best["threads"]:
            best = row
    return best


def _rounds(row: JsonObject) -> list[float]:
    return [one["quantiles"]["p50"] for one in row["rounds"]]


def _text(rows: list[JsonObject], best: JsonObject, verdicts: list[JsonObject]) -> str:
    cells = [
        [
            "→" if row is best else "",
            row["artifact"],
            f"{row['engine']} {row['engine_version']}",
            str(row["threads"]),
            microseconds(_median(row)),
        ]
        for row in rows
    ]
    left = [_said(one) for one in verdicts if one["verdict"] != "pass"]
    lines = [text_table(["", "artifact", "engine", "threads", "median µs"], cells, 3)]
    if left:
        lines += ["", "left out: " + "; ".join(left)]
    lines += ["", f"load takes {best['artifact']} on {best['engine']} with {best['threads']} thread(s) from now on"]
    return "\n".join(lines)

"""The one table: the original and every artifact × engine, made from one JSON object that holds all the evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pennyweight.bench import claim, median_interval, microseconds, quantile, speed_up
from pennyweight.commands.bench import BASELINE
from pennyweight.manifest import Manifest
from pennyweight.tables import markdown_table, text_table

FORMAT = "pennyweight-results"
VERSION = 1
HEADER = [
    "model",
    "engine",
    "kB",
    "accuracy %",
    "agreement %",
    "flips −/+/±",
    "median µs",
    "p99 µs",
    f"speed-up over {BASELINE.removeprefix('Keras ')}",
    "parity",
]
FLIPS = ("flips_lost", "flips_won", "flips_other")
JsonObject = dict[str, Any]


def make_results(bench: JsonObject, parity: Mapping[tuple[str, str], JsonObject], manifest: Manifest) -> JsonObject:
    """Put a bench and the parity figures together.

    Args:
        bench: as ``measure_bench`` gives it, with the rows of ``measure_original`` first.
        parity: by artifact and engine, rows with "status", "reason" and "figures" as the verb ``parity`` makes them.
        manifest: of the bundle that both were measured on.

    Returns:
        "rows", each with its figures or, under "missing", why there are none; and the whole "bench" beside them.
    """
    baseline = next((row for row in bench["rows"] if row["engine"] == BASELINE and row["rounds"]), None)
    rows = []
    for timed in bench["rows"]:
        if "parity" in timed:
            compared = {"status": "original", "reason": "", "figures": timed["parity"]}
            size = timed["bytes"]
        else:
            compared = parity[timed["artifact"], timed["engine"]]
            size = manifest.files[timed["artifact"]].size
        rows.append(_row(timed, compared, size, baseline))
    return {
        "format": FORMAT,
        "version": VERSION,
        "created": bench["created"],
        "bundle": manifest.name,
        "gate": dict(manifest.gate),
        "rows": rows,
        "bench": bench,
    }


def results_text(results: JsonObject) -> str:
    """Lay the table out for a terminal, with what it needs to be understood."""
    return "\n".join([*_title(results), "", text_table(HEADER, _cells(results), 2), "", *_notes(results)])


def results_markdown(results: JsonObject) -> str:
    """Write the same as Markdown."""
    title, *rest = _title(results)
    notes = [f"- {note}" for note in _notes(results)]
    return "\n".join([f"# {title}", "", *rest, "", markdown_table(HEADER, _cells(results), 2), "", *notes, ""])


def _row(timed: JsonObject, compared: JsonObject, size: int, baseline: JsonObject | None) -> JsonObject:
    figures = compared["figures"] or {}
    ratio = None if baseline is None or timed is baseline else speed_up(baseline, timed)
    row = {
        "artifact": timed["artifact"],
        "engine": timed["engine"],
        "engine_version": timed["engine_version"],
        "bytes": size,
        "samples": figures.get("samples"),
        "accuracy": figures.get("accuracy"),
        "accuracy_interval": figures.get("accuracy_interval"),
        "agreement": figures.get("agreement"),
        "flips": [figures[name] for name in FLIPS] if FLIPS[0] in figures else None,
        "ties": figures.get("ties"),
        "parity": compared["status"],
        "parity_reason": compared["reason"],
        "median_ns": quantile(timed, "p50"),
        "median_interval_ns": median_interval(timed),
        "p99_ns": quantile(timed, "p99"),
        "speed_up": None if ratio is None else ratio[0],
        "speed_up_interval": None if ratio is None else ratio[1],
        "speed_up_claim": "baseline" if timed is baseline else claim(ratio),
    }
    return {**row, "missing": _missing(row, timed, compared)}


def _missing(row: JsonObject, timed: JsonObject, compared: JsonObject) -> dict[str, str]:
    """Give, for each figure that isn't there, the reason."""
    missing = {}
    for name in ("accuracy", "agreement", "flips"):
        if row[name] is None:
            missing[name] = compared["reason"] or "the bundle carries no labelled evaluation set"
    for name in ("median_ns", "p99_ns"):
        if row[name] is None:
            calls = sum(one["calls"] for one in timed["rounds"])
            missing[name] = timed["reason"] or f"{calls} calls are too few for it"
    if not row["speed_up_claim"]:
        missing["speed_up"] = timed["reason"] or "the original wasn't measured"
    return missing


def _title(results: JsonObject) -> list[str]:
    samples = next((row["samples"] for row in results["rows"] if row["samples"]), None)
    measured = f"accuracy on {samples:,} held-out samples, " if samples else ""
    return [
        f"{results['bundle']}: the original and its artifacts",
        f"{measured}latency of one image from array to label",
    ]


def _cells(results: JsonObject) -> list[list[str]]:
    return [
        [
            row["artifact"],
            f"{row['engine']} {row['engine_version'] or ''}".strip(),
            f"{row['bytes'] / 1000:.1f}",
            "" if row["accuracy"] is None else f"{100 * row['accuracy']:.2f}",
            "" if row["agreement"] is None else f"{100 * row['agreement']:.2f}",
            "" if row["flips"] is None else "/".join(map(str, row["flips"])),
            microseconds(row["median_ns"]),
            microseconds(row["p99_ns"]),
            row["speed_up_claim"],
            row["parity"],
        ]
        for row in results["rows"]
    ]


def _notes(results: JsonObject) -> list[str]:
    bench, rows = results["bench"], results["rows"]
    notes = []
    interval = next((row["accuracy_interval"] for row in rows if row["accuracy_interval"]), None)
    if interval:
        half = 50 * (interval[1] - interval[0])
        notes.append(f"accuracy is known to ±{half:.2f} points (95 %); flips: lost/won/to another wrong answer")
    margin = results["gate"].get("max_drop")
    if margin is not None:
        notes.append(
            f"parity passes where accuracy drops by at most {100 * margin:g} points, by the paired interval's end"
        )
    facts, state = bench["machine"], bench["states"][-1]
    notes.append(
        f"measured on {facts['cpu']}, {facts['cpus']} CPUs, governor {facts['governor']}, "
        f"{state['temperature_c']} °C, throttling {state['throttled']}, Python {facts['python']}"
    )
    for row in rows:
        for reason in sorted(set(row["missing"].values())):
            columns = [name.removesuffix("_ns") for name, why in row["missing"].items() if why == reason]
            notes.append(f"{row['artifact']} on {row['engine']}: no {', '.join(columns)}: {reason}")
        if row["parity"] in ("fail", "inconclusive") and row["samples"]:
            notes.append(f"{row['artifact']} on {row['engine']}: parity {row['parity']}: {row['parity_reason']}")
    notes += [f"tainted: {taint['cause']}; {taint['remedy']}" for taint in bench["taints"]]
    return notes

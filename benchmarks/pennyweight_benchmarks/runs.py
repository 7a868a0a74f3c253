"""Runs: what was measured on one machine, put together from several results, with one row per artifact × engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pennyweight.bench import cold_parts, median_interval, memory, quantile, speed_up
from pennyweight.commands.bench import BASELINE
from pennyweight.machine import UNKNOWN

from .documents import BENCH, EVIDENCE, PARITY, RESULTS, Document, JsonObject, number

# What makes a machine that machine; the rest (governor, kernel, Python) are conditions of a run on it.
IDENTITY = ("board", "cpu", "cpus", "architecture", "memory_mb")
CONDITIONS = ("system", "python", "governor", "cpus_usable", "container", "virtual_machine", "emulation")
# Kernels and firmware keep different amounts of the same memory for themselves.
SAME_MEMORY = 0.1
NO_PARITY = "parity wasn't measured"


class Run(NamedTuple):
    """One machine's run. ``rows`` are a bench's rows with "bytes" and "parity" (a row of the verb) filled in."""

    device: str
    file: str
    bundle: str
    created: str
    machine: JsonObject
    states: list[JsonObject]
    taints: list[JsonObject]
    rows: list[JsonObject]

    @property
    def timed(self) -> list[JsonObject]:
        """The rows that have latencies."""
        return [row for row in self.rows if row["rounds"]]

    @property
    def baseline(self) -> JsonObject | None:
        """The row that speed-ups are over: the original by ``tf.function``, else the first that was timed."""
        return next((row for row in self.timed if row["engine"] == BASELINE), next(iter(self.timed), None))


def make_runs(documents: Sequence[Document]) -> list[Run]:
    """Put results together: each bench is a run, and parity goes to the runs on the same bundle and architecture.

    Parity that no run takes is a run of its own, without latencies. Machines of one name are told apart by their file.
    """
    runs = [_bench_run(one) for one in documents if one.kind in (BENCH, RESULTS)]
    for document in documents:
        if document.kind in (PARITY, EVIDENCE):
            takers = [run for run in runs if _belongs(document, run)]
            for run in takers:
                _add_parity(run, document)
            if not takers:
                runs.append(_parity_run(document))
    return _told_apart(runs)


def row_name(row: JsonObject) -> str:
    """Name a row in words."""
    threads = row.get("threads")
    return f"{row['artifact']} on {row['engine']}" + (f", {threads} threads" if threads and threads > 1 else "")


def row_key(row: JsonObject) -> tuple[str, str, Any]:
    """Give what tells a row from the others of its run."""
    return row["artifact"], row["engine"], row.get("threads")


def is_original(row: JsonObject) -> bool:
    """Whether the row is the original model's own."""
    return bool(row["parity"]["status"] == "original")


def row_figures(row: JsonObject, baseline: JsonObject | None) -> JsonObject:
    """Give a row's figures, each None where there is none, and under "missing" why.

    Times are in nanoseconds, sizes in bytes, rates fractions of 1; "speed_up" is (ratio, interval or None).
    """
    parity = row["parity"]["figures"] or {}
    flips = [parity.get(name) for name in ("flips_lost", "flips_won", "flips_other")]
    figures: JsonObject = {
        "bytes": row.get("bytes"),
        "accuracy": parity.get("accuracy"),
        "accuracy_interval": parity.get("accuracy_interval"),
        "agreement": parity.get("agreement"),
        "flips": None if None in flips else flips,
        "drop_interval": parity.get("drop_interval"),
        "median_interval": median_interval(row),
        "speed_up": None if baseline is None or row is baseline else speed_up(baseline, row),
        "cold_start": cold_parts(row).get("total"),
        "peak_bytes": memory(row).get("peak"),
    }
    figures.update({name: quantile(row, name) for name in ("p50", "p90", "p99", "p99.9")})
    figures["missing"] = {name: _why(name, row) for name, value in figures.items() if value is None}
    return figures


def same_machine(one: JsonObject, other: JsonObject) -> str:
    """Give why two runs' machines aren't the same, or can't be told to be; empty where they are."""
    if not one or not other:
        return "the machine isn't recorded"
    if UNKNOWN in (one.get("cpu", UNKNOWN), other.get("cpu", UNKNOWN)) and UNKNOWN in (
        one.get("board", UNKNOWN),
        other.get("board", UNKNOWN),
    ):
        return "the processor is unknown"
    for name in IDENTITY:
        values = one.get(name, UNKNOWN), other.get(name, UNKNOWN)
        if name == "memory_mb" and None not in (memory := [number(value) for value in values]):
            low, high = sorted(value for value in memory if value is not None)
            if high - low <= SAME_MEMORY * high:
                continue
        if values[0] != values[1]:
            return f"{name.replace('_', ' ')} {str(values[0])[:60]} and {str(values[1])[:60]}"
    return ""


def device_name(machine: JsonObject) -> str:
    """Name a machine by its board, else its processor."""
    for name in ("board", "cpu", "architecture"):
        if machine.get(name, UNKNOWN) not in (UNKNOWN, None, ""):
            return str(machine[name])
    return "unknown machine"


def _bench_run(document: Document) -> Run:
    bench = document.content["bench"] if document.kind == RESULTS else document.content
    results = {(row["artifact"], row["engine"]): row for row in document.content["rows"]}
    rows = []
    for timed in bench["rows"]:
        row = {"reason": "", "engine_version": None, "threads": None, "bytes": None, **timed}
        if "parity" in timed:
            row["parity"] = {"status": "original", "reason": "", "figures": timed["parity"]}
        elif document.kind == RESULTS:
            result = results.get((row["artifact"], row["engine"]), {})
            row["bytes"] = result.get("bytes")
            row["parity"] = _result_parity(result)
        else:
            row["parity"] = {"status": "", "reason": NO_PARITY, "figures": None}
        rows.append(row)
    return Run(
        device=device_name(bench["machine"]),
        file=document.file,
        bundle=str(bench.get("bundle") or document.content.get("bundle") or "unnamed"),
        created=str(bench.get("created") or document.content.get("created") or ""),
        machine=bench["machine"],
        states=bench["states"],
        taints=bench["taints"],
        rows=rows,
    )


def _result_parity(result: JsonObject) -> JsonObject:
    names = ("samples", "accuracy", "accuracy_interval", "agreement", "ties")
    figures = {name: result.get(name) for name in names}
    lost, won, other = result.get("flips") or (None, None, None)
    figures.update(flips_lost=lost, flips_won=won, flips_other=other)
    whole = figures if figures["agreement"] is not None else None
    return {"status": result.get("parity", ""), "reason": result.get("parity_reason", ""), "figures": whole}


def _parity_run(document: Document) -> Run:
    empty: JsonObject = {"rounds": [], "cold_starts": [], "threads": None, "bytes": None}
    rows = []
    for row in document.content["rows"]:
        parity = {"status": row["status"], "reason": row.get("reason", ""), "figures": row.get("figures")}
        status = "absent" if row["status"] == "absent" else "not timed"
        reason = row.get("reason", "") if status == "absent" else "latency wasn't measured"
        rows.append({**empty, "engine_version": None, **_names(row), "status": status, "reason": reason})
        rows[-1]["parity"] = parity
    architecture = _architecture(document)
    machine = document.content.get("environment") or ({"architecture": architecture} if architecture else {})
    name, created = str(document.content.get("bundle", "unnamed")), str(document.content.get("created", ""))
    run = Run(device_name(machine), document.file, name, created, machine, [], [], rows)
    _add_sizes(run, document)
    return run


def _names(row: JsonObject) -> JsonObject:
    return {name: row.get(name) for name in ("artifact", "engine", "engine_version")}


def _add_parity(run: Run, document: Document) -> None:
    measured = {(row["artifact"], row["engine"]): row for row in document.content["rows"]}
    for row in run.rows:
        found = measured.get((row["artifact"], row["engine"]))
        if found is None or is_original(row) or not _same_version(found, row):
            continue
        # The verb's own figures are more than a table's extract of them.
        if found.get("figures") or not row["parity"]["figures"]:
            row["parity"] = {**{name: found.get(name) for name in ("status", "figures")}, "reason": found["reason"]}
    _add_sizes(run, document)


def _add_sizes(run: Run, document: Document) -> None:
    sizes = {one["name"]: one["bytes"] for one in document.content.get("artifacts", [])}
    for row in run.rows:
        row["bytes"] = row["bytes"] or sizes.get(row["artifact"])


def _same_version(one: JsonObject, other: JsonObject) -> bool:
    versions = {row.get("engine_version") for row in (one, other)} - {None}
    return len(versions) < 2


def _belongs(document: Document, run: Run) -> bool:
    if document.content.get("bundle") != run.bundle:
        return False
    architecture = _architecture(document)
    return architecture is None or architecture == run.machine.get("architecture", architecture)


def _architecture(document: Document) -> str | None:
    """Give the architecture that parity was measured on, from its rows; None where no row says it."""
    found = (row["figures"].get("machine") for row in document.content["rows"] if row.get("figures"))
    return next((str(one) for one in found if one), None)


def _told_apart(runs: list[Run]) -> list[Run]:
    names = [run.device for run in runs]
    named: list[Run] = []
    for run in runs:
        name = run.device
        if names.count(name) > 1:
            name = f"{name} ({Path(run.file).stem})"
        taken = [other.device for other in named]
        if name in taken:
            name = next(f"{name} #{k}" for k in range(2, len(runs) + 2) if f"{name} #{k}" not in taken)
        named.append(run._replace(device=name))
    return named


def _why(name: str, row: JsonObject) -> str:
    if name == "bytes":
        return "the size isn't in these results; --bundle adds it"
    if name in ("accuracy", "accuracy_interval", "agreement", "flips", "drop_interval"):
        return str(row["parity"]["reason"] or "the evaluation set has no labels or this isn't a classifier")
    if not row["rounds"]:
        return str(row["reason"] or row["status"])
    if name in ("cold_start", "peak_bytes"):
        return "not measured for this row"
    if name == "speed_up":
        return "it is the baseline"
    if name == "median_interval":
        return "one round gives no interval"
    return f"{sum(one['calls'] for one in row['rounds'])} calls are too few for it"

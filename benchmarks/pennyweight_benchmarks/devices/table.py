"""Results over devices as tables: one row for each device, then the figures of those that gave some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pennyweight.bench import cold_parts, memory, microseconds, quantile
from pennyweight.machine import UNKNOWN
from pennyweight.tables import text_table

from .session import DeviceResult

JsonObject = dict[str, Any]
Figures = Callable[[JsonObject], list[list[str]]]
ROWS = ["artifact", "engine"]


def devices_text(verb: str, results: Sequence[DeviceResult]) -> str:
    """Lay results out for a terminal."""
    header = ["device", "machine", "Python", "outcome"]
    lines = text_table(header, [_device_cells(result) for result in results], len(header)).splitlines()
    # A sentence is no cell: padded, one long one would push all the others over the terminal's edge.
    width = max(map(len, lines))
    said = ["why, and what to do", "-------------------", *map(_said, results)]
    lines = [f"{line.ljust(width)}  {text}".rstrip() for line, text in zip(lines, said)]
    columns, figures = FIGURES[verb]
    cells = [[_marked(one), *row] for one in results if one.result is not None for row in figures(_tried(one))]
    if cells:
        lines += ["", text_table(["device", *columns], cells, 3)]
    lines += [
        f"{one.host}: tainted: {taint['cause']}; {taint['remedy']}"
        for one in results
        for taint in (one.result or {}).get("taints", ())
    ]
    lines += [
        f"{one.host}: {finding['kind']}: {finding['text']}"
        for one in results
        for finding in (one.result or {}).get("findings", ())
        if finding["kind"] != "harmless"
    ]
    return plain("\n".join(lines))


def plain(text: str) -> str:
    """Keep what devices say from steering the terminal."""
    return "".join(one if one.isprintable() or one == "\n" else "?" for one in text)


def _device_cells(result: DeviceResult) -> list[str]:
    machine = result.machine
    if machine:
        board = machine["board"] if machine["board"] != UNKNOWN else machine["cpu"]
        text = f"{board}, {result.device['userland']}, {machine['memory_mb']} MB"
        text += f", EMULATED ({result.emulation})" if result.emulation else ""
    else:
        text = ""
    return [result.host, text, str(machine.get("python", "")), result.outcome]


def _said(result: DeviceResult) -> str:
    return "; ".join(part for part in (result.reason, result.remedy) if part)


def _tried(result: DeviceResult) -> JsonObject:
    """Give a result without the rows of engines that the device wasn't to get."""
    held = result.result or {}
    rows = [row for row in held.get("rows", ()) if row["status"] != "absent" or row["engine"] in result.engines]
    return {**held, "rows": rows}


def _marked(result: DeviceResult) -> str:
    return f"{result.host} (emulated)" if result.emulation else result.host


def _engine(row: JsonObject) -> str:
    threads = row.get("threads") or 1
    version = row.get("engine_version") or row.get("version") or ""
    return f"{row['engine']} {version}".strip() + (f", {threads} threads" if threads > 1 else "")


def _bench(result: JsonObject) -> list[list[str]]:
    cells = []
    for row in result["rows"]:
        start, size = cold_parts(row), memory(row)
        cells.append(
            [
                row["artifact"],
                _engine(row),
                *(microseconds(quantile(row, name)) for name in ("p50", "p99")),
                f"{start['total'] / 1e6:.0f}" if "total" in start else "",
                f"{size['peak'] / 1e6:.0f}" if "peak" in size else "",
                row["status"],
            ]
        )
    return cells


def _parity(result: JsonObject) -> list[list[str]]:
    cells = []
    for row in result["rows"]:
        figures = row["figures"] or {}
        percent = [
            "" if figures.get(name) is None else f"{100 * figures[name]:.2f}" for name in ("accuracy", "agreement")
        ]
        flips = [figures.get(name) for name in ("flips_lost", "flips_won", "flips_other")]
        shown = "" if None in flips else "/".join(map(str, flips))
        cells.append([row["artifact"], _engine(row), *percent, shown, row["status"]])
    return cells


def _verify(result: JsonObject) -> list[list[str]]:
    return [
        [
            row["artifact"],
            _engine(row),
            *(f"{row[name]:.2g}" if name in row else "" for name in ("largest", "tolerance")),
            row["status"],
        ]
        for row in result["rows"]
    ]


def _doctor(result: JsonObject) -> list[list[str]]:
    return [[row["name"], row["version"] or "", row["status"], row["reason"]] for row in result["engines"]]


def _install(result: JsonObject) -> list[list[str]]:
    test = result["self_test"] or {}
    engine = f"{test['engine']} {test['engine_version']}" if test else ""
    return [[result["directory"], result["name"], engine, "yes" if result["changed"] else "no"]]


FIGURES: dict[str, tuple[list[str], Figures]] = {
    "bench": ([*ROWS, "p50 µs", "p99 µs", "cold start ms", "peak MB", "status"], _bench),
    "parity": ([*ROWS, "accuracy %", "agreement %", "flips −/+/±", "verdict"], _parity),
    "verify": ([*ROWS, "largest difference", "allowed", "self-test"], _verify),
    "doctor": (["", "version", "there", ""], _doctor),
    "install": (["folder", "bundle", "self-test on", "changed"], _install),
}

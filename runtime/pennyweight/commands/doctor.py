"""``doctor``: what this device has, what would break, and one block to paste that mends it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import pennyweight
from pennyweight.doctor import Device, diagnose, obstacle, read_device, remedy, try_engines
from pennyweight.engines import ENGINES
from pennyweight.machine import UNKNOWN
from pennyweight.output import emit
from pennyweight.tables import text_table

HELP = "what this device has, what would break, and one block to paste that mends it"
EXTENSIBLE = True
JsonObject = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("bundle", nargs="?", metavar="BUNDLE", help="replay this bundle's self-test on each engine too")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when an engine works here, 1 when none does."""
    device = read_device()
    if args.bundle:
        from pennyweight.bundle import open_bundle

        open_bundle(args.bundle)
    rows = try_engines(args.bundle)
    for row in rows:
        if row["status"] == "absent":
            row["reason"] = obstacle(row["name"], device) or ENGINES[row["name"]].install
    findings = diagnose(device, rows)
    ready = any(row["status"] == "works" for row in rows if row["name"] in ENGINES)
    lines = remedy(device, rows, str(Path(pennyweight.__file__).parent))
    result = {
        "device": device._asdict(),
        "engines": rows,
        "findings": [finding._asdict() for finding in findings],
        "ready": ready,
        "remedy": lines,
    }
    emit(args, result, "\n".join([*_device_lines(device), "", _table(rows), "", *_findings(result), *_ending(result)]))
    return 0 if ready else 1


def _device_lines(device: Device) -> list[str]:
    board = f"{device.board}, " if device.board != UNKNOWN else ""
    where = "a virtual environment" if device.environment else "the system's, PEP 668" if device.managed else "no venv"
    system = ", sees the system's packages" if device.environment and device.sees_system else ""
    return [
        f"device    {board}{device.memory_mb} MB of memory, {device.disk_mb} MB of disk free",
        f"system    {device.system}, kernel {device.kernel}, {device.libc}",
        f"userland  {device.userland}",
        f"python    {sys.version.split()[0]}, {sys.executable} ({where}{system})",
    ]


def _table(rows: list[JsonObject]) -> str:
    cells = [[row["name"], row["version"] or "", row["status"], row["reason"]] for row in rows]
    return text_table(["", "version", "here", ""], cells, 4)


def _findings(result: JsonObject) -> list[str]:
    return [f"{finding['kind']:10}{finding['text']}" for finding in result["findings"]]


def _ending(result: JsonObject) -> list[str]:
    if result["remedy"]:
        return ["", "To make this device ready, paste:", "", *result["remedy"]]
    return ["", "This device is ready: nothing to mend." if result["ready"] else "No engine can be installed here."]

"""``demo``: the whole way on the embedded digits."""

from __future__ import annotations

import argparse
from pathlib import Path

from pennyweight.output import emit, notice

from .results import results_text

HELP = "the whole way on the embedded digits: train, export, verify, compare, time, draw"
OWN_OUTPUT = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("-o", "--output", dest="folder", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument("--force", action="store_true", help="replace the folder of an earlier demo")


def run(args: argparse.Namespace) -> int:
    """Exit code 1 when an artifact failed parity or a worker failed."""
    # Training and export come with it, which the command's help shouldn't wait for.
    from .demo import next_commands, run_demo

    results = run_demo(args.folder, args.force, lambda text: notice(args, text))
    commands = "\n".join(f"  {command}" for command in next_commands(args.folder))
    emit(args, results, f"{results_text(results)}\n\nAll of it is in {args.folder}. Try next:\n{commands}")
    failed = any(row["parity"] == "fail" for row in results["rows"])
    return 1 if failed or any(row["status"] == "failed" for row in results["bench"]["rows"]) else 0

"""``bench`` on the workstation: the device's verb, with the original Keras model's rows on request."""

from __future__ import annotations

import argparse
from pathlib import Path

from pennyweight.bundle import open_bundle
from pennyweight.commands import bench
from pennyweight.output import notice

from .devices.command import add_device_arguments, is_for_devices, run_on_devices
from .instructions.command import add_instructions_arguments, run_instructions
from .original import measure_original

HELP = bench.HELP


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments, --on, --original and --instructions."""
    add_device_arguments(parser, bench)
    parser.add_argument("--original", metavar="MODEL.keras", help="time the original Keras model too, as the baseline")
    add_instructions_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Exit code 1 when a worker failed, or when the model isn't the bundle's original."""
    elsewhere = is_for_devices(args)
    if args.instructions or args.target:
        return run_instructions(args)
    if elsewhere:
        bench.plan_from(args)
        return run_on_devices("bench", args)
    if not args.original:
        return bench.run(args)
    plan = bench.plan_from(args)
    notice(args, f"the original: {args.original} with TensorFlow")
    rows = measure_original(Path(args.original), open_bundle(args.bundle), plan)
    results = bench.measure(args)
    results["rows"] = [*rows, *results["rows"]]
    bench.show(results, args)
    return 1 if any(row["status"] == "failed" for row in results["rows"]) else 0

"""``bench --instructions``: its arguments, and what it does."""

from __future__ import annotations

import argparse
from typing import Any

from pennyweight.bundle import open_bundle
from pennyweight.commands.verify import pairs
from pennyweight.errors import UsageError
from pennyweight.output import emit, notice, progress

MOST_ROUNDS = 100
# Of `bench`'s options those that are about time, or about other machines, with what they are unless they are given.
OTHERS: dict[str, Any] = {"original": None, "seconds": None, "rate": None, "sustain": None, "memory_limit": None}
OTHERS.update(quick=False, threads=[1], seed=1, on=[])


def add_instructions_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --instructions and --target."""
    parser.add_argument(
        "--instructions",
        action="store_true",
        help="count instructions on emulated Raspberry Pis instead: of one image, and of a start",
    )
    parser.add_argument(
        "--target", action="append", metavar="NAME", help="with --instructions: only this target; several times"
    )


def run_instructions(args: argparse.Namespace) -> int:
    """Count and show; exit code 1 when a row failed."""
    from pennyweight_benchmarks.pi import TARGETS

    from .figures import instructions_text
    from .measure import ROUNDS, measure_instructions

    if not args.instructions:
        raise UsageError("--target says where instructions are counted; add --instructions")
    for name, plain in OTHERS.items():
        if getattr(args, name, None) not in (plain, None):
            option = "for" if name == "sustain" else name.replace("_", "-")
            raise UsageError(f"--instructions counts, with one thread and no clock; leave --{option} out")
    targets = list(dict.fromkeys(args.target or TARGETS))
    for name in targets:
        if name not in TARGETS:
            raise UsageError(f"no target {name!r}; the targets are {', '.join(TARGETS)}")
    rounds = ROUNDS if args.rounds is None else args.rounds
    if not 1 <= rounds <= MOST_ROUNDS:
        raise UsageError(f"--rounds {rounds} isn't between 1 and {MOST_ROUNDS}")
    bundle = open_bundle(args.bundle)
    tried = pairs(bundle, args.artifact, args.engine)
    if not tried:
        raise UsageError(f"{args.engine} doesn't read {args.artifact or 'any artifact of this bundle'}")
    document = measure_instructions(bundle, tried, targets, rounds, progress=lambda text: progress(args, text))
    for row in document["rows"]:
        if row["status"] == "failed":
            notice(args, f"{row['target']}: {row['artifact']} on {row['engine']} failed: {row['reason']}")
    emit(args, document, instructions_text(document))
    return 1 if any(row["status"] == "failed" for row in document["rows"]) else 0

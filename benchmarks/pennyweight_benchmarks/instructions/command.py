"""``bench --instructions``: its arguments, and what it does."""

from __future__ import annotations

import argparse

from pennyweight.bundle import open_bundle
from pennyweight.commands.verify import pairs
from pennyweight.errors import UsageError
from pennyweight.output import emit, notice, progress

MOST_ROUNDS = 100


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

    targets = list(dict.fromkeys(args.target or TARGETS))
    for name in targets:
        if name not in TARGETS:
            raise UsageError(f"no target {name!r}; the targets are {', '.join(TARGETS)}")
    rounds = ROUNDS if args.rounds is None else args.rounds
    if not 1 <= rounds <= MOST_ROUNDS:
        raise UsageError(f"--rounds {rounds} isn't between 1 and {MOST_ROUNDS}")
    if args.threads != [1]:
        raise UsageError("--instructions counts with one thread; leave --threads out")
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

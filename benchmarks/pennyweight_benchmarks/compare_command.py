"""``compare``: what changed between two runs."""

from __future__ import annotations

import argparse

from pennyweight.output import emit, notice

HELP = "what changed between two results: ratios with intervals, verdicts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("first", metavar="A.json", help="a result of `bench`, `parity` or `demo`: before")
    parser.add_argument("second", metavar="B.json", help="another: after")
    parser.add_argument(
        "--fail-on-regression",
        action="store_true",
        help="exit 1 when a latency is measurably worse, a verdict got worse or a count grew by over 2 %%, "
        "3 when a row can't be compared",
    )
    parser.add_argument(
        "--allow-different-machines", action="store_true", help="compare results of two machines, and say that they are"
    )


def run(args: argparse.Namespace) -> int:
    """Exit code 0, or what --fail-on-regression says. Counted instructions are compared with counted ones, exactly."""
    from .compare import compare, comparison_text
    from .documents import read_documents
    from .instructions.comparison import compare_instructions, counts_of, counts_text

    first, second = read_documents([args.first]), read_documents([args.second])
    counts = counts_of(first, second)
    result = compare_instructions(*counts) if counts else compare(first, second, args.allow_different_machines)
    emit(args, result, counts_text(result) if counts else comparison_text(result))
    if result.get("machines_differ"):
        notice(args, f"different machines: {result['machines_differ']}")
    if not args.fail_on_regression:
        return 0
    return 1 if result["worse"] else 3 if result["undecided"] else 0

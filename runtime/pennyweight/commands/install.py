"""``install``: a bundle becomes what runs, whole or not at all."""

from __future__ import annotations

import argparse
from typing import Any

from pennyweight.installation import install
from pennyweight.output import emit
from pennyweight.service import Service

from ._arguments import add_bundle, add_restart, add_trust

HELP = "make a bundle the current one in a folder: checked, self-tested, switched in one step"
EXTENSIBLE = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_bundle(parser)
    parser.add_argument("--to", required=True, metavar="DIR", help="where it is installed; load DIR/current")
    add_trust(parser)
    add_restart(parser)
    parser.add_argument("--with-evaluation", action="store_true", help="take the evaluation set along")
    parser.add_argument("--dry-run", action="store_true", help="check and self-test the bundle, change nothing")


def run(args: argparse.Namespace) -> int:
    """Exit code 1 when the bundle or the service failed its test: then what ran before runs."""
    result = install(
        args.bundle,
        args.to,
        trust=args.trust,
        with_evaluation=args.with_evaluation,
        service=Service(args.restart, args.settle) if args.restart is not None else None,
        dry_run=args.dry_run,
    )
    emit(args, result, _text(result))
    return 0


def _text(result: dict[str, Any]) -> str:
    place, name = result["directory"], result["name"]
    if not result["changed"]:
        return f"{place}: {name} is current already ({result['release']}); nothing changed"
    verb = "would become" if result["dry_run"] else "is now"
    lines = [f"{place}: {name} {verb} the current bundle" + (f" ({result['release']})" if result["release"] else "")]
    if result["before"]:
        lines.append(f"before  {result['before']}")
    if result["signed_by"]:
        lines.append(f"signed by  {result['signed_by']}")
    return "\n".join([*lines, self_test_line(result["self_test"])])


def self_test_line(test: dict[str, Any]) -> str:
    """Say what a self-test took and how near its answers were."""
    return (
        f"self-test passed  {test['artifact']} on {test['engine']} {test['engine_version']}, "
        f"{test['samples']} samples, largest difference {test['largest']:.2g} of {test['tolerance']:.2g}"
    )

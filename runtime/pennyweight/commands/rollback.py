"""``rollback``: back to the bundle that was current before."""

from __future__ import annotations

import argparse

from pennyweight.installation import rollback
from pennyweight.output import emit
from pennyweight.service import Service

from ._arguments import add_restart
from .install import self_test_line

HELP = "go back to the bundle that was installed before"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("directory", metavar="DIR", help="the folder that `install --to` was given")
    add_restart(parser)


def run(args: argparse.Namespace) -> int:
    """Exit code 1 when no earlier bundle passes its self-test, or the service doesn't run with it."""
    result = rollback(args.directory, service=Service(args.restart, args.settle) if args.restart is not None else None)
    text = f"{result['directory']}: {result['name']} is the current bundle again ({result['release']})"
    emit(args, result, f"{text}\nbefore  {result['before']}\n{self_test_line(result['self_test'])}")
    return 0

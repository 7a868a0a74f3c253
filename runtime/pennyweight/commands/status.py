"""``status``: which bundle is current in a folder, and since when."""

from __future__ import annotations

import argparse
from typing import Any

from pennyweight.installation import status
from pennyweight.output import emit

HELP = "which bundle is current in a folder, since when, and what came before"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("directory", metavar="DIR", help="the folder that `install --to` was given")


def run(args: argparse.Namespace) -> int:
    """Exit code 1 when the current bundle is damaged."""
    result = status(args.directory)
    lines = [_line("current", result), *(_line("before", one) for one in result["previous"])]
    if not result["confirmed"]:
        lines.append("its install was stopped before the service was seen running: run it again")
    emit(args, result, "\n".join(lines))
    return 1 if result["problem"] else 0


def _line(role: str, one: dict[str, Any]) -> str:
    state = one["problem"] or "every hash right"
    return f"{role:8}{one['name'] or '?'}  ({one['release']})  since {one['since']}, {state}"

"""Count the instructions of the version-1 bundle on the emulated targets, and hold them to the figures that are kept.

    python tests/check_cost.py [--renew] [TARGET …]

The exit code is 1 when a figure grew by over 2 %, 3 when a row can't be compared with the kept one: another version of
an engine or a package, or no counts. --renew keeps today's figures instead, after a change that was meant.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pennyweight import open_bundle
from pennyweight.commands.verify import pairs
from pennyweight.errors import PennyweightError
from pennyweight.output import write_atomically
from pennyweight_benchmarks.documents import Document, check_document, read_documents
from pennyweight_benchmarks.instructions.comparison import compare_instructions, remarks
from pennyweight_benchmarks.instructions.figures import instructions_text
from pennyweight_benchmarks.instructions.measure import measure_instructions
from pennyweight_benchmarks.pi import TARGETS
from support import FIXTURE

KEPT = Path(__file__).parent / "fixtures" / "instructions.json"
RENEW = "if that is meant: `make renew-cost`, look at the difference, and commit tests/fixtures/instructions.json"


def count(targets: Sequence[str], wanted: Sequence[tuple[str, str]] = (), runtime: Path | None = None) -> Document:
    """Count rows of the bundle on targets: those ``wanted`` or all, of this checkout's runtime or another."""
    bundle = open_bundle(FIXTURE)
    wanted = wanted or pairs(bundle, None, None)
    content = measure_instructions(bundle, wanted, targets, runtime=runtime, progress=say)
    return check_document(content, "now")


def judge(kept: Document, now: Document) -> tuple[int, str]:
    """Compare two counts; give the exit code and what to print."""
    result = compare_instructions(_only(kept, now), now)
    lines = remarks(result)
    if result["worse"]:
        lines += [f"GREW: {_grown(row)}" for row in result["rows"] if row["row"] in result["worse"]]
        lines.append(RENEW)
    elif result["undecided"]:
        lines += ["these rows can't be compared with the kept figures, so nothing guards them", RENEW]
    else:
        lines.append("no figure grew by over 2 %")
    return 1 if result["worse"] else 3 if result["undecided"] else 0, "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Count, and compare or keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--renew", action="store_true", help="keep today's figures")
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    args = parser.parse_args(argv)
    try:
        now = count(args.targets or list(TARGETS))
        if not args.renew:
            code, text = judge(read_documents([KEPT])[0], now)
            print(text)
            return code
    except PennyweightError as error:
        say(f"check_cost: {error}")
        return error.exit_code
    print(instructions_text(now.content))
    failed = [row for row in now.content["rows"] if row["status"] == "failed"]
    if failed or args.targets:
        say("not kept: figures are renewed when every target and row has been counted")
        return 1
    write_atomically(KEPT, (json.dumps(now.content, indent=1) + "\n").encode())
    return 0


def say(text: str) -> None:
    """Say something about the work."""
    print(text, file=sys.stderr, flush=True)


def _only(kept: Document, now: Document) -> Document:
    """Give the kept figures of the targets that were counted now."""
    rows = [row for row in kept.content["rows"] if row["target"] in now.content["targets"]]
    return kept._replace(content={**kept.content, "rows": rows})


def _grown(row: dict[str, Any]) -> str:
    figures = [
        f"{name} {one['a']:,} → {one['b']:,} (+{100 * (one['ratio'] - 1):.1f} %)"
        for name, one in row["figures"].items()
        if one["claim"] == "worse"
    ]
    return f"{row['row']}: {'; '.join(figures)}"


if __name__ == "__main__":
    sys.exit(main())

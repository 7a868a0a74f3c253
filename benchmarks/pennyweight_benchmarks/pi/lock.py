"""What the targets are made of: every package's version and hash, in ``lock.json``.

Debian's packages as ``{set: {name: [version, sha256]}}``, wheels as ``{target: {group: {file: sha256}}}``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

LOCK = Path(__file__).with_name("lock.json")
RENEW = "python -m pennyweight_benchmarks.pi lock"

Packages = dict[str, tuple[str, str]]
Wheels = dict[str, dict[str, str]]


class Lock(NamedTuple):
    """The pinned packages: Debian's by set of packages, the index's by target and group."""

    debian: dict[str, Packages]
    wheels: dict[str, Wheels]


def read_lock(path: Path = LOCK) -> Lock:
    """Read the lock file; one that isn't there is empty."""
    if not path.exists():
        return Lock({}, {})
    content = json.loads(path.read_text())
    debian = {name: {key: (row[0], row[1]) for key, row in rows.items()} for name, rows in content["debian"].items()}
    return Lock(debian, content["wheels"])


def write_lock(lock: Lock, path: Path = LOCK) -> None:
    """Write the lock file beside itself, then over itself."""
    beside = path.with_suffix(".new")
    # One package a line, so that a change is read easily.
    text = json.dumps(lock._asdict(), indent=1, sort_keys=True)
    beside.write_text(re.sub(r"\[\n +(.*),\n +(.*)\n +\]", r"[\1, \2]", text) + "\n")
    beside.replace(path)

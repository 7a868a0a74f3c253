"""The counting plugin: compiled from ``counting.c``, and what it writes, read."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from statistics import median_low
from typing import NamedTuple

from pennyweight_benchmarks.pi.cache import kept
from pennyweight_benchmarks.pi.errors import TargetError

from . import guest

SOURCE = Path(__file__).with_name("counting.c")
COMPILERS = ("cc", "gcc", "clang")
OPTIONS = ("-O2", "-shared", "-fPIC")
# What a start is made of, by the mark that ends each part; the names are those of ``bench``'s cold start.
START_PARTS = {
    "interpreter": guest.INTERPRETER,
    "numpy": guest.NUMPY,
    "runtime": guest.RUNTIME,
    "engine": guest.ENGINE,
    "load": guest.LOAD,
    "first run": guest.FIRST,
}
CALL_PARTS = {"classify": guest.CLASSIFY, "bare": guest.BARE}


class Calls(NamedTuple):
    """Instructions of single calls: their median, the fewest and the most, and how many calls were counted."""

    instructions: int
    fewest: int
    most: int
    calls: int


class Counts(NamedTuple):
    """What one process executed: instructions of each part of its start, of single calls, and its threads."""

    start: dict[str, int]
    calls: dict[str, Calls]
    threads: int


def counting_plugin() -> Path:
    """Give the plugin, compiled once; raise TargetError where there is no C compiler or it fails."""
    compiler = find_compiler()
    text = SOURCE.read_text()

    def make(folder: Path, final: Path) -> None:
        command = [compiler, *OPTIONS, str(SOURCE), "-o", str(folder / "counting.so")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            first = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[0]
            raise TargetError(f"{compiler} can't compile {SOURCE.name}: {first[:200]}; install gcc and libc6-dev")

    return kept("counting", [text, OPTIONS], make) / "counting.so"


def find_compiler() -> str:
    """Give a C compiler of this machine: what CC names, or the first that is found."""
    given = os.environ.get("CC")
    found = next(filter(None, map(shutil.which, [given] if given else COMPILERS)), None)
    if found is None:
        missing = f"CC={given} isn't here" if given else "no C compiler is here"
        raise TargetError(f"{missing}, and counting instructions needs one: apt-get install gcc libc6-dev")
    return found


def read_counts(text: str) -> Counts:
    """Read what the plugin wrote of one process; raise TargetError where parts are missing or out of order."""
    start: dict[str, int] = {}
    calls: dict[int, list[int]] = {guest.CLASSIFY: [], guest.BARE: [], guest.EMPTY: []}
    names = {part: name for name, part in START_PARTS.items()}
    threads = 1
    for line in text.splitlines():
        words = line.split()
        if len(words) != 3 or not all(word.isdecimal() for word in words):
            raise TargetError(f"the emulator's counts are damaged: {line[:80]!r}; count again")
        part, instructions, running = map(int, words)
        if part in names:
            start[names[part]] = instructions
        elif part in calls:
            calls[part].append(instructions)
            threads = max(threads, running)
    if list(start) != list(START_PARTS) or not calls[guest.CLASSIFY] or not calls[guest.EMPTY]:
        raise TargetError("the emulator's counts are incomplete: the program ended early; count again")
    # Each part ends with a mark, which takes instructions of its own.
    empty = median_low(calls[guest.EMPTY])
    own = {name: [one - empty for one in calls[part]] for name, part in CALL_PARTS.items()}
    found = {name: Calls(median_low(ones), min(ones), max(ones), len(ones)) for name, ones in own.items() if ones}
    return Counts({name: value - empty for name, value in start.items()}, found, threads)

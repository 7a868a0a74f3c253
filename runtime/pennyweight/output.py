"""Where results go: files whole or not at all, answers to standard output, notices to standard error."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import OutputError

_CLEARED = "\r\x1b[2K"


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file beside its place and rename it there, so that it is never seen half-written; raise OutputError."""
    place = Path(path)
    beside = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(place)
    except OSError as error:
        raise OutputError(f"{place}: can't be written ({error.strerror}); choose another place with -o") from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def emit(args: argparse.Namespace, result: Any, text: str) -> None:
    """Give a verb's result: ``text``, or with ``--json`` the JSON; into the file of ``-o`` instead where one is named.

    A file always gets the JSON, and the text is still printed. On an emulated processor both say so.
    """
    from .emulation import emulation, is_emulated

    if is_emulated():
        result = {**result, "emulated": emulation()} if isinstance(result, dict) else result
        notice(args, f"emulated ({emulation()}): answers are this system's, times and memory are no device's")
    document = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    if getattr(args, "output", None):
        write_atomically(args.output, (document + "\n").encode())
        notice(args, f"wrote {args.output}")
    progress(args, "")
    print(document if args.json else text)


def notice(args: argparse.Namespace, text: str) -> None:
    """Say something about the work on standard error, unless ``--quiet``."""
    if not args.quiet:
        print(_CLEARED + text if sys.stderr.isatty() else text, file=sys.stderr, flush=True)


def progress(args: argparse.Namespace, text: str) -> None:
    """Show what is being done on one line of the terminal, overwritten by the next; "" clears it. Silent elsewhere."""
    if not args.quiet and sys.stderr.isatty():
        columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
        print(_CLEARED + text[: columns - 1], end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def hushed_engines() -> Iterator[None]:
    """Keep what engines' C++ code prints while it loads a model off standard error.

    For commands only: it moves the process's file descriptor 2.
    """
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)

"""What is to be done on every device: a verb, its bundle and its arguments, as the user gave them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pennyweight.bundle import Bundle, open_bundle
from pennyweight.errors import CheckFailedError, IntegrityError, UsageError

# Arguments that name a file here, which has to travel.
FILES = ("trust", "data")
HERE_ONLY = ("original", "instructions", "target")


class Job(NamedTuple):
    """``words`` are the verb's arguments without its files and bundle; ``files`` are local paths by option."""

    verb: str
    bundle: Bundle | None
    words: list[str]
    files: dict[str, Path]
    with_evaluation: bool


class Arguments:
    """A parser that keeps what the user wrote for each argument, so that it can be given on as it was."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parser = parser
        self._actions: list[argparse.Action] = []
        self._written: dict[str, list[str]] = {}

    def add_argument(self, *names: str, **settings: Any) -> argparse.Action:
        """Add an argument to the parser, and remember it."""
        written: list[str] = []
        if "type" in settings:
            settings["type"] = _remembering(settings["type"], written)
        action = self._parser.add_argument(*names, **settings)
        self._actions.append(action)
        self._written[action.dest] = written
        return action

    def words(self, args: argparse.Namespace) -> list[str]:
        """Give the words that say the same to the same verb elsewhere, but for its files and its bundle."""
        words = []
        for action in self._actions:
            value = getattr(args, action.dest)
            if not action.option_strings or action.dest in FILES or value == action.default:
                continue
            option, written = action.option_strings[-1], self._written[action.dest]
            if action.nargs == 0:
                words.append(option)
            elif isinstance(value, list):
                words += [option, *(written[-len(value) :] or value)]
            else:
                words.append(f"{option}={written[-1] if written else value}")
        return words


def make_job(verb: str, args: argparse.Namespace) -> Job:
    """Read the bundle and the arguments here, before any device is troubled.

    Raises:
        UsageError: an option that has no meaning on a device, or a file that isn't there.
        BundleError and its kinds: the bundle can't be read.
    """
    for name in HERE_ONLY:
        if getattr(args, name, None):
            raise UsageError(f"--{name} works on the workstation only; leave it out, or --on")
    files = {name: Path(getattr(args, name)) for name in FILES if getattr(args, name, None)}
    for name, path in files.items():
        if not path.is_file():
            raise UsageError(f"--{name} {path}: no such file")
    bundle = None
    if args.bundle:
        try:
            bundle = open_bundle(args.bundle, trust=getattr(args, "trust", None))
            bundle.check()
        except IntegrityError as error:
            raise CheckFailedError(str(error)) from error
        if getattr(args, "artifact", None):
            bundle.manifest.artifact(args.artifact)
    words = args.device_arguments.words(args)
    needs_evaluation = verb == "verify" or (verb == "parity" and "data" not in files)
    return Job(verb, bundle, words, files, needs_evaluation or bool(getattr(args, "with_evaluation", False)))


def _remembering(convert: Callable[[str], Any], written: list[str]) -> Callable[[str], Any]:
    def remember(text: str) -> Any:
        value = convert(text)
        written.append(text)
        return value

    # argparse names the type in its errors.
    remember.__name__ = getattr(convert, "__name__", "value")
    return remember

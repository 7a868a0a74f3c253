"""The command ``pennyweight``: its verbs, and what every verb shares.

A verb is a module with ``HELP``, ``add_arguments(parser)`` and ``run(args) -> int``. The device's verbs are listed
here; others come from the entry-point group ``pennyweight.commands``, which is read only when it is needed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from . import __version__
from .errors import PennyweightError, UsageError

VERBS = ("info", "predict", "verify", "parity", "bench", "select", "install", "status", "rollback", "doctor")
# Named even where they aren't installed, so that the error can say what to install.
WORKSTATION_VERBS = ("train", "export", "layers", "demo", "compare", "report")
INTERRUPTED = 130
FAULT = 70  # EX_SOFTWARE of sysexits.h
TRACEBACK = "PENNYWEIGHT_TRACEBACK"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `{self.prog} --help`")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and give its exit code: 0 done, 1 a check failed, 2 wrong use or bad input, 3 inconclusive."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    with _Interrupts() as interrupts:
        try:
            code = _dispatch(arguments)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  a user never sees a traceback
            if not (interrupts.pressed or isinstance(error, KeyboardInterrupt)):
                return _failed(error)
        else:
            if not interrupts.pressed:
                return code
    _complain("interrupted; nothing was left half-written")
    return INTERRUPTED


class _Interrupts:
    """Knows whether Ctrl-C was pressed, as a context: an import that it stops may say ImportError instead."""

    pressed = False

    def __enter__(self) -> _Interrupts:
        self._hook = sys.unraisablehook
        # Not where a shell has Ctrl-C ignored, nor in another thread than the first.
        self._heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        try:
            if self._heard:
                signal.signal(signal.SIGINT, self._press)
                signal.signal(signal.SIGALRM, self._press)
                sys.unraisablehook = self._swallowed
        except ValueError:
            self._heard = False
        return self

    def __exit__(self, *_: object) -> None:
        heard, self._heard = self._heard, False  # from here on nothing is raised
        if heard:
            sys.unraisablehook = self._hook
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _press(self, *_: object) -> None:
        self.pressed = True
        if self._heard:
            raise KeyboardInterrupt

    def _swallowed(self, problem: Any) -> None:
        """Raise an interrupt again that Python dropped, in a destructor say; its consequences aren't worth a line."""
        if not self.pressed:
            self._hook(problem)
        elif issubclass(problem.exc_type, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.01)


def _failed(error: BaseException) -> int:
    """Say what failed, in one line, and give the exit code."""
    if isinstance(error, PennyweightError):
        _complain(str(error))
        return error.exit_code
    if isinstance(error, BrokenPipeError):
        # The reader of our output has gone; what Python still holds must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if isinstance(error, MemoryError):
        _complain("out of memory; give it less data at a time or a machine with more")
        return 2
    if isinstance(error, ModuleNotFoundError) and error.name == "numpy":
        _complain("numpy isn't installed here; `pennyweight doctor` says how to mend that")
        return 2
    if os.environ.get(TRACEBACK):
        raise error
    _complain(f"a fault of ours: {type(error).__name__}: {error}; {TRACEBACK}=1 shows where, please report it")
    return FAULT


def run() -> NoReturn:
    """Be the console script."""
    code = main()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # what is left has nothing to clean up
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    sys.exit(code)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"pennyweight {__version__}")
        return 0
    verb = arguments[0]
    module = _module(verb)
    parser = _parser(verb, module)
    args = parser.parse_args(arguments[1:])
    code: int = module.run(args)
    sys.stdout.flush()
    return code


def _parser(verb: str, module: Any) -> argparse.ArgumentParser:
    parser = _Parser(prog=f"pennyweight {verb}", description=module.HELP, allow_abbrev=False)
    module.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--quiet", action="store_true", help="no notices on standard error")
    if not getattr(module, "OWN_OUTPUT", False):
        parser.add_argument("-o", "--output", metavar="FILE", help="write the result as JSON to FILE")
    return parser


def _module(verb: str) -> Any:
    """Give a verb's module. An entry point may extend a device verb that says so with ``EXTENSIBLE``."""
    if verb in VERBS:
        module = importlib.import_module(f".commands.{verb}", __package__)
        if not getattr(module, "EXTENSIBLE", False):
            return module
        return _entry_points().get(verb, lambda: module)()
    found = _entry_points().get(verb)
    if found is not None:
        try:
            return found()
        except ImportError as error:
            raise UsageError(f"`{verb}` can't start ({error}); install pennyweight-workstation again") from error
    if verb in WORKSTATION_VERBS:
        raise UsageError(f"`{verb}` works on the workstation; install pennyweight-workstation there (see the README)")
    raise UsageError(f"no verb {verb!r}; `pennyweight --help` lists them")


def _entry_points() -> dict[str, Any]:
    from importlib.metadata import entry_points

    group = "pennyweight.commands"
    found: Any = entry_points()
    # Python 3.9 gives a dictionary by group, later ones an object with select.
    points = found.select(group=group) if hasattr(found, "select") else found.get(group, ())
    return {point.name: point.load for point in points}


def _overview() -> str:
    verbs = {verb: importlib.import_module(f".commands.{verb}", __package__).HELP for verb in VERBS}
    verbs.update({verb: load().HELP for verb, load in sorted(_entry_points().items()) if verb not in verbs})
    width = max(map(len, verbs))
    lines = [f"  {verb.ljust(width)}  {text}" for verb, text in verbs.items()]
    usage = "usage: pennyweight VERB …      (pennyweight VERB --help says more; --version)\n\n"
    return usage + "\n".join(lines)


def _complain(message: str) -> None:
    with contextlib.suppress(OSError):
        print(f"pennyweight: {' '.join(message.split())}", file=sys.stderr, flush=True)

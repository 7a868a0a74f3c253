"""Every error that Pennyweight raises on purpose, and the exit code that the command gives it.

    PennyweightError            2
    ├── UsageError              2   an option or argument that can't be right
    ├── InputError              2   an array, image or data file that the model can't take
    ├── BundleError             2   a bundle that is missing, incomplete or not a bundle
    │   └── IntegrityError      2   a bundle whose bytes are not the ones that were written
    │       └── SignatureError  2   a bundle that nobody trusted has signed
    ├── OutputError             2   a result that can't be written where it should go
    ├── EngineError             2   an engine refused a model or broke while it ran one
    │   └── EngineMissingError  2   the engine isn't installed
    ├── OutputKindError         2   this output has no single label (`classify` on a regression, say)
    ├── CheckFailedError        1   a gate or self-test said no
    └── InconclusiveError       3   more data would decide

A message is one line: what, where, what to do. Exceptions of other libraries are chained with `from`.
"""

from __future__ import annotations


class PennyweightError(Exception):
    """The root: catch this to catch all of ours."""

    exit_code = 2


class UsageError(PennyweightError):
    """An option or argument that can't be right."""


class InputError(PennyweightError, ValueError):
    """An array, image or data file that the model can't take."""


class BundleError(PennyweightError):
    """A bundle that is missing, incomplete or not a bundle."""


class IntegrityError(BundleError):
    """A bundle whose bytes are not the ones that were written."""


class SignatureError(IntegrityError):
    """A bundle that nobody trusted has signed."""


class OutputError(PennyweightError):
    """A result that can't be written where it should go."""


class EngineError(PennyweightError):
    """An engine refused a model or broke while it ran one."""


class EngineMissingError(EngineError):
    """The engine isn't installed; the message holds the command that installs it."""


class OutputKindError(PennyweightError, TypeError):
    """The output has no single label, so `classify` can't name one; `predict` gives the numbers."""


class CheckFailedError(PennyweightError):
    """A gate or self-test said no."""

    exit_code = 1


class InconclusiveError(PennyweightError):
    """The data can't decide; more of it would."""

    exit_code = 3

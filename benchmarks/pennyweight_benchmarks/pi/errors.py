"""The one error of this package."""

from __future__ import annotations

from pennyweight.errors import PennyweightError


class TargetError(PennyweightError):
    """A target can't be built or run here; the message says what is missing and what to do."""

    exit_code = 1

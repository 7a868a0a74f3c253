"""Keep what TensorFlow's C++ prints off the user's terminal, without losing it when something fails."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back file descriptors 1 and 2 and Python's warnings; an exception carries the end of it as a note.

    The converter and absl write to the descriptors themselves, which no logging level silences.
    """
    with tempfile.TemporaryFile() as log:
        sys.stdout.flush()
        sys.stderr.flush()
        kept = [(number, os.dup(number)) for number in (1, 2)]
        try:
            for number, _ in kept:
                os.dup2(log.fileno(), number)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except Exception as error:
            error.add_note(_tail(log.fileno()))
            raise
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in kept:
                os.dup2(copy, number)
                os.close(copy)


def _tail(descriptor: int, limit: int = 4000) -> str:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, limit, max(0, size - limit)).decode(errors="replace")

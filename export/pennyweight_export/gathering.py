"""Answers that come batch by batch, gathered into one array that need not fit into the memory."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import IO, cast

import numpy as np

from pennyweight.errors import OutputError
from pennyweight_data import StoredRows

from .arrays import MEMORY, Array


class Gathering:
    """``rows`` rows, in memory where they take at most ``MEMORY`` bytes, otherwise in a nameless file in ``folder``.

    The file is gone with the last who holds the array, or with the process, however that ends.
    """

    def __init__(self, rows: int, folder: Path | None) -> None:
        self._rows, self._folder = rows, folder
        self._kept: list[Array] = []
        self._file: IO[bytes] | None = None

    def add(self, piece: Array) -> None:
        """Take the next rows; raise OutputError where the disk is full."""
        if not self._kept and self._rows * (piece.nbytes // len(piece)) > MEMORY:
            self._file = self._opened()
        if self._file is None:
            self._kept.append(piece)
            return
        self._kept = [piece[:0]]
        try:
            self._file.write(np.ascontiguousarray(piece).tobytes())
        except OSError as error:
            raise self._full(error) from error

    def array(self) -> Array:
        """Give all rows together."""
        if self._file is None:
            together: Array = np.concatenate(self._kept)
            return together
        (like,) = self._kept
        shape = (self._rows, *like.shape[1:])
        return cast(Array, StoredRows(self._file, "the model's answers", shape, like.dtype, 0))

    def _opened(self) -> IO[bytes]:
        try:
            return cast("IO[bytes]", tempfile.TemporaryFile(buffering=0, dir=self._folder))
        except OSError as error:
            raise self._full(error) from error

    def _full(self, error: OSError) -> OutputError:
        folder = self._folder or tempfile.gettempdir()
        return OutputError(f"{folder}: the model's answers can't be kept there ({error.strerror}); make room for them")

"""Arrays that may be larger than the memory: their rows stay in a file and are read when they are asked for."""

from __future__ import annotations

import math
import weakref
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from pennyweight.errors import InputError

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]

# What is looked at together: big enough to be fast, small enough not to count.
PIECE_ROWS = 4096
PIECE_BYTES = 16 * 2**20
AGAIN = "write or fetch it again"


class Rows(ABC):
    """What code that works row by row needs of an ndarray, where the rows are elsewhere.

    ``shape``, ``dtype``, ``ndim``, ``nbytes``, ``len``, ``min``, ``max``, ``astype`` and ``reshape`` (of a row; the
    first axis stays) mean what they mean of an ndarray; the last two give other Rows. ``rows[start:stop]`` and
    ``rows[indices]`` read, and give ndarrays; ascending indices are the fast ones. ``np.asarray`` reads everything.
    Reading raises InputError where the source is damaged or was changed meanwhile.
    """

    # Rows no further apart than this are read with what lies between them, which costs less than reading twice.
    gap_bytes = 4096

    def __init__(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self.shape = shape
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self._ends: tuple[Any, Any] | None = None

    @abstractmethod
    def _read(self, start: int, stop: int) -> Array:
        """Give the rows from ``start`` up to ``stop``."""

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """The number of axes, the rows' own among them."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """What all rows would take in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __getitem__(self, wanted: slice | Indices) -> Array:
        if isinstance(wanted, slice):
            start, stop, step = wanted.indices(len(self))
            if step == 1:
                return self._read(start, max(start, stop))
            wanted = np.arange(start, stop, step)
        found = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        order = np.argsort(wanted, kind="stable")
        gap = max(1, self.gap_bytes // max(1, self.nbytes // max(1, len(self))))
        for start in range(0, len(order), PIECE_ROWS):
            places = order[start : start + PIECE_ROWS]
            rows = wanted[places]
            for run in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows) > gap) + 1):
                first, last = int(rows[run[0]]), int(rows[run[-1]])
                found[places[run]] = self._read(first, last + 1)[rows[run] - first]
        return found

    def __array__(self, dtype: npt.DTypeLike = None, copy: bool | None = None) -> Array:
        whole, at = np.empty(self.shape, self.dtype), 0
        for piece in self.pieces():
            whole[at : at + len(piece)] = piece
            at += len(piece)
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def pieces(self) -> Iterator[Array]:
        """Give all rows, piece by piece; where the source has a checksum, the end of them holds it to that."""
        step = piece_rows(self)
        for start in range(0, len(self), step):
            yield self._read(start, min(start + step, len(self)))

    def min(self) -> Any:
        """Give the least value; NaN where there is one."""
        return self._range()[0]

    def max(self) -> Any:
        """Give the greatest value; NaN where there is one."""
        return self._range()[1]

    def _range(self) -> tuple[Any, Any]:
        if self._ends is None:
            ends = [(piece.min(), piece.max()) for piece in self.pieces()]
            self._ends = np.min([low for low, _ in ends]), np.max([high for _, high in ends])
        return self._ends

    def astype(self, dtype: npt.DTypeLike, copy: bool = True) -> Rows:
        """Give the rows in another dtype; ``copy`` is there as ndarray has it."""
        wanted = np.dtype(dtype)
        return self if wanted == self.dtype else _Changed(self, self.shape, wanted)

    def reshape(self, *shape: int) -> Rows:
        """Give the rows in another shape, of which the first axis stays."""
        if shape[0] not in (-1, len(self)) or math.prod(shape[1:]) != math.prod(self.shape[1:]):
            raise ValueError(f"rows of {self.shape[1:]} can't be reshaped to {shape}")
        return _Changed(self, (len(self), *shape[1:]), self.dtype)

    def picked(self, indices: Indices) -> Rows:
        """Give the rows with these numbers, to be read when they are asked for."""
        return _Picked(self, indices)


class _Changed(Rows):
    """Other rows in another shape and dtype."""

    def __init__(self, source: Rows, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        super().__init__(shape, dtype)
        self._source, self.gap_bytes = source, source.gap_bytes

    def _read(self, start: int, stop: int) -> Array:
        return self._source[start:stop].astype(self.dtype, copy=False).reshape(stop - start, *self.shape[1:])


class _Picked(Rows):
    """Some of other rows."""

    def __init__(self, source: Rows, indices: Indices) -> None:
        super().__init__((len(indices), *source.shape[1:]), source.dtype)
        self._source, self._indices, self.gap_bytes = source, indices, 0

    def _read(self, start: int, stop: int) -> Array:
        return self._source[self._indices[start:stop]]


class StoredRows(Rows):
    """Rows that lie in a file as they are, one after the other from byte ``start``, read by position.

    ``where`` names them in errors. ``checksum`` is the CRC-32 of what lies from byte ``since`` to their end. They are
    not mapped: a mapped file's pages count as this process's memory as long as nobody else needs it.
    """

    def __init__(
        self,
        file: IO[bytes],
        where: str,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        start: int,
        checksum: int | None = None,
        since: int | None = None,
    ) -> None:
        super().__init__(shape, dtype)
        self._file, self._where, self._start = file, where, start
        self._checksum, self._since = checksum, start if since is None else since
        weakref.finalize(self, file.close)

    def _read(self, start: int, stop: int) -> Array:
        rows = np.empty((stop - start, *self.shape[1:]), self.dtype)
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        self._fill(_bytes(rows), self._start + start * row)
        return rows

    def _fill(self, view: memoryview, at: int) -> None:
        try:
            self._file.seek(at)
            while view:
                got = cast(Any, self._file).readinto(view)
                if not got:
                    raise InputError(f"{self._where}: truncated; {AGAIN}")
                view = view[got:]
        except OSError as error:
            raise InputError(f"{self._where}: can't be read ({error.strerror})") from error

    def pieces(self) -> Iterator[Array]:
        """Give all rows, piece by piece, and hold them to their checksum."""
        head = bytearray(self._start - self._since)
        self._fill(memoryview(head), self._since)
        running = zlib.crc32(head)
        for piece in super().pieces():
            running = zlib.crc32(_bytes(piece), running)
            yield piece
        if self._checksum not in (None, running):
            raise InputError(f"{self._where} is damaged (its checksum differs); {AGAIN}")


class StreamRows(Rows):
    """Rows of a stream that is only read onwards, such as a compressed file: to go back is to start again.

    ``opened`` gives the stream at the first row, and ``where`` names it in errors.
    """

    def __init__(
        self, opened: Callable[[], IO[bytes]], where: str, shape: tuple[int, ...], dtype: npt.DTypeLike
    ) -> None:
        super().__init__(shape, dtype)
        self._opened, self._where = opened, where
        self._stream: IO[bytes] | None = None
        self._at = 0

    def _read(self, start: int, stop: int) -> Array:
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        if self._stream is None or start < self._at:
            self._restart()
        while self._at < start:
            skipped = min(start - self._at, max(1, PIECE_BYTES // max(1, row)))
            self._take(skipped * row)
            self._at += skipped
        content = self._take((stop - start) * row)
        self._at = stop
        # A bytearray, so that the array can be written to like any other.
        return np.frombuffer(bytearray(content), self.dtype).reshape(stop - start, *self.shape[1:])

    def _restart(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream, self._at = self._opened(), 0
        weakref.finalize(self, self._stream.close)

    def _take(self, size: int) -> bytes:
        stream = cast("IO[bytes]", self._stream)
        try:
            content = stream.read(size)
        except Exception as error:  # each decompressor has exceptions of its own for damaged data
            raise InputError(f"{self._where} is damaged ({error}); {AGAIN}") from error
        if len(content) != size:
            raise InputError(f"{self._where}: truncated; {AGAIN}")
        return content

    def pieces(self) -> Iterator[Array]:
        """Give all rows, piece by piece, and hold the stream to ending there."""
        yield from super().pieces()
        if self._stream is None:
            self._restart()
        # Decompressors compare their checksum when they are asked for more than there is.
        try:
            more = cast("IO[bytes]", self._stream).read(1)
        except Exception as error:
            raise InputError(f"{self._where} is damaged ({error}); {AGAIN}") from error
        if more:
            raise InputError(f"{self._where}: too long for what its header says; {AGAIN}")


def _bytes(rows: Array) -> memoryview:
    """Give the memory of rows, of whatever byte order."""
    return memoryview(cast(Any, rows.reshape(-1).view(np.uint8)))


def piece_rows(array: Array | Rows) -> int:
    """Give how many rows make a piece."""
    return min(PIECE_ROWS, max(1, PIECE_BYTES // max(1, array.nbytes // max(1, len(array)))))


def pieces(array: Array | Rows) -> Iterator[Array]:
    """Give all rows of either kind, piece by piece."""
    if isinstance(array, Rows):
        yield from array.pieces()
    else:
        step = piece_rows(array)
        for start in range(0, len(array), step):
            yield array[start : start + step]


def picked(array: Array | Rows, indices: Indices, memory: int | None) -> Array:
    """Give the rows with these numbers: as an ndarray where they take at most ``memory`` bytes, otherwise lazily."""
    if isinstance(array, Rows):
        return settled(array.picked(indices), memory)
    return array[indices]


def settled(array: Array | Rows, memory: int | None) -> Array:
    """Read rows that take at most ``memory`` bytes; larger ones stay where they are. None reads whatever it takes.

    What stays is typed as an array, for the code behind works on either as long as it works row by row.
    """
    if isinstance(array, Rows) and memory is not None and array.nbytes > memory:
        return cast(Array, array)
    return np.asarray(array)

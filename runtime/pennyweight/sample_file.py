"""An ``.npz`` of samples that is read in pieces, so that an evaluation set may be larger than the memory.

Arrays are named as in ``samples``. Of a member stored column by column (Fortran's order) the whole is read at once, as
its rows lie scattered.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .errors import BundleError
from .samples import Samples

if TYPE_CHECKING:
    from .manifest import Manifest

Array = Any  # np.ndarray[Any, Any] can't be subscripted at run time on numpy 1.21

# Rows of a piece. It is a part of what a figure means to the last digit: sums are made piece by piece.
PIECE_ROWS = 1024
PIECE_BYTES = 16 * 2**20
# What a file that wasn't written as samples should have been.
LACKING = (
    "it needs inputs/NAME, outputs/NAME (the original's answers) and labels, as a bundle's evaluation.npz has them"
)


def piece_rows(manifest: Manifest) -> int:
    """Give how many samples of a model make a piece."""
    shapes = [(spec.shape, spec.dtype) for spec in manifest.inputs]
    shapes += [(spec.shape, "float32") for spec in manifest.outputs]
    sample = sum(int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in shapes)
    return max(1, min(PIECE_ROWS, PIECE_BYTES // max(sample, 1)))


class _Header(NamedTuple):
    shape: tuple[int, ...]
    dtype: Any
    fortran: bool


class SampleFile:
    """Samples in a binary file object, held to the manifest's names, shapes and dtypes; nothing is read before asked.

    ``where`` names the file in errors. Raises BundleError for a file that isn't what the manifest says.
    """

    def __init__(self, file: IO[bytes], manifest: Manifest, where: str) -> None:
        self.where = where
        self._file = file
        try:
            self._hold_to(manifest)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> SampleFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _hold_to(self, manifest: Manifest) -> None:
        where = self.where
        try:
            self._archive = zipfile.ZipFile(self._file)
            self._headers = {name[:-4]: self._header(name) for name in self._archive.namelist()}
        except (zipfile.BadZipFile, ValueError, OSError, EOFError, KeyError, NotImplementedError) as error:
            raise BundleError(f"{where}: not readable as .npz; {LACKING}") from error
        wanted = {f"inputs/{spec.name}": (spec.shape, spec.dtype) for spec in manifest.inputs}
        wanted.update({f"outputs/{spec.name}": (spec.shape, "float32") for spec in manifest.outputs})
        for name, (shape, dtype) in wanted.items():
            self._check(name, shape, dtype)
        self._names = [*wanted, *(["labels"] if "labels" in self._headers else [])]
        counts = {self._headers[name].shape[:1] for name in self._names}
        if len(counts) != 1 or counts == {()}:
            raise BundleError(f"{where}: its arrays have different numbers of samples; make the file again")
        ((self.rows,),) = counts
        self.piece_rows = piece_rows(manifest)

    @property
    def labelled(self) -> bool:
        """Whether there are labels."""
        return "labels" in self._headers

    @property
    def pieces(self) -> int:
        """The number of pieces that all samples make."""
        return -(-self.rows // self.piece_rows)

    def read(self, first: int, stop: int) -> Iterator[Samples]:
        """Give the pieces from number ``first`` up to ``stop``, each with ``piece_rows`` samples but for the last."""
        start, end = first * self.piece_rows, min(stop * self.piece_rows, self.rows)
        readers = {name: self._rows(name, start) for name in self._names}
        for at in range(start, end, self.piece_rows):
            count = min(self.piece_rows, end - at)
            try:
                arrays = {name: reader(count) for name, reader in readers.items()}
            except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
                raise BundleError(f"{self.where}: damaged; copy it again") from error
            yield Samples(_part(arrays, "inputs/"), _part(arrays, "outputs/"), arrays.get("labels"))

    def outputs(self) -> Iterator[dict[str, Array]]:
        """Give the original's outputs alone, piece by piece."""
        readers = {name: self._rows(name, 0) for name in self._names if name.startswith("outputs/")}
        for at in range(0, self.rows, self.piece_rows):
            count = min(self.piece_rows, self.rows - at)
            yield _part({name: reader(count) for name, reader in readers.items()}, "outputs/")

    def _header(self, name: str) -> _Header:
        with self._archive.open(name) as member:
            return _read_header(member)

    def _check(self, name: str, shape: tuple[int, ...], dtype: str) -> None:
        header = self._headers.get(name)
        if header is None:
            raise BundleError(f"{self.where}: no array {name!r}; {LACKING}")
        if header.dtype != np.dtype(dtype) or header.shape[1:] != shape or not header.shape:
            raise BundleError(
                f"{self.where}: {name} is {header.dtype} {header.shape}, the manifest says {dtype} (n, {shape})"
            )

    def _rows(self, name: str, start: int) -> Any:
        """Give the function from a number of rows to the next rows of an array, beginning at ``start``."""
        header, member = self._headers[name], self._archive.open(f"{name}.npy")
        _read_header(member)
        row = int(np.prod(header.shape[1:])) * header.dtype.itemsize
        if header.fortran and len(header.shape) > 1:
            whole = np.frombuffer(member.read(), header.dtype).reshape(header.shape, order="F")
            place = iter(range(start, self.rows + 1, self.piece_rows))
            return lambda count: whole[(at := next(place)) : at + count]
        member.seek(start * row, 1)

        def following(count: int) -> Array:
            raw = member.read(count * row)
            return np.frombuffer(raw, header.dtype).reshape(count, *header.shape[1:])

        return following


def _part(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}


def _read_header(member: IO[bytes]) -> _Header:
    layout: Any = np.lib.format
    version = layout.read_magic(member)
    reader = {(1, 0): layout.read_array_header_1_0, (2, 0): layout.read_array_header_2_0}.get(version)
    if reader is None:
        raise ValueError(f"version {version} of .npy")
    shape, fortran, dtype = reader(member)
    if dtype.hasobject:
        raise ValueError("an array of Python objects")
    return _Header(shape, dtype, fortran)

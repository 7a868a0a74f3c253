"""NumPy's file formats, opened without reading more than the header: ``.npy``, and the members of an ``.npz``."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .rows import AGAIN, Rows, StoredRows, StreamRows

Array = npt.NDArray[Any]

ENCRYPTED = 1
LOCAL_HEADER = 30  # bytes of a member's own header in a zip, before its name


class PickledError(ValueError):
    """The array holds Python objects, which only code from the file could make."""


class _Header(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    size: int

    @property
    def promised(self) -> int:
        return self.size + math.prod(self.shape) * self.dtype.itemsize


def open_npy(path: Path) -> Array | Rows:
    """Give the array of an ``.npy`` file, read by position.

    Raise PickledError, another ValueError or EOFError for what is no such file, OSError where it can't be read.
    """
    file = path.open("rb", buffering=0)
    try:
        header, size = _read_header(file), path.stat().st_size
        if size < header.promised:
            raise ValueError(f"truncated, {size:,} bytes where its header says {header.promised:,}")
        if header.fortran or not header.shape:
            return _whole(file, header)
        return StoredRows(file, str(path), header.shape, header.dtype, header.size)
    except BaseException:
        file.close()
        raise


def open_member(path: Path, archive: zipfile.ZipFile, name: str) -> Array | Rows:
    """Give an array of an ``.npz``: a stored one is read by position, a compressed one from its beginning each time.

    Raise PickledError, or whatever a damaged archive leads to.
    """
    info, where = archive.getinfo(f"{name}.npy"), f"{path}: {name}"
    with archive.open(info) as member:
        header = _read_header(member)
        if info.file_size != header.promised:
            raise ValueError(f"{info.file_size:,} bytes where its header says {header.promised:,}")
        if header.fortran or not header.shape:
            return _whole(member, header)
    if info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & ENCRYPTED:
        file = path.open("rb", buffering=0)
        start = _member_start(file, info)
        return StoredRows(file, where, header.shape, header.dtype, start + header.size, info.CRC, start)

    def opened() -> IO[bytes]:
        member = archive.open(info)
        _read_header(member)
        return member

    return StreamRows(opened, where, header.shape, header.dtype)


def _member_start(file: IO[bytes], info: zipfile.ZipInfo) -> int:
    file.seek(info.header_offset)
    head = file.read(LOCAL_HEADER)
    if len(head) < LOCAL_HEADER or head[:4] != b"PK\x03\x04":
        file.close()
        raise zipfile.BadZipFile("no header where the archive's table says")
    # The lengths of the name and of the extra field, which lie between the header and the member.
    name, extra = int.from_bytes(head[26:28], "little"), int.from_bytes(head[28:30], "little")
    return info.header_offset + LOCAL_HEADER + name + extra


def _read_header(stream: IO[bytes]) -> _Header:
    layout: Any = np.lib.format
    version = layout.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of .npy")
    reader = layout.read_array_header_1_0 if version == (1, 0) else layout.read_array_header_2_0
    shape, fortran, dtype = reader(stream)
    if dtype.hasobject:
        raise PickledError("pickled objects, which could run code")
    return _Header(shape, dtype, fortran and len(shape) > 1, stream.tell())


def _whole(stream: IO[bytes], header: _Header) -> Array:
    """Read an array whose rows lie scattered, as it was stored column by column, or that has no rows."""
    with stream:
        content = stream.read(header.promised - header.size)
    if len(content) != header.promised - header.size:
        raise EOFError(f"truncated; {AGAIN}")
    order = "F" if header.fortran else "C"
    return np.frombuffer(bytearray(content), header.dtype).reshape(header.shape, order=order)  # type: ignore[call-overload, no-any-return]

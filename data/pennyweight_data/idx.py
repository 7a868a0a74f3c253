"""Idx files, the format of MNIST and Fashion-MNIST, gzipped or not.

The format is the one at the end of LeCun, Cortes and Burges' MNIST page: two zero bytes, a type code, the number of
dimensions, one big-endian 32-bit size for each, then the elements, last dimension fastest.
"""

from __future__ import annotations

import gzip
import itertools
import math
import struct
import zlib
from pathlib import Path
from typing import IO, cast

import numpy as np
import numpy.typing as npt

from pennyweight.errors import InputError

from .dataset import Dataset, make_dataset
from .rows import Rows, StoredRows, StreamRows

UInt8 = npt.NDArray[np.uint8]

KINDS = ("images-idx3", "labels-idx1")
UNSIGNED_BYTE = 0x08
GZIP_MAGIC = b"\x1f\x8b"
LONGEST_HEADER = 4 + 4 * 255


def parse_idx(content: bytes, where: str) -> UInt8:
    """Read an idx file's bytes into a uint8 array of the shape its header says.

    ``where`` names the file in errors. Raise InputError where the content is no idx file of unsigned bytes or its
    length is not the one that the header promises.
    """
    shape, start = _header(content, where)
    _check_length(len(content), shape, start, where)
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def open_idx(path: Path) -> Rows:
    """Open an idx file, gzipped or not; raise InputError as ``parse_idx`` does, of a gzipped one's length later."""
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == GZIP_MAGIC
        with _stream(path, zipped) as stream:
            head = stream.read(LONGEST_HEADER)
        size = path.stat().st_size
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: its gzip data is damaged ({error}); fetch it again") from error
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror})") from error
    shape, start = _header(head, str(path))
    if not zipped:
        _check_length(size, shape, start, str(path))
        return StoredRows(path.open("rb", buffering=0), str(path), shape, np.uint8, start)

    def opened() -> IO[bytes]:
        stream = _stream(path, zipped)
        stream.read(start)
        return stream

    return StreamRows(opened, f"{path}: its gzip data", shape, np.uint8)


def _stream(path: Path, zipped: bool) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if zipped else path.open("rb")


def _header(content: bytes, where: str) -> tuple[tuple[int, ...], int]:
    """Give the shape that an idx file begins with, and where its elements begin."""
    if len(content) < 4 or content[:2] != b"\0\0":
        raise InputError(f"{where}: not an idx file (it starts with {content[:4].hex() or 'nothing'}); fetch it again")
    code, dimensions = content[2], content[3]
    if code != UNSIGNED_BYTE:
        raise InputError(f"{where}: idx type code 0x{code:02x}; only unsigned bytes (0x08) are read")
    start = 4 + 4 * dimensions
    if not dimensions or len(content) < start:
        raise InputError(f"{where}: truncated in its header ({len(content)} bytes); fetch it again")
    return struct.unpack(f">{dimensions}I", content[4:start]), start


def _check_length(size: int, shape: tuple[int, ...], start: int, where: str) -> None:
    promised = start + math.prod(shape)
    if size != promised:
        kind = "truncated" if size < promised else "too long"
        raise InputError(f"{where}: {kind}, {size:,} bytes where its header says {promised:,}; fetch it again")


def load_idx(folder: Path, seed: int, memory: int | None = None) -> Dataset:
    """Read a folder of idx files named as MNIST's and Fashion-MNIST's are.

    Those are ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and, for the test part, both with ``t10k`` for
    ``train``; ``.idx`` for ``-idx`` and ``.gz`` at the end will do too. Images of more than ``memory`` bytes stay in
    their file; None reads all. Raise InputError where one is missing or damaged.
    """
    train, test = _pair(folder, "train"), _pair(folder, "t10k")
    if train is None:
        raise InputError(f"{folder}: no train-images-idx3-ubyte and train-labels-idx1-ubyte; add them")
    return make_dataset(str(folder), train, test, seed=seed, memory=memory)


def idx_files(folder: Path) -> dict[str, Path]:
    """Give the idx files of a folder by their plain name, such as ``train-images-idx3-ubyte``."""
    found: dict[str, Path] = {}
    for part, kind, separator, ending in itertools.product(("train", "t10k"), KINDS, ("-", "."), ("", ".gz")):
        path = folder / f"{part}-{kind.replace('-', separator)}-ubyte{ending}"
        if path.is_file():
            found.setdefault(f"{part}-{kind}-ubyte", path)
    return found


def _pair(folder: Path, part: str) -> tuple[Rows, Rows] | None:
    files = idx_files(folder)
    names = [f"{part}-{kind}-ubyte" for kind in KINDS]
    have = [name for name in names if name in files]
    if not have:
        return None
    if len(have) < len(names):
        raise InputError(f"{folder}: {have[0]} is there, {(set(names) - set(have)).pop()} isn't; add it")
    images, labels = (open_idx(files[name]) for name in names)
    return images, labels

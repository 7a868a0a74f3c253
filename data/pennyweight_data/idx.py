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

import numpy as np
import numpy.typing as npt

from pennyweight.errors import InputError

from .dataset import Dataset, make_dataset

UInt8 = npt.NDArray[np.uint8]

KINDS = ("images-idx3", "labels-idx1")
UNSIGNED_BYTE = 0x08
GZIP_MAGIC = b"\x1f\x8b"


def parse_idx(content: bytes, where: str) -> UInt8:
    """Read an idx file's bytes, gzipped or not, into a uint8 array of the shape its header says.

    ``where`` names the file in errors. Raise InputError where the content is no idx file of unsigned bytes or its
    length is not the one that the header promises.
    """
    if content[:2] == GZIP_MAGIC:
        content = _gunzip(content, where)
    if len(content) < 4 or content[:2] != b"\0\0":
        raise InputError(f"{where}: not an idx file (it starts with {content[:4].hex() or 'nothing'}); fetch it again")
    code, dimensions = content[2], content[3]
    if code != UNSIGNED_BYTE:
        raise InputError(f"{where}: idx type code 0x{code:02x}; only unsigned bytes (0x08) are read")
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise InputError(f"{where}: truncated in its header ({len(content)} bytes); fetch it again")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    promised = start + math.prod(shape)
    if len(content) != promised:
        kind = "truncated" if len(content) < promised else "too long"
        raise InputError(f"{where}: {kind}, {len(content):,} bytes where its header says {promised:,}; fetch it again")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _gunzip(content: bytes, where: str) -> bytes:
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(f"{where}: its gzip data is damaged ({error}); fetch it again") from error


def load_idx(folder: Path, seed: int) -> Dataset:
    """Read a folder of idx files named as MNIST's and Fashion-MNIST's are.

    Those are ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and, for the test part, both with ``t10k`` for
    ``train``; ``.idx`` for ``-idx`` and ``.gz`` at the end will do too. Raise InputError where one is missing or
    damaged.
    """
    train, test = _pair(folder, "train"), _pair(folder, "t10k")
    if train is None:
        raise InputError(f"{folder}: no train-images-idx3-ubyte and train-labels-idx1-ubyte; add them")
    return make_dataset(str(folder), train, test, seed=seed)


def idx_files(folder: Path) -> dict[str, Path]:
    """Give the idx files of a folder by their plain name, such as ``train-images-idx3-ubyte``."""
    found: dict[str, Path] = {}
    for part, kind, separator, ending in itertools.product(("train", "t10k"), KINDS, ("-", "."), ("", ".gz")):
        path = folder / f"{part}-{kind.replace('-', separator)}-ubyte{ending}"
        if path.is_file():
            found.setdefault(f"{part}-{kind}-ubyte", path)
    return found


def _pair(folder: Path, part: str) -> tuple[UInt8, UInt8] | None:
    files = idx_files(folder)
    names = [f"{part}-{kind}-ubyte" for kind in KINDS]
    have = [name for name in names if name in files]
    if not have:
        return None
    if len(have) < len(names):
        raise InputError(f"{folder}: {have[0]} is there, {(set(names) - set(have)).pop()} isn't; add it")
    images, labels = (parse_idx(_read(files[name]), str(files[name])) for name in names)
    return images, labels


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror})") from error

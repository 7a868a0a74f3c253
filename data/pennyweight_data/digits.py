"""The embedded digits: 5,000 MNIST training images and the 10,000 MNIST test images, 28×28.

Their origin and licence stand beside them in ``DIGITS-LICENCE.md``; ``python -m pennyweight_data.rebuild`` makes the
file again from the packages named there.
"""

from __future__ import annotations

import bz2
import functools
import hashlib
import io
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pennyweight.errors import InputError, UsageError

from .resize import imresize

UInt8 = npt.NDArray[np.uint8]
Int64 = npt.NDArray[np.int64]

FILE = "digits.npy.bz2"
# bzip2's output has been the same for twenty years, so the file can be rebuilt to the byte; xz saves 4 % and can't.
FILE_SHA256 = "f15996f57360144068e7d1cf5a4448becdb231f05b9ee85325ee877aefe90cba"
LAB_SIZE = 20
ORIGINAL_SIZE = 28


class Digits(NamedTuple):
    """Handwritten digits, upright, 0 is paper and 255 is ink; labels are the digits 0–9.

    ``x_train`` (5000, size, size) uint8, 500 of each digit in class order; ``y_train`` (5000,) int64; ``x_test``
    (10000, size, size) uint8; ``y_test`` (10000,) int64.
    """

    x_train: UInt8
    y_train: Int64
    x_test: UInt8
    y_test: Int64


class LabDigits(NamedTuple):
    """The lab's arrays: ``X`` (5000, 400) float64, each image unrolled column by column, and ``y`` (5000, 1) int64."""

    X: npt.NDArray[np.float64]
    y: Int64


def load_digits(size: int = LAB_SIZE) -> Digits:
    """Give the embedded digits as pixels.

    ``size`` is 28 for the originals or 20 for the lab's size: resized as in ``load_lab_digits``, then rounded and
    clipped to 0…255. Raise UsageError on another size and InputError where the embedded file is damaged.
    """
    if size not in (LAB_SIZE, ORIGINAL_SIZE):
        raise UsageError(f"size {size}: the digits come in {LAB_SIZE} (the lab's) and {ORIGINAL_SIZE} (the originals)")
    originals = _originals()
    x_train, x_test = originals.x_train, originals.x_test
    if size == ORIGINAL_SIZE:
        return Digits(x_train.copy(), originals.y_train.copy(), x_test.copy(), originals.y_test.copy())
    return Digits(_pixels(x_train), originals.y_train.copy(), _pixels(x_test), originals.y_test.copy())


def load_lab_digits() -> LabDigits:
    """Give the lab's data set: the 5,000 training digits, 500 of each in class order.

    Each image is divided by 255, resized to 20×20 with MATLAB's ``imresize`` and unrolled column by column, so that
    ``X[i].reshape(20, 20).T`` is upright; values run from −0.13196 to 1.12769. Raise InputError where the embedded
    file is damaged.
    """
    originals = _originals()
    return LabDigits(lab_preparation(originals.x_train), originals.y_train.reshape(-1, 1).copy())


def lab_preparation(images: UInt8) -> npt.NDArray[np.float64]:
    """Turn (n, 28, 28) uint8 MNIST images into the lab's (n, 400) float64 rows."""
    small = imresize(images, LAB_SIZE) / 255
    return small.transpose(0, 2, 1).reshape(len(images), LAB_SIZE * LAB_SIZE)


def _pixels(images: UInt8) -> UInt8:
    # A few dozen values are halves but for rounding errors, which differ between processors: the margin sends every
    # half up, as MATLAB does; no other value is within 2e-6 of a half.
    pixels: UInt8 = np.clip(np.floor(imresize(images, LAB_SIZE) + (0.5 + 1e-9)), 0, 255).astype(np.uint8)
    return pixels


@functools.cache
def _originals() -> Digits:
    packed = resources.files(__package__).joinpath(FILE).read_bytes()
    if hashlib.sha256(packed).hexdigest() != FILE_SHA256:
        raise InputError(f"{FILE}: the embedded digits are damaged; install pennyweight-workstation again")
    return unpack_digits(packed)


def pack_digits(digits: Digits) -> bytes:
    """Compress the digits for the package: four arrays in ``.npy`` format one after the other, labels as uint8."""
    stream = io.BytesIO()
    for array in digits:
        np.save(stream, array.astype(np.uint8), allow_pickle=False)
    return bz2.compress(stream.getvalue(), 9)


def unpack_digits(packed: bytes) -> Digits:
    """Undo ``pack_digits``."""
    stream = io.BytesIO(bz2.decompress(packed))
    x_train, y_train, x_test, y_test = (_read(stream) for _ in Digits._fields)
    return Digits(x_train, y_train.astype(np.int64), x_test, y_test.astype(np.int64))


def _read(stream: io.BytesIO) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.load(stream, allow_pickle=False)
    return array

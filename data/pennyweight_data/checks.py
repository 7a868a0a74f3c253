"""What is held against arrays before they are trained or measured on; each failure says which array and where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pennyweight.errors import InputError

from .rows import Rows, pieces

Array = npt.NDArray[Any]

# A label beyond this is an identifier or a damaged number; a network with so many outputs fits into no memory.
MOST_CLASSES = 10**7


def check_inputs(name: str, what: str, x: Array | Rows) -> None:
    """Refuse inputs that aren't numbers, have no rows or no shape, or hold NaN or infinity; raise InputError."""
    if x.dtype.kind not in "buif":
        raise InputError(f"{name}: {what} is {x.dtype}; store numbers (uint8 pixels or float32, say)")
    if x.ndim < 2:
        raise InputError(f"{name}: {what} has shape {x.shape}; it must be (samples, …), reshape(-1, 1) for one number")
    if 0 in x.shape:
        raise InputError(f"{name}: {what} is empty, shape {x.shape}")
    check_finite(name, what, x)


def check_finite(name: str, what: str, array: Array | Rows) -> None:
    """Refuse NaN and infinity and say where the first one is; raise InputError. Rows of a file are all read."""
    if array.dtype.kind != "f" and not isinstance(array, Rows):
        return
    start = 0
    for rows in pieces(array):
        finite = np.isfinite(rows)
        if not finite.all():
            first = np.argwhere(~finite)[0]
            value = rows[tuple(first)]
            first[0] += start
            where = ", ".join(str(index) for index in first)
            raise InputError(f"{name}: {what}[{where}] is {value}; clean the data, only finite numbers can be used")
        start += len(rows)


def clean_answers(name: str, what: str, y: Array | Rows) -> Array | Rows:
    """Give class numbers as (n,) int64, and as they are floating-point targets and integers that aren't one a sample.

    Those are classes of each pixel or step, or zeros and ones of several labels. Raise InputError on other dtypes,
    one-hot rows of integers, and NaN or infinity.
    """
    if y.dtype.kind == "f":
        if y.ndim < 1:
            raise InputError(f"{name}: {what} is a single number; it must have one row a sample")
        check_finite(name, what, y)
        return y
    if y.dtype.kind not in "bui":
        raise InputError(f"{name}: {what} is {y.dtype}; store class numbers as integers, or targets as float32")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y.reshape(-1)
    if y.ndim == 1:
        y = np.asarray(y)
        if len(y) and int(y.max()) >= MOST_CLASSES:
            raise InputError(
                f"{name}: {what}[{int(y.argmax())}] is {y.max()}; number the classes from 0, one after the other"
            )
        return y.astype(np.int64)
    if y.ndim < 1 or 0 in y.shape:
        raise InputError(f"{name}: {what} is {y.dtype} {y.shape}; store class numbers, one a sample, as (n,)")
    if y.ndim == 2 and all(part.min() >= 0 and (part.sum(axis=1) == 1).all() for part in pieces(y)):
        hint = "np.argmax(y, axis=1) turns one-hot rows into class numbers"
        raise InputError(f"{name}: {what} is {y.dtype} {y.shape}, class numbers must be (n,); {hint}")
    check_finite(name, what, y)
    return y


def whole_labels(name: str, what: str, y: Array) -> Array:
    """Give labels that a file stores as floating point as integers; raise InputError where one is no whole number."""
    if y.dtype.kind != "f":
        return y
    check_finite(name, what, y)
    odd = np.flatnonzero(y.ravel() != np.rint(y.ravel()))
    if odd.size:
        raise InputError(f"{name}: {what}[{odd[0]}] is {y.ravel()[odd[0]]}; labels must be whole numbers")
    return y.astype(np.int64)


def check_rows(name: str, inputs: Mapping[str, Array | Rows], answers: Mapping[str, Array | Rows]) -> None:
    """Refuse inputs and answers, by name, of different length; raise InputError."""
    arrays = {**inputs, **answers}
    first = next(iter(arrays))
    for what, array in arrays.items():
        if len(array) != len(arrays[first]):
            raise InputError(
                f"{name}: {first} has {len(arrays[first]):,} rows, {what} {len(array):,}; they must be as many"
            )


def check_labels(name: str, what: str, y: Array, classes: int) -> None:
    """Refuse labels outside 0…classes−1 and say where the first one is; raise InputError."""
    outside = np.flatnonzero((y < 0) | (y >= classes))
    if outside.size:
        index = outside[0]
        raise InputError(f"{name}: {what}[{index}] is {y[index]}; the classes are 0…{classes - 1}")

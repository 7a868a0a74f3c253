"""The data set as the exporter needs it: pixels as uint8, everything else as float32, in the model's shape."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pennyweight.errors import InputError
from pennyweight_data import Dataset, load_data, make_dataset

Array = npt.NDArray[Any]
# Parts of a file that take more stay in it, and are read piece by piece.
MEMORY = 64 * 2**20
PARTS = ("x_train", "y_train", "x_test", "y_test")


def read_arrays(data: Any) -> Dataset:
    """Read a data set and give its samples as uint8 or float32.

    Args:
        data: a Dataset, anything with the four arrays ``x_train y_train x_test y_test``, or what ``load_data`` reads.

    Raises:
        InputError: an array is missing, empty, of an unusable dtype, holds NaN or infinity, or shapes disagree.
    """
    if isinstance(data, (str, os.PathLike)):
        data = load_data(os.fspath(data), memory=MEMORY)
    if not isinstance(data, Dataset):
        missing = [part for part in PARTS if getattr(data, part, None) is None]
        if missing:
            raise InputError(f"the data have no {', '.join(missing)}; give a training and a test part with labels")
        x_train, y_train, x_test, y_test = (np.asarray(getattr(data, part)) for part in PARTS)
        data = make_dataset("data", (x_train, y_train), (x_test, y_test))
    return _in_model_dtypes(data)


def with_shape(data: Dataset, shape: tuple[int | None, ...]) -> Dataset:
    """Add or drop a last axis of 1 (the channel of gray pictures) where that gives samples of the model's shape."""
    have = data.x_train.shape[1:]
    if (*have, 1) == shape:
        have = (*have, 1)
    elif have == (*shape, 1):
        have = have[:-1]
    else:
        return data
    x_train, x_test = (array.reshape(len(array), *have) for array in (data.x_train, data.x_test))
    return replace(data, x_train=x_train, x_test=x_test)


def _in_model_dtypes(data: Dataset) -> Dataset:
    x_train, x_test = _samples(data.x_train, "x_train"), _samples(data.x_test, "x_test")
    if x_train.dtype != x_test.dtype:
        raise InputError(f"x_train is {data.x_train.dtype}, x_test {data.x_test.dtype}; prepare both alike")
    return replace(data, x_train=x_train, x_test=x_test)


def _samples(array: Array, name: str) -> Array:
    if array.dtype.kind == "f":
        return array.astype(np.float32, copy=False)
    if array.dtype != np.uint8 and (int(array.min()) < 0 or int(array.max()) > 255):
        raise InputError(f"{name} is {array.dtype} with values outside 0..255; give pixels as uint8, or floats")
    return array.astype(np.uint8, copy=False)

"""The data set as the exporter needs it: arrays by the interface's names, in its shapes and dtypes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pennyweight.errors import InputError
from pennyweight_data import Dataset, Values, load_data, make_dataset

if TYPE_CHECKING:
    from .interface import Interface

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
# Parts of a file that take more stay in it, and are read piece by piece.
MEMORY = 64 * 2**20
PARTS = ("x_train", "y_train", "x_test", "y_test")


def read_arrays(data: Any) -> Dataset:
    """Read a data set.

    Args:
        data: a Dataset, anything with the four arrays ``x_train y_train x_test y_test`` (or, for several inputs or
            outputs, mappings from name to array), or what ``load_data`` reads.

    Raises:
        InputError: an array is missing, empty, of an unusable dtype, holds NaN or infinity, or shapes disagree.
    """
    if isinstance(data, (str, os.PathLike)):
        data = load_data(os.fspath(data), memory=MEMORY)
    if isinstance(data, Dataset):
        return data
    missing = [part for part in PARTS if getattr(data, part, None) is None]
    if missing:
        raise InputError(f"the data have no {', '.join(missing)}; give a training and a test part with labels")
    x_train, y_train, x_test, y_test = (_values(getattr(data, part)) for part in PARTS)
    return make_dataset("data", (x_train, y_train), (x_test, y_test))


def by_name(values: Values, names: Sequence[str], what: str) -> Arrays:
    """Give a model's inputs or outputs by its names, in their order.

    Args:
        values: one array, or several by name.
        names: the model's.
        what: "x_train", say, for the error.

    Raises:
        InputError: other names, or one array for several.
    """
    if not isinstance(values, Mapping):
        if len(names) == 1:
            return {names[0]: values}
        wanted = ", ".join(f"{what}/{name}" for name in names)
        raise InputError(f"the data have one {what}, the model has {', '.join(names)}; give {wanted}")
    if set(values) != set(names) and len(names) == 1:
        raise InputError(f"the data have {', '.join(f'{what}/{name}' for name in values)}, the model takes one {what}")
    if set(values) != set(names):
        given, wanted = (", ".join(f"{what}/{name}" for name in group) for group in (values, names))
        raise InputError(f"the data have {given}, the model takes {wanted}; name the arrays as the model does")
    return {name: values[name] for name in names}


def sample_dtype(array: Array, name: str, tokens: bool) -> str:
    """Give the interface's dtype for samples: "float32", "uint8" for pixels, "int32" for tokens.

    Raises:
        InputError: whole numbers that are neither, or tokens that are no whole numbers.
    """
    if tokens:
        if array.dtype.kind not in "ui" or int(array.min()) < -(2**31) or int(array.max()) >= 2**31:
            raise InputError(f"{name} is {array.dtype}, the model takes int32 numbers (token ids, say); give those")
        return "int32"
    if array.dtype.kind == "f":
        return "float32"
    if array.dtype != np.uint8 and (int(array.min()) < 0 or int(array.max()) > 255):
        raise InputError(f"{name} is {array.dtype} with values outside 0..255; give pixels as uint8, or floats")
    return "uint8"


def sample_shape(array: Array, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """Give ``shape`` where samples have it, or would with a last axis of 1 (the channel of gray) more or less."""
    have = array.shape[1:]
    return shape if shape in ((*have, 1), have[:-1] if have[-1:] == (1,) else have) else have


def fit(data: Dataset, interface: Interface) -> Dataset:
    """Give the data set with dictionaries by the interface's names, in its shapes and dtypes."""
    inputs = {entry.source: entry.spec for entry in interface.inputs}
    outputs = {entry.source: entry for entry in interface.outputs}

    def samples(values: Values, what: str) -> Arrays:
        return {
            inputs[name].name: array.reshape(-1, *inputs[name].shape).astype(inputs[name].dtype, copy=False)
            for name, array in by_name(values, list(inputs), what).items()
        }

    def answers(values: Values, what: str) -> Arrays:
        return {
            outputs[name].spec.name: array.argmax(axis=1) if outputs[name].one_hot else array
            for name, array in by_name(values, list(outputs), what).items()
        }

    return replace(
        data,
        x_train=samples(data.x_train, "x_train"),
        y_train=answers(data.y_train, "y_train"),
        x_test=samples(data.x_test, "x_test"),
        y_test=answers(data.y_test, "y_test"),
    )


def _values(given: Any) -> Values:
    if isinstance(given, Mapping):
        return {str(name): np.asarray(array) for name, array in given.items()}
    return np.asarray(given)

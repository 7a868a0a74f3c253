"""What may come in: arrays held to the manifest's shapes and dtypes, with errors that name the mend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .errors import InputError
from .manifest import InputSpec

Array = Any  # np.ndarray[Any, Any] can't be subscripted at run time on numpy 1.21


def admit_one(given: Any, specs: Mapping[str, InputSpec]) -> dict[str, Array]:
    """Give one sample's arrays by name, in the inputs' dtypes; raise InputError for what can't be that."""
    arrays = {}
    for name, array in _by_name(given, specs).items():
        spec = specs[name]
        if array.shape != spec.shape:
            raise InputError(_wrong_shape(array, spec))
        arrays[name] = _in_dtype(array, spec)
    return arrays


def admit_batch(given: Any, specs: Mapping[str, InputSpec]) -> dict[str, Array]:
    """Give a batch's arrays by name, each (n, *shape) with the same n; raise InputError for what can't be that."""
    arrays = {}
    for name, array in _by_name(given, specs).items():
        spec = specs[name]
        if array.shape == spec.shape:
            raise InputError(
                f"input {name!r}: one sample of shape {array.shape}; predict takes a batch, give array[None]"
            )
        if array.shape[1:] != spec.shape or not array.ndim:
            raise InputError(_wrong_shape(array, spec, batch=True))
        arrays[name] = _in_dtype(array, spec)
    if len({len(array) for array in arrays.values()}) > 1:
        raise InputError("the inputs have different numbers of samples; give as many of each")
    return arrays


def _by_name(given: Any, specs: Mapping[str, InputSpec]) -> dict[str, Array]:
    if isinstance(given, Mapping):
        if set(given) != set(specs):
            raise InputError(f"inputs {', '.join(map(str, given))}; this model takes {', '.join(specs)}")
        return {name: _as_array(given[name]) for name in specs}
    if len(specs) > 1:
        raise InputError(f"this model takes several inputs; give a dictionary with {', '.join(specs)}")
    return {name: _as_array(given) for name in specs}


def _as_array(given: Any) -> Array:
    try:
        array = np.asarray(given)
    except Exception as error:
        raise InputError(f"a {type(given).__name__} is no array; give a numpy array") from error
    if array.dtype.kind not in "buif":
        raise InputError(
            f"an array of {array.dtype} (from {type(given).__name__}) holds no numbers; give a numpy array"
        )
    return array


def _in_dtype(array: Array, spec: InputSpec) -> Array:
    wanted = np.dtype(spec.dtype)
    if array.dtype == wanted:
        if wanted.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"input {spec.name!r} holds NaN or infinity; clean the data first")
        return array
    if wanted.kind == "f":
        with np.errstate(over="ignore"):  # what overflows becomes infinity, and that is refused
            return _in_dtype(array.astype(wanted), spec)
    if array.dtype.kind == "f":
        hint = "; give the pixels as they are, scaling is inside the model" if spec.dtype == "uint8" else ""
        raise InputError(f"input {spec.name!r} is {spec.dtype}, got {array.dtype}{hint}")
    limits = np.iinfo(wanted) if wanted.kind in "iu" else None
    if limits is not None and array.size and (int(array.min()) < limits.min or int(array.max()) > limits.max):
        raise InputError(
            f"input {spec.name!r} is {spec.dtype}; got {array.dtype} values outside {limits.min}..{limits.max}"
        )
    return array.astype(wanted)


def _wrong_shape(array: Array, spec: InputSpec, batch: bool = False) -> str:
    wanted = f"(n, {', '.join(map(str, spec.shape))})" if batch else str(spec.shape)
    hint = ""
    if spec.image and array.ndim >= 2 and not batch:
        hint = "; model.prepare(image, colour=…) turns a picture or camera frame into it"
    return f"input {spec.name!r} has shape {array.shape}, the model takes {wanted}{hint}"

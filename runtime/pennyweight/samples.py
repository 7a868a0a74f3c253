"""Inputs with the original model's outputs on them: the golden set and the evaluation set, as one ``.npz`` each.

Arrays are named ``inputs/NAME``, ``outputs/NAME`` and ``labels``; the first axis counts the samples.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .errors import BundleError

if TYPE_CHECKING:
    from .manifest import Manifest

Array = Any  # np.ndarray[Any, Any] can't be subscripted at run time on numpy 1.21


class Samples(NamedTuple):
    """``inputs`` and ``outputs`` by the model's names, each (n, *shape); ``labels`` (n,) integers, or targets, or None.

    Outputs are the original Keras model's, float32, in the meaning that the manifest states.
    """

    inputs: dict[str, Array]
    outputs: dict[str, Array]
    labels: Array | None = None

    @property
    def rows(self) -> int:
        """The number of samples."""
        return len(next(iter(self.inputs.values())))

    def part(self, start: int, stop: int) -> Samples:
        """Give the samples from ``start`` up to ``stop``."""
        cut = slice(start, stop)
        return Samples(
            {name: array[cut] for name, array in self.inputs.items()},
            {name: array[cut] for name, array in self.outputs.items()},
            None if self.labels is None else self.labels[cut],
        )


def pack_samples(samples: Samples) -> bytes:
    """Give the samples as a compressed ``.npz``; the same samples always give the same bytes."""
    arrays = {f"inputs/{name}": array for name, array in samples.inputs.items()}
    arrays.update({f"outputs/{name}": array for name, array in samples.outputs.items()})
    if samples.labels is not None:
        arrays["labels"] = samples.labels
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def parse_samples(raw: bytes, manifest: Manifest, where: str) -> Samples:
    """Read what ``pack_samples`` wrote and hold it to the manifest's names, shapes and dtypes; raise BundleError."""
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:
        raise BundleError(f"{where}: not readable as .npz; export the model again") from error
    samples = Samples(
        {spec.name: _array(arrays, f"inputs/{spec.name}", spec.shape, spec.dtype, where) for spec in manifest.inputs},
        {spec.name: _array(arrays, f"outputs/{spec.name}", spec.shape, "float32", where) for spec in manifest.outputs},
        arrays.get("labels"),
    )
    counts = {len(array) for array in arrays.values() if array.ndim}
    if len(counts) != 1:
        raise BundleError(f"{where}: its arrays have different numbers of samples; export the model again")
    return samples


def _array(arrays: dict[str, Array], name: str, shape: tuple[int, ...], dtype: str, where: str) -> Array:
    array = arrays.get(name)
    if array is None:
        raise BundleError(f"{where}: no array {name!r}; export the model again")
    if array.dtype != dtype or array.shape[1:] != shape:
        raise BundleError(f"{where}: {name} is {array.dtype} {array.shape}, the manifest says {dtype} (n, {shape})")
    return array

"""From one image to its label by the shortest way: all that can be looked up is looked up when a model is loaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Callable

import numpy as np

from .engines import RunOne, first_line
from .errors import EngineError
from .inputs import admit_one
from .manifest import InputSpec
from .quantization import Convert

if TYPE_CHECKING:
    import threading

Array = Any  # np.ndarray[Any, Any] can't be subscripted at run time on numpy 1.21
Label = tuple[str, float]
General = Callable[[Any, Any, Any], Any]

# Up to here Python's max over a list beats numpy's argmax on one row.
LIST_CLASSES = 64


def fast_classify(
    spec: InputSpec,
    convert: Convert | None,
    run: RunOne,
    finish: Callable[[Array], Label],
    lock: threading.Lock,
    general: General,
) -> Callable[..., Any]:
    """Build ``classify(image, top=None, colour=None)`` for a model with one input and one single-label output.

    Args:
        spec: the input.
        convert: from the model's values to the wire's, or None where they are the same.
        run: the engine's function for a batch of one; its answer may be overwritten by the next call.
        finish: from that answer to (label, probability).
        lock: what calls take turns by.
        general: answers calls with ``top`` or ``colour``.
    """
    name, shape, dtype, specs = spec.name, spec.shape, np.dtype(spec.dtype), {spec.name: spec}

    def classify(image: Array, top: int | None = None, colour: str | None = None) -> Any:
        if top is not None or colour is not None:
            return general(image, top, colour)
        try:
            if image.dtype is not dtype or image.shape != shape:
                image = admit_one(image, specs)[name]
        except AttributeError:
            image = admit_one(image, specs)[name]
        array = image[None]
        if convert is not None:
            array = convert(array)
        with lock:
            try:
                return finish(run(array))
            except (RuntimeError, ValueError) as error:
                raise EngineError(f"the engine failed: {first_line(error)}") from error

    if not spec.dtype.startswith("float"):
        return classify

    def classify_finite(image: Array, top: int | None = None, colour: str | None = None) -> Any:
        # One product over the image finds NaN and infinity at a fraction of what an element-wise test costs.
        if getattr(image, "dtype", None) is dtype and not math.isfinite(np.vdot(image, image)):
            admit_one(image, specs)
        return classify(image, top, colour)

    return classify_finite


def fast_prepare(spec: InputSpec, convert: Convert | None) -> Callable[[Any], Any]:
    """Build what ``fast_classify`` does before the engine runs, alone, so that it can be timed."""
    name, shape, dtype, specs = spec.name, spec.shape, np.dtype(spec.dtype), {spec.name: spec}
    is_float = spec.dtype.startswith("float")

    def prepare(image: Array) -> Array:
        if is_float and not math.isfinite(np.vdot(image, image)):
            admit_one(image, specs)
        if image.dtype is not dtype or image.shape != shape:
            image = admit_one(image, specs)[name]
        return image[None] if convert is None else convert(image[None])

    return prepare


def highest(labels: Sequence[str]) -> Callable[[Array], Label]:
    """Give the function from (1, classes) probabilities to the most probable class; a tie takes the lowest index."""
    if len(labels) > LIST_CLASSES:

        def by_argmax(result: Array) -> Label:
            row = result[0]
            index = int(row.argmax())
            return labels[index], float(row[index])

        return by_argmax

    def by_list(result: Array) -> Label:
        row = result.tolist()[0]
        best = max(row)
        return labels[row.index(best)], best

    return by_list


def binary(labels: Sequence[str]) -> Callable[[Array], Label]:
    """Give the function from one (1, 1) probability of class 1 to the class; 0.5 and above is class 1."""

    def name_of(result: Array) -> Label:
        probability = float(result[0, 0])
        return (labels[1], probability) if probability >= 0.5 else (labels[0], 1 - probability)

    return name_of

"""Preprocessing: how training turned pixels into what it fed the model, given as options or found in the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pennyweight.errors import UsageError

from ._tensorflow import keras
from .arrays import Array

Factor = float | tuple[float, ...]  # one number, or one per channel, which is the last axis
KerasModel = Any  # Keras has no types that strict checking could use
# Keras' three modes, each by an application that has it.
_MODES = {"tf": "mobilenet_v2", "caffe": "vgg16", "torch": "densenet"}


class Preprocessing(NamedTuple):
    """The model was fed ``scale`` × pixel + ``offset``, of pixels whose channels were ``swapped`` (RGB to BGR) or not.

    ``option`` is how the command says it.
    """

    scale: Factor = 1.0
    offset: Factor = 0.0
    swapped: bool = False
    option: str = ""

    def for_shape(self, shape: tuple[int, ...]) -> tuple[Factor, Factor, bool]:
        """Give scale, offset and swap for samples of a shape; raise UsageError where it has other channels."""
        channels = shape[-1] if shape else 0
        for what, value in (("scale", self.scale), ("offset", self.offset)):
            if isinstance(value, tuple) and len(value) != channels:
                raise UsageError(
                    f"{len(value)} numbers for the {what}, and a sample of shape {shape} has {channels} channels"
                )
        return self.scale, self.offset, self.swapped


NOTHING = Preprocessing()


def preprocessing_from(
    scale: float | Sequence[float] | None, offset: float | Sequence[float] | None, name: str | None
) -> Preprocessing:
    """Make the options one.

    Args:
        scale, offset: one number, or one per channel.
        name: "keras:NAME", where NAME is a module of keras.applications, or one of the modes tf, caffe and torch.

    Raises:
        UsageError: both given, numbers that can't be, or an unknown name.
    """
    if name is not None:
        if scale is not None or offset is not None:
            raise UsageError("--preprocess says scale and offset itself; leave --scale and --offset out")
        return _of_application(name)
    given = Preprocessing(_checked(1.0 if scale is None else scale), _checked(0.0 if offset is None else offset))
    values = np.concatenate([np.atleast_1d(given.scale), np.atleast_1d(given.offset)])
    if not np.isfinite(values).all() or not np.all(given.scale):
        raise UsageError(
            f"scale {_text(given.scale)} and offset {_text(given.offset)} must be finite, and the scale not 0"
        )
    return NOTHING if scale is None and offset is None else given._replace(option=_option(given))


def candidates(shape: tuple[int, ...]) -> list[tuple[str, Preprocessing]]:
    """Give what people commonly do to pixels of a shape, by name."""
    found = [
        ("pixels as they are", NOTHING),
        ("pixels / 255", Preprocessing(1 / 255)),
        ("pixels / 127.5 − 1", Preprocessing(1 / 127.5, -1.0)),
    ]
    found = [(name, one._replace(option=_option(one) if one != NOTHING else "")) for name, one in found]
    if len(shape) == 3 and shape[2] == 3:
        found += [(f"keras:{mode}", _of_application(f"keras:{mode}")) for mode in ("caffe", "torch")]
    return found


def as_factor(values: Any) -> Factor:
    """Give one number where all are the same, otherwise one per channel."""
    flat = np.ravel(np.asarray(values, np.float64))
    return float(flat[0]) if (flat == flat[0]).all() else tuple(float(value) for value in flat)


def leading_layer(model: KerasModel, source: Any) -> tuple[Any, Factor, Factor] | None:
    """Give the Rescaling or Normalization layer that alone reads an input tensor, with its scale and offset."""
    readers = _readers(model, source)
    if len(readers) != 1:
        return None
    (layer,) = readers
    if isinstance(layer, keras.layers.Rescaling):
        factors = np.asarray(layer.scale, np.float64), np.asarray(layer.offset, np.float64)
    elif (
        isinstance(layer, keras.layers.Normalization) and not getattr(layer, "invert", False) and layer.mean is not None
    ):
        deviation = np.maximum(np.sqrt(np.asarray(layer.variance, np.float64)), keras.backend.epsilon())
        factors = 1 / deviation, -np.asarray(layer.mean, np.float64) / deviation
    else:
        return None
    channels = source.shape[-1] if len(source.shape) > 1 else 1
    if any(factor.size not in (1, channels) or factor.shape[-1:] not in ((), (1,), (channels,)) for factor in factors):
        return None
    return layer, as_factor(factors[0]), as_factor(factors[1])


def reads_tokens(model: KerasModel, source: Any, samples: Array) -> bool:
    """Say whether an input takes whole numbers that are no pixels: token ids, for an embedding mostly."""
    if str(keras.backend.standardize_dtype(source.dtype)) in ("int32", "int64"):
        return True
    readers = _readers(model, source)
    embeds = bool(readers) and all(isinstance(layer, keras.layers.Embedding) for layer in readers)
    return embeds and samples.dtype.kind in "iu"


def _readers(model: KerasModel, source: Any) -> list[Any]:
    """Give the operations that read an input tensor directly."""
    if isinstance(model, keras.Sequential):
        return [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)][:1]
    return [
        operation
        for operation in getattr(model, "operations", ())
        for node in operation._inbound_nodes
        if any(tensor is source for tensor in node.input_tensors) and not isinstance(operation, keras.layers.InputLayer)
    ]


def _of_application(name: str) -> Preprocessing:
    """Read scale, offset and order of the channels off what Keras' own function makes of a few pixels."""
    package, _, known = name.partition(":")
    module = getattr(keras.applications, _MODES.get(known, known), None)
    function = getattr(module, "preprocess_input", None)
    if package != "keras" or function is None:
        every = {entry: getattr(keras.applications, entry) for entry in dir(keras.applications)}
        found = [
            entry for entry, one in every.items() if hasattr(one, "preprocess_input") and entry != "imagenet_utils"
        ]
        raise UsageError(f"--preprocess {name}: give keras:NAME, of {', '.join([*_MODES, *sorted(found)])}")
    pixels = np.zeros((5, 1, 1, 3), np.float64)
    pixels[1:4, 0, 0] = 255 * np.eye(3)
    pixels[4] = 100
    seen = np.asarray(function(pixels.copy(), data_format="channels_last"), np.float64).reshape(5, 3)
    offset, gains = seen[0], (seen[1:4] - seen[0]) / 255
    swapped = bool(np.abs(np.diagonal(gains)[[0, 2]]).max() < 1e-9)
    scale = gains[[2, 1, 0], [0, 1, 2]] if swapped else np.diagonal(gains)
    if not np.allclose(100 * scale + offset, seen[4], atol=1e-4):
        raise UsageError(
            f"--preprocess {name}: this function is more than a scale and an offset; use --scale and --offset"
        )
    return Preprocessing(as_factor(scale.round(12)), as_factor(offset.round(9)), swapped, f"--preprocess {name}")


def _checked(value: float | Sequence[float]) -> Factor:
    numbers = np.atleast_1d(np.asarray(value, np.float64))
    if numbers.ndim != 1 or not numbers.size:
        raise UsageError(f"{value}: give one number, or one per channel")
    return float(numbers[0]) if numbers.size == 1 else tuple(float(number) for number in numbers)


def _option(given: Preprocessing) -> str:
    parts = [f"--scale {_text(given.scale)}"] if given.scale != 1.0 else []
    return " ".join([*parts, f"--offset={_text(given.offset)}"] if given.offset != 0.0 else parts)


def _text(value: Factor) -> str:
    return ",".join(f"{number:.9g}" for number in np.atleast_1d(value))

"""What a model takes and gives: pixels or numbers in, probabilities or numbers out, recognised with its data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pennyweight.errors import InputError, UsageError
from pennyweight.manifest import ImagePreparation, InputSpec, OutputSpec
from pennyweight_data import Dataset

from ._tensorflow import keras
from .arrays import Array

KerasModel = Any  # Keras has no types that strict checking could use
PIXELS = (0.0, 255.0)


class Interface(NamedTuple):
    """The artifacts' interface, and what stands between it and the Keras model.

    ``head`` is "softmax" or "sigmoid" where the model ends in logits and the artifacts append it, otherwise "".
    The Keras model is fed ``scale`` × input + ``offset``. ``rescaling`` says that the model begins with a Rescaling
    layer; then ``inner_scale`` and ``inner_offset`` turn the input into what the layers after it see.
    """

    input: InputSpec
    output: OutputSpec
    head: str
    scale: float
    offset: float
    rescaling: bool
    inner_scale: float
    inner_offset: float

    @property
    def seen(self) -> tuple[float, float]:
        """The range of values that the model's layers see, after every rescaling."""
        ends = [self.inner_scale * value + self.inner_offset for value in self.input.range or PIXELS]
        return min(ends), max(ends)


def recognise(
    model: KerasModel,
    data: Dataset,
    labels: Sequence[str] | None = None,
    scale: float | None = None,
    offset: float | None = None,
    image: ImagePreparation | None = None,
) -> Interface:
    """Work out the interface of a model with one input and one output.

    Args:
        model: a built Keras model.
        data: its data; uint8 samples make the interface pixels, float samples float32.
        labels: the classes' names; by default the data's own, or "0", "1", ….
        scale, offset: the training fed the model scale × pixel + offset.
        image: how pictures are prepared, instead of the default for the input's shape.

    Raises:
        InputError: shapes, dtypes or labels of model and data disagree.
        UsageError: options that this model has no use for, or a kind of model that can't be exported.
    """
    shape, dtype = _input_shape(model)
    _require_matching_samples(data.x_train, shape, dtype)
    pixels = data.x_train.dtype == np.uint8
    if not pixels and (scale is not None or offset is not None):
        raise UsageError("--scale and --offset turn pixels into floats, and these data are floats; leave them out")
    if dtype == "uint8" and (scale is not None or offset is not None):
        raise UsageError("--scale and --offset are for models that take floats; this one takes uint8 pixels itself")
    outer_scale, outer_offset = _given(1.0 if scale is None else scale, 0.0 if offset is None else offset)
    layer = leading_rescaling(model) if pixels else None
    inner = (float(np.ravel(layer.scale)[0]), float(np.ravel(layer.offset)[0])) if layer is not None else (1.0, 0.0)
    output, head = _output(model, data, labels)
    return Interface(
        input=_input(data, image),
        output=output,
        head=head,
        scale=outer_scale,
        offset=outer_offset,
        rescaling=layer is not None,
        inner_scale=outer_scale * inner[0],
        inner_offset=outer_offset * inner[0] + inner[1],
    )


def leading_rescaling(model: KerasModel) -> Any | None:
    """Give the Rescaling layer, with one scale and offset, that alone reads the model's input; None without one."""
    layers = [layer for layer in getattr(model, "layers", ()) if not isinstance(layer, keras.layers.InputLayer)]
    found = [layer for layer in layers if isinstance(layer, keras.layers.Rescaling)]
    if not found or np.size(found[0].scale) != 1 or np.size(found[0].offset) != 1:
        return None
    if isinstance(model, keras.Sequential):
        return found[0] if layers[0] is found[0] else None
    if not is_functional(model):
        return None
    source = model.inputs[0]
    readers = [
        operation
        for operation in model.operations
        for node in operation._inbound_nodes
        if any(tensor is source for tensor in node.input_tensors) and not isinstance(operation, keras.layers.InputLayer)
    ]
    return readers[0] if len(readers) == 1 and readers[0] in found else None


def is_functional(model: KerasModel) -> bool:
    """Say whether the model is a Functional one, whose graph Keras can rebuild."""
    return type(model).__name__ == "Functional" or type(model) is keras.Model


def _input_shape(model: KerasModel) -> tuple[tuple[int, ...], str]:
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if not inputs or not outputs:
        raise UsageError("the model states no input shape; build it as Sequential or Functional with an Input")
    if len(inputs) != 1 or len(outputs) != 1:
        raise UsageError(f"the model has {len(inputs)} inputs and {len(outputs)} outputs; export takes one of each")
    shape = tuple(inputs[0].shape[1:])
    if any(size is None for size in (*shape, *outputs[0].shape[1:])) or inputs[0].shape[0] is not None:
        raise UsageError(f"the model's input is {inputs[0].shape}; fix every size but the batch, which must be free")
    return shape, str(keras.backend.standardize_dtype(inputs[0].dtype))


def _require_matching_samples(samples: Array, shape: tuple[int, ...], dtype: str) -> None:
    if samples.shape[1:] != shape:
        raise InputError(f"a sample has shape {samples.shape[1:]}, the model takes {shape}; give its own data")
    if dtype not in ("uint8", "float32"):
        raise UsageError(f"the model takes {dtype}; export takes models of uint8 or float32")
    if dtype == "uint8" and samples.dtype != np.uint8:
        raise InputError(f"the samples are {samples.dtype}, the model takes uint8 pixels; give the pixels as they are")


def _given(scale: float, offset: float) -> tuple[float, float]:
    if not np.isfinite(scale) or not np.isfinite(offset) or scale == 0:
        raise UsageError(f"scale {scale} and offset {offset} must be finite, and the scale not 0")
    return float(scale), float(offset)


def _input(data: Dataset, image: ImagePreparation | None) -> InputSpec:
    shape = tuple(int(size) for size in data.x_train.shape[1:])
    if data.x_train.dtype != np.uint8:
        if image is not None:
            raise UsageError("the input is floats, and a picture is pixels; leave the image preparation out")
        return InputSpec("input", shape, "float32", (float(data.x_train.min()), float(data.x_train.max())))
    default = _default_preparation(shape)
    if image is None:
        return InputSpec("image" if default else "input", shape, "uint8", PIXELS, default)
    if default is None or (image.colour, image.height, image.width) != (default.colour, default.height, default.width):
        raise UsageError(f"an image preparation for {image.colour} {image.height}×{image.width} doesn't fit {shape}")
    return InputSpec("image", shape, "uint8", PIXELS, image)


def _default_preparation(shape: tuple[int, ...]) -> ImagePreparation | None:
    if len(shape) == 2 or (len(shape) == 3 and shape[2] == 1):
        return ImagePreparation("gray", shape[0], shape[1])
    if len(shape) == 3 and shape[2] == 3:
        return ImagePreparation("rgb", shape[0], shape[1])
    return None


def _output(model: KerasModel, data: Dataset, labels: Sequence[str] | None) -> tuple[OutputSpec, str]:
    shape = tuple(int(size) for size in model.outputs[0].shape[1:])
    ending = _final_activation(model)
    if not _is_classification(shape, ending, data):
        if labels:
            raise InputError("labels were given, but the data's targets are no class numbers; leave --labels out")
        return OutputSpec("output", shape, "raw", "none"), ""
    names = _labels(shape[0], labels, data)
    head = "" if ending in ("softmax", "sigmoid") else ("sigmoid" if shape == (1,) else "softmax")
    return OutputSpec("probabilities", shape, "probabilities", "single", names), head


def _is_classification(shape: tuple[int, ...], ending: str, data: Dataset) -> bool:
    if len(shape) != 1 or data.y_train.dtype != np.int64 or data.y_train.ndim != 1:
        return False
    if shape == (1,) and ending != "sigmoid":
        # One linear output with whole-number targets is logits only where the targets are the two classes.
        return bool(np.isin(data.y_train, (0, 1)).all())
    return True


def _labels(outputs: int, given: Sequence[str] | None, data: Dataset) -> tuple[str, ...]:
    classes = 2 if outputs == 1 else outputs
    names = tuple(given or data.labels or (str(index) for index in range(classes)))
    if len(names) != classes:
        raise InputError(f"{len(names)} labels ({', '.join(names)[:80]}) for {classes} classes; name each class once")
    if len(set(names)) != classes:
        raise InputError(f"the labels {', '.join(names)[:80]} repeat one; name each class once")
    for part, targets in (("y_train", data.y_train), ("y_test", data.y_test)):
        if targets.min() < 0 or targets.max() >= classes:
            raise InputError(
                f"{part} holds classes from {targets.min()} to {targets.max()}, the model has 0..{classes - 1}; "
                "give the data it was made for"
            )
    return names


def _final_activation(model: KerasModel) -> str:
    """Name the activation that the output passed last: such as "softmax"; "linear" where there is none."""
    last = model.outputs[0]._keras_history.operation
    while isinstance(last, keras.Model) and last is not model and last.outputs:
        last = last.outputs[0]._keras_history.operation
    if isinstance(last, keras.layers.Softmax) or type(last).__name__ == "Softmax":
        return "softmax"
    activation = getattr(last, "activation", None)
    return str(getattr(activation, "__name__", type(last).__name__.lower() if activation is None else "linear"))

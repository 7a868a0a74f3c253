"""What a model takes and gives: pixels or numbers in, probabilities or numbers out, recognised with its data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pennyweight.errors import InputError, UsageError
from pennyweight.manifest import ImagePreparation, InputSpec, OutputSpec
from pennyweight_data import Dataset

from ._tensorflow import keras
from .arrays import Array, by_name, sample_dtype, sample_shape

KerasModel = Any  # Keras has no types that strict checking could use
Factor = float | tuple[float, ...]  # one number, or one per channel, which is the last axis
PIXELS = (0.0, 255.0)


class Input(NamedTuple):
    """One input of the artifacts, and what stands between it and the Keras model's.

    ``source`` is what Keras and the data call it. The Keras model is fed ``scale`` × input + ``offset``. ``rescaling``
    says that the model begins with a Rescaling layer there; then ``inner_scale`` and ``inner_offset`` turn the input
    into what the layers after it see. ``in_graph`` says that quantisation parameters can't hold these two, so that
    they are computed in quantised artifacts too.
    """

    spec: InputSpec
    source: str
    scale: Factor = 1.0
    offset: Factor = 0.0
    rescaling: bool = False
    inner_scale: Factor = 1.0
    inner_offset: Factor = 0.0
    in_graph: bool = False

    @property
    def seen(self) -> tuple[float, float]:
        """The range of values that the model's layers see, after every rescaling."""
        ends = np.array([np.multiply(self.inner_scale, end) + self.inner_offset for end in self.spec.range or PIXELS])
        return float(ends.min()), float(ends.max())

    @property
    def held(self) -> tuple[float, float]:
        """Scale and offset from this input to what ``Graph.inner`` takes, which quantisation parameters can hold."""
        return (1.0, 0.0) if self.in_graph else (float(self.inner_scale), float(self.inner_offset))  # type: ignore[arg-type]


class Output(NamedTuple):
    """One output of the artifacts: ``source`` is what Keras and the data call it.

    ``head`` is "softmax" or "sigmoid" where the model ends in logits and the artifacts append it, otherwise "".
    """

    spec: OutputSpec
    source: str
    head: str = ""


class Interface(NamedTuple):
    """The artifacts' interface: every input and output, in the Keras model's order."""

    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]

    @property
    def wire(self) -> str:
        """The dtype in which a quantised artifact takes its inputs, those of whole numbers apart."""
        pixels = all(entry.spec.dtype != "float32" for entry in self.inputs)
        return "uint8" if pixels else "float32"


def recognise(
    model: KerasModel,
    data: Dataset,
    labels: Sequence[str] | None = None,
    scale: float | None = None,
    offset: float | None = None,
    image: ImagePreparation | None = None,
) -> Interface:
    """Work out the interface of a model.

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
    tensors_in, tensors_out = _tensors(model)
    samples = by_name(data.x_train, list(tensors_in), "x_train")
    held_out = by_name(data.x_test, list(tensors_in), "x_test")
    answers = by_name(data.y_train, list(tensors_out), "y_train")
    inputs = []
    for name, tensor in tensors_in.items():
        what = "" if len(tensors_in) == 1 else name
        dtype = _require_alike(samples[name], held_out[name], what)
        inputs.append(_input(model, tensor, name, samples[name], dtype, what, scale, offset, image))
    if any(entry.spec.dtype == "float32" for entry in inputs):
        inputs = [entry._replace(in_graph=True) if entry.spec.dtype == "uint8" else entry for entry in inputs]
    outputs = [
        _output(model, tensor, name, answers[name], data, labels, alone=len(tensors_out) == 1)
        for name, tensor in tensors_out.items()
    ]
    return Interface(tuple(inputs), tuple(outputs))


def leading_rescaling(model: KerasModel, source: Any) -> Any | None:
    """Give the Rescaling layer, with one scale and offset, that alone reads an input tensor; None without one."""
    layers = [layer for layer in getattr(model, "layers", ()) if not isinstance(layer, keras.layers.InputLayer)]
    found = [
        layer
        for layer in layers
        if isinstance(layer, keras.layers.Rescaling) and np.size(layer.scale) == 1 and np.size(layer.offset) == 1
    ]
    if not found:
        return None
    if isinstance(model, keras.Sequential):
        return found[0] if layers[0] is found[0] else None
    if not is_functional(model):
        return None
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


def _tensors(model: KerasModel) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give the model's input and output tensors by name."""
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if not inputs or not outputs:
        raise UsageError("the model states no input shape; build it as Sequential or Functional with an Input")
    for tensor in inputs:
        if None in tensor.shape[1:] or tensor.shape[0] is not None:
            raise UsageError(f"the model's input is {tensor.shape}; fix every size but the batch, which must be free")
    for tensor in outputs:
        if None in tensor.shape[1:]:
            raise UsageError(f"the model's output is {tensor.shape}; fix every size but the batch")
    named_in = _by_unique_name(inputs, [tensor.name for tensor in inputs])
    named_out = _by_unique_name(outputs, [tensor._keras_history.operation.name for tensor in outputs])
    return named_in, named_out


def _by_unique_name(tensors: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
    """Give tensors by name; a layer with several outputs names the later ones NAME_1, NAME_2, …."""
    found: dict[str, Any] = {}
    for tensor, name in zip(tensors, names):
        repeats = sum(other == name or other.startswith(f"{name}_") for other in found) if name in found else 0
        found[f"{name}_{repeats}" if repeats else name] = tensor
    return found


def _require_alike(train: Array, test: Array, what: str) -> str:
    name = f"/{what}" if what else ""
    one, other = (sample_dtype(array, f"x_{part}{name}", False) for part, array in (("train", train), ("test", test)))
    if one != other:
        raise InputError(f"x_train{name} is {train.dtype}, x_test{name} {test.dtype}; prepare both alike")
    return one


def _input(
    model: KerasModel,
    tensor: Any,
    name: str,
    samples: Array,
    dtype: str,
    what: str,
    scale: float | None,
    offset: float | None,
    image: ImagePreparation | None,
) -> Input:
    wanted, shape = str(keras.backend.standardize_dtype(tensor.dtype)), tuple(tensor.shape[1:])
    of = f" for {what}" if what else ""
    if sample_shape(samples, shape) != shape:
        raise InputError(f"a sample{of} has shape {samples.shape[1:]}, the model takes {shape}; give its own data")
    if wanted not in ("uint8", "float32"):
        raise UsageError(f"the model takes {wanted}; export takes models of uint8 or float32")
    if wanted == "uint8" and dtype != "uint8":
        raise InputError(f"the samples{of} are {dtype}, the model takes uint8 pixels; give the pixels as they are")
    pixels = dtype == "uint8"
    if not pixels and (scale is not None or offset is not None):
        raise UsageError("--scale and --offset turn pixels into floats, and these data are floats; leave them out")
    if wanted == "uint8" and (scale is not None or offset is not None):
        raise UsageError("--scale and --offset are for models that take floats; this one takes uint8 pixels itself")
    outer_scale, outer_offset = _given(1.0 if scale is None else scale, 0.0 if offset is None else offset)
    layer = leading_rescaling(model, tensor) if pixels else None
    inner = (float(np.ravel(layer.scale)[0]), float(np.ravel(layer.offset)[0])) if layer is not None else (1.0, 0.0)
    spec = _input_spec(samples, shape, dtype, image)
    return Input(
        spec._replace(name=_plain(what)) if what else spec,
        name,
        scale=outer_scale,
        offset=outer_offset,
        rescaling=layer is not None,
        inner_scale=outer_scale * inner[0],
        inner_offset=outer_offset * inner[0] + inner[1],
    )


def _plain(name: str) -> str:
    """Give a name that TensorFlow, both file formats and an ``.npz`` take as it is."""
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    return plain if plain[:1].isalpha() else f"t_{plain}"


def _given(scale: float, offset: float) -> tuple[float, float]:
    if not np.isfinite(scale) or not np.isfinite(offset) or scale == 0:
        raise UsageError(f"scale {scale} and offset {offset} must be finite, and the scale not 0")
    return float(scale), float(offset)


def _input_spec(samples: Array, shape: tuple[int, ...], dtype: str, image: ImagePreparation | None) -> InputSpec:
    if dtype != "uint8":
        if image is not None:
            raise UsageError("the input is floats, and a picture is pixels; leave the image preparation out")
        return InputSpec("input", shape, dtype, (float(samples.min()), float(samples.max())))
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


def _output(
    model: KerasModel,
    tensor: Any,
    name: str,
    answers: Array,
    data: Dataset,
    labels: Sequence[str] | None,
    alone: bool,
) -> Output:
    shape = tuple(int(size) for size in tensor.shape[1:])
    ending = _final_activation(model, tensor)
    if not _is_classification(shape, ending, answers):
        if labels and alone:
            raise InputError("labels were given, but the data's targets are no class numbers; leave --labels out")
        return Output(OutputSpec("output" if alone else _plain(name), shape, "raw", "none"), name)
    parts = ("y_train", answers), ("y_test", data.y_test if alone else data.y_test[name])
    names = _labels(shape[0], labels or data.labels if alone else None, parts)
    head = "" if ending in ("softmax", "sigmoid") else ("sigmoid" if shape == (1,) else "softmax")
    spec = OutputSpec("probabilities" if alone else _plain(name), shape, "probabilities", "single", names)
    return Output(spec, name, head)


def _is_classification(shape: tuple[int, ...], ending: str, answers: Array) -> bool:
    if len(shape) != 1 or answers.dtype != np.int64 or answers.ndim != 1:
        return False
    if shape == (1,) and ending != "sigmoid":
        # One linear output with whole-number targets is logits only where the targets are the two classes.
        return bool(np.isin(answers, (0, 1)).all())
    return True


def _labels(outputs: int, given: Sequence[str] | None, parts: Sequence[tuple[str, Array]]) -> tuple[str, ...]:
    classes = 2 if outputs == 1 else outputs
    names = tuple(given or (str(index) for index in range(classes)))
    if len(names) != classes:
        raise InputError(f"{len(names)} labels ({', '.join(names)[:80]}) for {classes} classes; name each class once")
    if len(set(names)) != classes:
        raise InputError(f"the labels {', '.join(names)[:80]} repeat one; name each class once")
    for part, targets in parts:
        if targets.min() < 0 or targets.max() >= classes:
            raise InputError(
                f"{part} holds classes from {targets.min()} to {targets.max()}, the model has 0..{classes - 1}; "
                "give the data it was made for"
            )
    return names


def _final_activation(model: KerasModel, tensor: Any) -> str:
    """Name the activation that an output passed last: such as "softmax"; "linear" where there is none."""
    last = tensor._keras_history.operation
    while isinstance(last, keras.Model) and last is not model and last.outputs:
        last = last.outputs[0]._keras_history.operation
    if isinstance(last, keras.layers.Softmax) or type(last).__name__ == "Softmax":
        return "softmax"
    activation = getattr(last, "activation", None)
    return str(getattr(activation, "__name__", type(last).__name__.lower() if activation is None else "linear"))

"""What a model takes and gives: pixels or numbers in, probabilities or numbers out, recognised with its data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from pennyweight.errors import InputError, UsageError
from pennyweight.manifest import ImagePreparation, InputSpec, OutputSpec
from pennyweight_data import Dataset

from ._tensorflow import keras
from .arrays import Array, by_name, sample_dtype, sample_shape
from .foreign import is_opaque
from .original import raw_answers
from .outputs import recognise_output
from .preprocessing import NOTHING, Factor, Preprocessing, as_factor, leading_layer, reads_tokens

KerasModel = Any  # Keras has no types that strict checking could use
PIXELS = (0.0, 255.0)
PROBED = 256  # training samples that show what a model whose last layer is unknown ends in


class Input(NamedTuple):
    """One input of the artifacts, and what stands between it and the Keras model's.

    ``source`` is what Keras and the data call it. The Keras model is fed ``scale`` × input + ``offset``, where
    ``swapped`` says that the channels' order is turned round first. ``rescaling`` says that the model begins with a
    Rescaling or Normalization layer there; then ``inner_scale`` and ``inner_offset`` turn the input into what the
    layers after it see. ``in_graph`` says that quantisation parameters can't hold all that, so that it is computed in
    quantised artifacts too. ``takes`` is the dtype in which the rebuilt model takes this input.
    """

    spec: InputSpec
    source: str
    scale: Factor = 1.0
    offset: Factor = 0.0
    swapped: bool = False
    rescaling: bool = False
    inner_scale: Factor = 1.0
    inner_offset: Factor = 0.0
    in_graph: bool = False
    takes: str = "float32"

    @property
    def seen(self) -> tuple[float, float]:
        """The range of values that the model's layers see, after every rescaling."""
        ends = np.array([np.multiply(self.inner_scale, end) + self.inner_offset for end in self.spec.range or PIXELS])
        return float(ends.min()), float(ends.max())

    @property
    def held(self) -> tuple[float, float]:
        """Scale and offset from this input to what ``Graph.inner`` takes, which quantisation parameters can hold."""
        if self.in_graph or isinstance(self.inner_scale, tuple) or isinstance(self.inner_offset, tuple):
            return 1.0, 0.0
        return self.inner_scale, self.inner_offset


class Output(NamedTuple):
    """One output of the artifacts: ``source`` is what Keras and the data call it.

    ``head`` is "softmax" or "sigmoid" where the model ends in logits and the artifacts append it, otherwise "".
    ``one_hot`` says that the data's targets are one-hot rows, which stand for class numbers.
    """

    spec: OutputSpec
    source: str
    head: str = ""
    one_hot: bool = False


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
    preprocessing: Preprocessing = NOTHING,
    image: ImagePreparation | None = None,
) -> Interface:
    """Work out the interface of a model.

    Args:
        model: a Keras model that states its inputs.
        data: its data; uint8 samples make the interface pixels, floats float32, token ids int32.
        labels: the classes' names; by default the data's own, or "0", "1", ….
        preprocessing: how training turned pixels into what it fed the model.
        image: how pictures are prepared, instead of the default for the input's shape.

    Raises:
        InputError: shapes, dtypes or labels of model and data disagree.
        UsageError: options that this model has no use for, or a kind of model that can't be exported.
    """
    tensors_in, tensors_out = _tensors(model)
    if labels and len(tensors_out) > 1:
        raise UsageError(f"--labels names the classes of one output, and this model has {', '.join(tensors_out)}")
    samples = by_name(data.x_train, list(tensors_in), "x_train")
    held_out = by_name(data.x_test, list(tensors_in), "x_test")
    answers = [
        by_name(part, list(tensors_out), what) for part, what in ((data.y_train, "y_train"), (data.y_test, "y_test"))
    ]
    inputs = []
    for name, tensor in tensors_in.items():
        what = "" if len(tensors_in) == 1 else name
        dtype = _require_alike(samples[name], held_out[name], what, reads_tokens(model, tensor, samples[name]))
        # Of several inputs, a preparation is for the pictures.
        pictured = not what or (dtype == "uint8" and _default_preparation(tuple(tensor.shape[1:])) is not None)
        prepared = image if pictured else None
        inputs.append(_input(model, tensor, name, samples[name], dtype, what, preprocessing, prepared))
    if preprocessing != NOTHING and not any(entry.spec.dtype == "uint8" for entry in inputs):
        raise UsageError("--scale, --offset and --preprocess turn pixels into floats, and these data hold no pixels")
    if any(entry.spec.dtype == "float32" for entry in inputs):
        inputs = [entry._replace(in_graph=True) if entry.spec.dtype == "uint8" else entry for entry in inputs]

    probed: list[list[Array]] = []

    def probe(index: int) -> Array:
        """Give what the model answers to a few training samples at an output, asked once."""
        if not probed:
            few = {entry.source: samples[entry.source][:PROBED] for entry in inputs}
            probed.append(raw_answers(model, inputs, [shaped(few[entry.source], entry) for entry in inputs]))
        return probed[0][index]

    outputs = []
    for index, (name, tensor) in enumerate(tensors_out.items()):
        alone = len(tensors_out) == 1
        parts = {
            f"y_{part}{'' if alone else '/' + name}": array[name] for part, array in zip(("train", "test"), answers)
        }
        given = (labels or data.labels) if alone else None
        spec, head, one_hot = recognise_output(tensor, parts, given, bool(labels), partial(probe, index))
        outputs.append(Output(spec if alone else spec._replace(name=_plain(name)), name, head, one_hot))
    return Interface(tuple(inputs), tuple(outputs))


def shaped(array: Array, entry: Input) -> Array:
    """Give samples in an input's shape and dtype."""
    return array.reshape(-1, *entry.spec.shape).astype(entry.spec.dtype, copy=False)


def _tensors(model: KerasModel) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give the model's input and output tensors by name."""
    for tensor in model.inputs:
        if None in tensor.shape[1:] or tensor.shape[0] is not None:
            raise UsageError(f"the model's input is {tensor.shape}; fix every size but the batch, which must be free")
    for tensor in model.outputs:
        if None in tensor.shape[1:]:
            raise UsageError(f"the model's output is {tensor.shape}; fix every size but the batch")
    named_in = _by_unique_name(model, "input", model.inputs, [tensor.name for tensor in model.inputs])
    layers = [tensor._keras_history.operation.name for tensor in model.outputs]
    return named_in, _by_unique_name(model, "output", model.outputs, layers)


def _by_unique_name(model: KerasModel, side: str, tensors: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
    """Give tensors by the keys of a dictionary, or by name; a layer's later ones are called NAME_1, NAME_2, …."""
    structure = None if isinstance(model, keras.Sequential) else getattr(model, side)
    if isinstance(structure, dict) and len(structure) == len(tensors):
        return dict(zip(sorted(structure), tensors))  # in the order in which Keras flattens it
    found: dict[str, Any] = {}
    for tensor, name in zip(tensors, names):
        place, free = 0, name
        while free in found:
            place += 1
            free = f"{name}_{place}"
        found[free] = tensor
    return found


def _require_alike(train: Array, test: Array, what: str, tokens: bool) -> str:
    name = f"/{what}" if what else ""
    one, other = (sample_dtype(array, f"x_{part}{name}", tokens) for part, array in (("train", train), ("test", test)))
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
    preprocessing: Preprocessing,
    image: ImagePreparation | None,
) -> Input:
    wanted, shape = str(keras.backend.standardize_dtype(tensor.dtype)), tuple(tensor.shape[1:])
    of = f" for {what}" if what else ""
    if sample_shape(samples, shape) != shape:
        raise InputError(f"a sample{of} has shape {samples.shape[1:]}, the model takes {shape}; give its own data")
    if wanted not in ("uint8", "float32", "int32", "int64"):
        raise UsageError(f"the model takes {wanted}; export takes models of uint8, float32, int32 or int64")
    if wanted == "uint8" and dtype != "uint8":
        raise InputError(f"the samples{of} are {dtype}, the model takes uint8 pixels; give the pixels as they are")
    spec = _input_spec(samples, shape, dtype, image)
    entry = Input(spec._replace(name=_plain(what)) if what else spec, name)
    if dtype != "uint8":
        return entry._replace(takes=dtype)
    if wanted == "uint8" and preprocessing != NOTHING:
        raise UsageError("--scale and --offset are for models that take floats; this one takes uint8 pixels itself")
    scale, offset, swapped = preprocessing.for_shape(shape)
    layer = leading_layer(model, tensor)
    _, layer_scale, layer_offset = layer or (None, 1.0, 0.0)
    inner_scale = as_factor(np.multiply(scale, layer_scale))
    inner_offset = as_factor(np.add(np.multiply(offset, layer_scale), layer_offset))
    opaque = any(is_opaque(part) for part in model.layers)
    return entry._replace(
        scale=scale,
        offset=offset,
        swapped=swapped,
        rescaling=layer is not None,
        inner_scale=inner_scale,
        inner_offset=inner_offset,
        in_graph=swapped or isinstance(inner_scale, tuple) or isinstance(inner_offset, tuple),
        takes="uint8" if opaque and wanted == "uint8" else "float32",
    )


def _plain(name: str) -> str:
    """Give a name that TensorFlow, both file formats and an ``.npz`` take as it is."""
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    return plain if plain[:1].isalpha() else f"t_{plain}"


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

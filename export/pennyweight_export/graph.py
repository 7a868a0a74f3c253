"""The TensorFlow functions that are converted: the Keras model between the artifacts' input and output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pennyweight.errors import InputError, PennyweightError
from pennyweight.manifest import InputSpec
from pennyweight.samples import Samples

from ._tensorflow import keras, tf
from .arrays import Array, Arrays
from .gathering import Gathering
from .interface import Factor, Input, Interface, KerasModel, is_functional, leading_rescaling

# Float32 rounding of the same sums in another order stays far below this; a wrong graph doesn't.
SAME = 1e-4
ROWS = 1024


class Graph(tf.Module):  # type: ignore[misc]
    """A model as two functions: ``whole`` takes the interface's inputs, ``inner`` what quantisation parameters give.

    Both take one tensor for each input, in the interface's order, and give a dictionary of the outputs by name.
    ``inner`` takes an input after ``Input.held``: what the layers see, where quantisation parameters can hold that.

    The variables are the module's own attributes: a converter that doesn't find them tracked writes NaN. The Keras
    model is none, or saving would trace every layer of it again.
    """

    def __init__(self, model: KerasModel, interface: Interface) -> None:
        super().__init__()
        self.interface = interface
        network = inner_network(model, interface)
        self._tracked = [variable.value for variable in network.variables]

        def network_on(seen: Sequence[Any]) -> dict[str, Any]:
            return _answers(network, interface, seen)

        def inner(*given: Any) -> dict[str, Any]:
            return network_on([_inside(values, entry) for values, entry in zip(given, interface.inputs)])

        def whole(*given: Any) -> dict[str, Any]:
            return network_on(
                [
                    _scaled(_as_float(values), entry.inner_scale, entry.inner_offset)
                    for values, entry in zip(given, interface.inputs)
                ]
            )

        self.whole = _function(whole, [_tensor_spec(entry.spec, entry.spec.dtype) for entry in interface.inputs])
        self.inner = _function(inner, [_tensor_spec(entry.spec, _inner_dtype(entry)) for entry in interface.inputs])


def _function(body: Callable[..., Any], signature: Sequence[Any]) -> Any:
    # Keras' own graphs need no autograph, which reads and rewrites source code for seconds.
    return tf.function(body, input_signature=signature, autograph=False)


def _tensor_spec(spec: InputSpec, dtype: str) -> Any:
    return tf.TensorSpec((None, *spec.shape), dtype, spec.name)


def _inner_dtype(entry: Input) -> str:
    return "int32" if entry.spec.dtype == "int32" else "float32"


def _as_float(values: Any) -> Any:
    return values if values.dtype == tf.int32 else tf.cast(values, tf.float32)


def _inside(values: Any, entry: Input) -> Any:
    return _scaled(values, entry.inner_scale, entry.inner_offset) if entry.in_graph else values


def _scaled(values: Any, scale: Factor, offset: Factor) -> Any:
    scaled = values if np.all(np.equal(scale, 1)) else values * scale
    return scaled if np.all(np.equal(offset, 0)) else scaled + offset


def _answers(model: KerasModel, interface: Interface, values: Sequence[Any]) -> dict[str, Any]:
    """Call a Keras model on its inputs in order; give its outputs, with heads, by the interface's names."""
    given = values[0] if len(values) == 1 else keras.tree.pack_sequence_as(model.input, list(values))
    answers = keras.tree.flatten(model(given, training=False))
    return {output.spec.name: with_head(answer, output.head) for output, answer in zip(interface.outputs, answers)}


def with_head(answers: Any, head: str) -> Any:
    """Append the softmax or sigmoid that the model lacks."""
    return {"softmax": tf.nn.softmax, "sigmoid": tf.math.sigmoid, "": tf.identity}[head](answers)


def original_answers(model: KerasModel, interface: Interface, inputs: Arrays, folder: Path | None = None) -> Arrays:
    """Give the original Keras model's outputs on interface inputs, by name, with heads appended: (n, …) float32.

    Answers too many for the memory go to a nameless file in ``folder``, by default the system's for temporary files.

    Raises:
        InputError: an answer is NaN or infinite.
        OutputError: the disk is full.
    """
    call = tf.function(lambda *batch: _answers(model, interface, batch), autograph=False)
    rows = len(next(iter(inputs.values())))
    together = {output.spec.name: Gathering(rows, folder) for output in interface.outputs}
    for start in range(0, rows, ROWS):
        batch = [tf.constant(_fed(inputs[entry.spec.name][start : start + ROWS], entry)) for entry in interface.inputs]
        for name, answer in call(*batch).items():
            answers = answer.numpy().astype(np.float32, copy=False)
            if not np.isfinite(answers).all():
                raise InputError("the model itself answers NaN or infinity on evaluation samples; train it again")
            together[name].add(answers)
    return {name: gathering.array() for name, gathering in together.items()}


def _fed(batch: Array, entry: Input) -> Array:
    """Give samples as the training fed them to the Keras model."""
    if np.all(np.equal(entry.scale, 1)) and np.all(np.equal(entry.offset, 0)):
        return batch
    fed: Array = batch.astype(np.float32) * np.asarray(entry.scale, np.float32) + np.asarray(entry.offset, np.float32)
    return fed


def require_same(graph: Graph, samples: Samples) -> None:
    """Hold the rebuilt graph to the original's answers; raise PennyweightError where they differ."""
    got = graph.whole(*[tf.constant(samples.inputs[entry.spec.name]) for entry in graph.interface.inputs])
    for name, wanted in samples.outputs.items():
        allowed = SAME * max(1.0, float(np.abs(wanted).max()))
        largest = float(np.abs(got[name].numpy() - wanted).max())
        if not largest <= allowed:
            raise PennyweightError(f"the graph made for export differs from the model by {largest:.3g}; report this")


def inner_network(model: KerasModel, interface: Interface) -> KerasModel:
    """Give a model of the same weights that takes float32 after rescaling; one of unknown structure stays as it is.

    Flatten and Reshape become one reshape whose batch is −1: Keras' own ask for the batch size at run time, which
    costs three more operators in every artifact.
    """
    if not (isinstance(model, keras.Sequential) or is_functional(model)):
        return model
    folded = [
        leading_rescaling(model, tensor) for tensor, entry in zip(model.inputs, interface.inputs) if entry.rescaling
    ]

    def copied(layer: Any) -> Any:
        if any(layer is rescaling for rescaling in folded):
            return keras.layers.Identity()
        return _plain_reshape(layer) or layer.__class__.from_config(layer.get_config())

    entries = [
        keras.Input(entry.spec.shape, dtype=_inner_dtype(entry), name=tensor.name)
        for tensor, entry in zip(model.inputs, interface.inputs)
    ]
    packed = entries[0] if len(entries) == 1 else keras.tree.pack_sequence_as(model.input, entries)
    network = keras.models.clone_model(model, input_tensors=packed, clone_function=copied)
    network.set_weights(model.get_weights())
    return network


class _BatchReshape(keras.layers.Layer):  # type: ignore[misc]
    """One reshape to (−1, *target)."""

    def __init__(self, target: tuple[int, ...], name: str) -> None:
        super().__init__(name=name)
        self._target = target

    def call(self, values: Any) -> Any:
        return tf.reshape(values, (-1, *self._target))

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (shape[0], *self._target)


def _plain_reshape(layer: Any) -> Any | None:
    flatten = isinstance(layer, keras.layers.Flatten) and layer.data_format == "channels_last"
    if not flatten and not isinstance(layer, keras.layers.Reshape):
        return None
    # A layer used twice may give two shapes.
    targets = {tuple(tensor.shape[1:]) for node in layer._inbound_nodes for tensor in node.output_tensors}
    if len(targets) != 1 or None in (target := targets.pop()):
        return None
    return _BatchReshape(target, layer.name)

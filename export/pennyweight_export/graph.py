"""The TensorFlow functions that are converted: the Keras model between the artifacts' input and output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pennyweight.errors import InputError, PennyweightError

from ._tensorflow import keras, tf
from .arrays import Array
from .interface import Interface, KerasModel, is_functional, leading_rescaling

# Float32 rounding of the same sums in another order stays far below this; a wrong graph doesn't.
SAME = 1e-4
ROWS = 1024


class Graph(tf.Module):  # type: ignore[misc]
    """A model as two functions: ``whole`` takes the interface's input, ``inner`` what the layers after rescaling see.

    The variables are the module's own attributes: a converter that doesn't find them tracked writes NaN. The Keras
    model is none, or saving would trace every layer of it again.
    """

    def __init__(self, model: KerasModel, interface: Interface) -> None:
        super().__init__()
        self.interface = interface
        network = inner_network(model, interface)
        self._tracked = [variable.value for variable in network.variables]
        shape, given, output = (None, *interface.input.shape), interface.input, interface.output.name

        def inner(seen: Any) -> dict[str, Any]:
            return {output: with_head(network(seen, training=False), interface.head)}

        def whole(values: Any) -> dict[str, Any]:
            return inner(_rescaled(tf.cast(values, tf.float32), interface))

        self.whole = _function(whole, tf.TensorSpec(shape, given.dtype, given.name))
        self.inner = _function(inner, tf.TensorSpec(shape, tf.float32, given.name))


def _function(body: Callable[[Any], Any], given: Any) -> Any:
    # Keras' own graphs need no autograph, which reads and rewrites source code for seconds.
    return tf.function(body, input_signature=[given], autograph=False)


def _rescaled(pixels: Any, interface: Interface) -> Any:
    scaled = pixels if interface.inner_scale == 1 else pixels * interface.inner_scale
    return scaled if interface.inner_offset == 0 else scaled + interface.inner_offset


def with_head(answers: Any, head: str) -> Any:
    """Append the softmax or sigmoid that the model lacks."""
    return {"softmax": tf.nn.softmax, "sigmoid": tf.math.sigmoid, "": tf.identity}[head](answers)


def original_answers(model: KerasModel, interface: Interface, inputs: Array) -> Array:
    """Give the original Keras model's outputs on interface inputs, with the head appended: (n, …) float32.

    Raises:
        InputError: an answer is NaN or infinite.
    """
    call = tf.function(lambda batch: with_head(model(batch, training=False), interface.head), autograph=False)
    answers = []
    for start in range(0, len(inputs), ROWS):
        batch = inputs[start : start + ROWS]
        if interface.scale != 1 or interface.offset != 0:
            batch = batch.astype(np.float32) * np.float32(interface.scale) + np.float32(interface.offset)
        answers.append(call(tf.constant(batch)).numpy())
    together: Array = np.concatenate(answers).astype(np.float32)
    if not np.isfinite(together).all():
        raise InputError("the model itself answers NaN or infinity on evaluation samples; train it again")
    return together


def require_same(graph: Graph, inputs: Array, wanted: Array) -> None:
    """Hold the rebuilt graph to the original's answers; raise PennyweightError where they differ."""
    got = graph.whole(tf.constant(inputs))[graph.interface.output.name].numpy()
    allowed = SAME * max(1.0, float(np.abs(wanted).max()))
    largest = float(np.abs(got - wanted).max())
    if not largest <= allowed:
        raise PennyweightError(f"the graph made for export differs from the model by {largest:.3g}; report this")


def inner_network(model: KerasModel, interface: Interface) -> KerasModel:
    """Give a model of the same weights that takes float32 after rescaling; one of unknown structure stays as it is.

    Flatten and Reshape become one reshape whose batch is −1: Keras' own ask for the batch size at run time, which
    costs three more operators in every artifact.
    """
    if not (isinstance(model, keras.Sequential) or is_functional(model)):
        return model
    rescaling = leading_rescaling(model) if interface.rescaling else None

    def copied(layer: Any) -> Any:
        if layer is rescaling:
            return keras.layers.Identity()
        return _plain_reshape(layer) or layer.__class__.from_config(layer.get_config())

    entry = keras.Input(interface.input.shape, dtype="float32")
    network = keras.models.clone_model(model, input_tensors=entry, clone_function=copied)
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

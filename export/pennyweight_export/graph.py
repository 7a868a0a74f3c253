"""The TensorFlow functions that are converted: the Keras model between the artifacts' input and output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pennyweight.errors import PennyweightError
from pennyweight.manifest import InputSpec
from pennyweight.samples import Samples

from ._tensorflow import keras, tf
from .foreign import is_opaque, variables_of
from .interface import Input, Interface, KerasModel
from .original import called, packed, with_head
from .preprocessing import leading_layer

# Float32 rounding of the same sums in another order stays far below this; a wrong graph doesn't.
SAME = 1e-4
# Steps of a recurrent layer that are written out one by one.
UNROLLED = 128


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
        self._tracked = variables_of(network)

        def network_on(seen: Sequence[Any]) -> dict[str, Any]:
            answers = called(network, seen)
            return {
                output.spec.name: with_head(answer, output.head) for output, answer in zip(interface.outputs, answers)
            }

        def inner(*given: Any) -> dict[str, Any]:
            return network_on(
                [
                    _prepared(values, entry) if entry.in_graph else values
                    for values, entry in zip(given, interface.inputs)
                ]
            )

        def whole(*given: Any) -> dict[str, Any]:
            return network_on(
                [_prepared(_cast(values, entry.takes), entry) for values, entry in zip(given, interface.inputs)]
            )

        specs = [entry.spec for entry in interface.inputs]
        taken = [entry.takes for entry in interface.inputs]
        self.whole = _function(whole, specs, [spec.dtype for spec in specs])
        self.inner = _function(inner, specs, taken)
        self.loops = has_loop(self.inner)
        if self.loops:
            self._whole_of_one = _function(whole, specs, [spec.dtype for spec in specs], 1)
            self._inner_of_one = _function(inner, specs, taken, 1)

    def for_tflite(self, inner: bool) -> Any:
        """Give one of the functions, traced: for TFLite a loop's batch must be known, and is 1."""
        if self.loops:
            return (self._inner_of_one if inner else self._whole_of_one).get_concrete_function()
        return (self.inner if inner else self.whole).get_concrete_function()


def has_loop(function: Any) -> bool:
    """Say whether a traced function has a loop in it, as recurrent layers that weren't unrolled make."""
    content = function.get_concrete_function().graph.as_graph_def()
    bodies = [content.node, *(part.node_def for part in content.library.function)]
    return any(node.op in ("While", "StatelessWhile") for nodes in bodies for node in nodes)


def _function(
    body: Callable[..., Any], specs: Sequence[InputSpec], dtypes: Sequence[str], batch: int | None = None
) -> Any:
    signature = [tf.TensorSpec((batch, *spec.shape), dtype, spec.name) for spec, dtype in zip(specs, dtypes)]
    # Keras' own graphs need no autograph, which reads and rewrites source code for seconds.
    return tf.function(body, input_signature=signature, autograph=False)


def _cast(values: Any, dtype: str) -> Any:
    return values if dtype in ("int32", "uint8") else tf.cast(values, dtype)


def _prepared(values: Any, entry: Input) -> Any:
    """Turn pixels into what the layers see.

    Per channel that is one 1×1 convolution: quantised, its weights have a scale for each channel and its offsets 32
    bits, where a multiplication and an addition would share one scale of 8 bits among the channels.
    """
    scale, offset = entry.inner_scale, entry.inner_offset
    alike = isinstance(scale, float) and isinstance(offset, float)
    if len(entry.spec.shape) != 3 or (alike and not entry.swapped):
        values = tf.reverse(values, [-1]) if entry.swapped else values
        scaled = values if np.all(np.equal(scale, 1)) else values * scale
        return scaled if np.all(np.equal(offset, 0)) else scaled + offset
    channels = entry.spec.shape[-1]
    factors = np.broadcast_to(np.asarray(scale, np.float32), channels)
    if entry.swapped:
        kernel = np.eye(channels, dtype=np.float32)[::-1] * factors
        prepared = tf.nn.conv2d(values, kernel[None, None], 1, "VALID")
    else:
        prepared = tf.nn.depthwise_conv2d(values, factors[None, None, :, None], [1, 1, 1, 1], "VALID")
    return tf.nn.bias_add(prepared, np.broadcast_to(np.asarray(offset, np.float32), channels))


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
    leading = [leading_layer(model, tensor) for tensor, entry in zip(model.inputs, interface.inputs) if entry.rescaling]
    folded = [found[0] for found in leading if found]

    def copied(layer: Any) -> Any:
        if any(layer is rescaling for rescaling in folded):
            return keras.layers.Identity()
        if is_opaque(layer):
            return layer
        return _plain_reshape(layer) or layer.__class__.from_config(_unrolled(layer, layer.get_config()))

    entries = [
        keras.Input(entry.spec.shape, dtype=entry.takes, name=tensor.name)
        for tensor, entry in zip(model.inputs, interface.inputs)
    ]
    network = keras.models.clone_model(model, input_tensors=packed(model, entries), clone_function=copied)
    network.set_weights(model.get_weights())
    return network


def _unrolled(layer: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Give a recurrent layer's configuration with its loop unrolled, where it is short enough.

    TensorFlow's converter takes a loop with a batch of 1 only, and crashes when it quantises one.
    """
    if not isinstance(layer, (keras.layers.RNN, keras.layers.Bidirectional)) or layer.input.shape[1] > UNROLLED:
        return config
    parts = [
        config,
        *(config[key]["config"] for key in ("layer", "backward_layer") if isinstance(config.get(key), dict)),
    ]
    for part in parts:
        if "unroll" in part:
            part["unroll"] = True
    return config


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


def is_functional(model: KerasModel) -> bool:
    """Say whether the model is a Functional one, whose graph Keras can rebuild."""
    return type(model).__name__ == "Functional" or type(model) is keras.Model

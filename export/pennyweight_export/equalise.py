"""Channels of a tensor brought to one range, by moving factors between the layers around it.

The model stays the same. An activation has one scale for all its channels, weights have one per output channel; where a
ReLU (or nothing) stands between two layers, a channel may be multiplied before and divided after it. Nagel, van Baalen,
Blankevoort, Welling, "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019; how much of the
difference is moved (``share``): Xiao, Lin, Seznec, Wu, Demouth, Han, "SmoothQuant", 2022.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .arrays import Array
from .quantizer import Operator, observe, operators
from .ranges import groups
from .tflite_file import parse_tflite
from .weights import PASSED_ACTIVATIONS, Layer, constants, weighted_layers, with_constants

# Through these, a positive factor of a channel passes unchanged; a sum passes what all its terms have.
_LINEAR = {"RESHAPE", "MAX_POOL_2D", "AVERAGE_POOL_2D", "MEAN", "PAD", "RELU", "REDUCE_MAX", "ADD"}
# A factor beyond this would trade one layer's range for the other's.
LARGEST = 2.0**14


class _Joint(NamedTuple):
    """Tensors whose channels can only be scaled together, the layers that write them and those that read them."""

    tensors: set[str]
    writers: list[Layer]
    readers: list[Layer]


def equalised(content: bytes, inputs: Mapping[str, Array], share: float) -> tuple[bytes, int]:
    """Give the float file with channels equalised, and the number of tensors that layers write in which they were.

    Args:
        content: a float file.
        inputs: samples by the input tensor's name.
        share: of the difference between channels that is moved into the layer behind: 1 makes the activations' channels
            alike, 0.5 halves the difference (as powers) between activations and weights.
    """
    joints = _joints(content, weighted_layers(content), operators(content))
    layers = [layer for joint in joints for layer in (*joint.writers, *joint.readers)]
    held = constants(content, {name for layer in layers for name in (layer.weights, layer.bias) if name})
    largest = _largest(content, inputs, {name for joint in joints for name in joint.tensors})
    moved = 0
    for joint in joints:
        channels = _channels(joint, held, largest)
        if channels is None:
            continue
        factors = _factors(channels, share)
        for layer in joint.writers:
            _multiply(held, layer.weights, layer.axis, factors)
            if layer.bias:
                held[layer.bias] = held[layer.bias] * factors
        for layer in joint.readers:
            repeats = held[layer.weights].shape[-1] // len(factors)
            # A depth multiplier repeats each channel; a flattened picture has its channels last.
            depthwise = layer.operator.type == "DEPTHWISE_CONV_2D"
            spread = np.repeat(factors, repeats) if depthwise else np.tile(factors, repeats)
            _multiply(held, layer.weights, -1, 1 / spread)
        moved += len(joint.writers)
    return with_constants(content, held), moved


def _joints(content: bytes, layers: Iterable[Layer], every: Sequence[Operator]) -> list[_Joint]:
    """Give what can be scaled: written and read by layers alone, but for linear operators between."""
    model, _ = parse_tflite(content)
    graph = model.subgraphs[0]
    given = {graph.tensors[index].name.decode() for index in graph.outputs}
    by_position = {layer.operator.position: layer for layer in layers}
    found = []
    for tensors in groups(every, _LINEAR):
        inside = [one for one in every if one.type in _LINEAR and tensors & {*one.inputs, *one.outputs}]
        writers = [one for one in every if one not in inside and tensors & set(one.outputs)]
        readers = [one for one in every if one not in inside and tensors & set(one.inputs)]
        written = {name for one in (*inside, *writers) for name in one.outputs}
        # A sum with a constant would need the constant scaled, and a clipping sum can't be.
        scalable = all(_passes(model, one) for one in inside) and tensors <= written and not tensors & given
        if (
            not writers
            or not readers
            or not scalable
            or any(one.position not in by_position for one in (*writers, *readers))
        ):
            continue
        joint = _Joint(tensors, *([by_position[one.position] for one in ends] for ends in (writers, readers)))
        if all(layer.activation != "other" for layer in joint.writers):
            found.append(joint)
    return found


def _passes(model: Any, operator: Operator) -> bool:
    if operator.type != "ADD":
        return True
    options = model.subgraphs[0].operators[operator.position].builtinOptions
    return not operator.constants and options.fusedActivationFunction in PASSED_ACTIVATIONS


def _channels(joint: _Joint, held: Mapping[str, Array], largest: Mapping[str, Array]) -> Array | None:
    """Give the largest magnitude of each channel, or None where the layers don't agree on what a channel is."""
    for layer in (*joint.writers, *joint.readers):
        if layer.weights not in held or (layer.bias and layer.bias not in held):
            return None
    sizes = {held[layer.weights].shape[layer.axis] for layer in joint.writers}
    size = sizes.pop()
    if sizes or any(held[layer.weights].shape[-1] % size for layer in joint.readers):
        return None
    if any(len(largest[name]) % size for name in joint.tensors):
        return None
    return np.max([largest[name].reshape(-1, size).max(axis=0) for name in joint.tensors], axis=0)  # type: ignore[no-any-return]


def _largest(content: bytes, inputs: Mapping[str, Array], names: set[str]) -> dict[str, Array]:
    """Give the largest magnitude along the last axis."""
    found: dict[str, Array] = {}
    for batch in observe(content, inputs):
        for name in names & batch.keys():
            values = np.abs(batch[name]).reshape(-1, batch[name].shape[-1]).max(axis=0)
            found[name] = np.maximum(found[name], values) if name in found else values
    return found


def _factors(channels: Array, share: float) -> Array:
    # Channels that never answer have no range to speak of.
    alive = np.where(channels > 0, channels, channels.max() or 1.0).astype(np.float64)
    factors = np.minimum((alive.max() / alive) ** share, LARGEST)
    # Powers of two move no bit of a float's mantissa: the float model gives the same answers.
    powers: Array = np.exp2(np.round(np.log2(factors))).astype(np.float32)
    return powers


def _multiply(held: dict[str, Array], name: str, axis: int, factors: Array) -> None:
    shape = [1] * held[name].ndim
    shape[axis] = -1
    held[name] = held[name] * factors.reshape(shape)

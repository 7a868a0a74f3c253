"""Channels of a tensor brought to one range, by moving factors between the layers around it.

The model stays the same. An activation has one scale for all its channels, weights have one per output channel; where a
ReLU (or nothing) stands between two layers, a channel may be multiplied before and divided after it. Nagel, van Baalen,
Blankevoort, Welling, "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019; how much of the
difference is moved (``share``): Xiao, Lin, Seznec, Wu, Demouth, Han, "SmoothQuant", 2022.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from .arrays import Array
from .quantizer import Operator, observe, operators
from .tflite_file import parse_tflite
from .weights import Layer, constants, weighted_layers, with_constants

# Through these, a positive factor of a channel passes unchanged.
_LINEAR = {"RESHAPE", "MAX_POOL_2D", "AVERAGE_POOL_2D", "MEAN", "PAD", "RELU", "REDUCE_MAX"}
# A factor beyond this would trade one layer's range for the other's.
LARGEST = 2.0**14


def equalised(content: bytes, inputs: Mapping[str, Array], share: float) -> tuple[bytes, int]:
    """Give the float file with channels equalised, and between how many pairs of layers.

    Args:
        content: a float file.
        inputs: samples by the input tensor's name.
        share: of the difference between channels that is moved into the layer behind: 1 makes the activations' channels
            alike, 0.5 halves the difference (as powers) between activations and weights.
    """
    model, _ = parse_tflite(content)
    graph = model.subgraphs[0]
    given = {graph.tensors[index].name.decode() for index in graph.outputs}
    pairs = _pairs(weighted_layers(content), operators(content), given)
    names = {name for pair in pairs for layer in pair for name in (layer.weights, layer.bias) if name}
    held, largest = constants(content, names), _largest(content, inputs, [one.operator.outputs[0] for one, _ in pairs])
    moved = 0
    for before, after in pairs:
        if not {before.weights, after.weights} <= held.keys() or (before.bias and before.bias not in held):
            continue
        channels = largest[before.operator.outputs[0]]
        axis = held[after.weights].ndim - 1  # of what the layer reads
        repeats, rest = divmod(held[after.weights].shape[axis], len(channels))
        if rest:
            continue
        factors = _factors(channels, share)
        _multiply(held, before.weights, before.axis, factors)
        if before.bias:
            held[before.bias] = held[before.bias] * factors
        tiled = (
            np.repeat(factors, repeats)
            if after.operator.type == "DEPTHWISE_CONV_2D"
            else np.tile(factors, repeats)  # a flattened picture's channels come last
        )
        _multiply(held, after.weights, axis, 1 / tiled)
        moved += 1
    return with_constants(content, held), moved


def _pairs(layers: Iterable[Layer], every: Sequence[Operator], given: set[str]) -> list[tuple[Layer, Layer]]:
    """Give the pairs of layers of which the second alone reads what the first gives, through linear operators.

    ``given`` are the model's outputs, whose values nobody may change.
    """
    by_position = {layer.operator.position: layer for layer in layers}
    found = []
    for before in by_position.values():
        if before.activation == "other":
            continue
        name = before.operator.outputs[0]
        while True:
            readers = [operator for operator in every if name in operator.inputs]
            if len(readers) != 1 or name in given:
                break
            if readers[0].position in by_position:
                found.append((before, by_position[readers[0].position]))
                break
            if readers[0].type not in _LINEAR:
                break
            name = readers[0].outputs[0]
    return found


def _largest(content: bytes, inputs: Mapping[str, Array], names: Iterable[str]) -> dict[str, Array]:
    """Give the largest magnitude of each channel, the last axis."""
    wanted, found = set(names), dict[str, Array]()
    for batch in observe(content, inputs):
        for name in wanted & batch.keys():
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

"""Weights rounded to int8 so that each one's error is made good by those not yet rounded.

GPTQ: Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", 2022. ai-edge-quantizer has it for dense layers alone, and without the elimination of the columns already
rounded; here dense, convolutional and depthwise layers are rounded per channel. Bias correction: Nagel, van Baalen,
Blankevoort, Welling, "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from .arrays import Array
from .quantizer import observe
from .weights import Layer, constants, weighted_layers

LEVELS = 127  # int8 weights are symmetric: −128 is never used
# Of the mean of the moments' diagonal, added to it: the paper's own figure.
DAMPING = 0.01
# A layer with more inputs than this per output is left alone: its moments would take gigabytes and minutes.
MOST_INPUTS = 4096
# Positions of a convolution that are looked at, per batch of samples: neighbours tell nearly the same.
POSITIONS = 20_000


class Rounded(NamedTuple):
    """A layer's constants by name, the weights on int8's grid, and what 127 stands for in each channel."""

    constants: dict[str, Array]
    weights: str
    bound: Array


def compensated(content: bytes, inputs: Mapping[str, Array], seed: int = 0) -> dict[str, Rounded]:
    """Round the weights of every layer to its own int8 grid, with compensation and corrected biases.

    Returns:
        By the operator's scope, what takes the place of its constants.

    Args:
        content: a float file.
        inputs: samples by the input tensor's name; a few hundred do.
        seed: of the choice of positions in convolutions.
    """
    layers = weighted_layers(content)
    held = constants(content, {name for layer in layers for name in (layer.weights, layer.bias) if name})
    layers = [layer for layer in layers if layer.weights in held and _inputs_per_output(layer, held) <= MOST_INPUTS]
    moments = _moments(content, layers, held, inputs, seed)
    found = {}
    for layer in layers:
        weights, (squares, means) = held[layer.weights], moments[layer.weights]
        columns = as_columns(layer, weights)
        bound = np.abs(columns).max(axis=-1)
        rounded = np.stack([_round(*group) for group in zip(columns, squares, bound, strict=True)])
        new = {layer.weights: from_columns(layer, rounded, weights.shape)}
        if layer.bias in held:
            lost = np.einsum("gok,gk->go", columns - rounded, means).reshape(-1)
            new[layer.bias] = (held[layer.bias] + lost).astype(np.float32)
        found[layer.operator.scope] = Rounded(new, layer.weights, bound.reshape(-1))
    return found


def as_columns(layer: Layer, weights: Array) -> Array:
    """Give weights as (groups, outputs, inputs): one group, or one per channel of a depthwise layer."""
    if layer.operator.type == "DEPTHWISE_CONV_2D":
        return np.moveaxis(weights[0].reshape(-1, weights.shape[3]), 1, 0)[:, None, :]
    return weights.reshape(1, len(weights), -1)


def from_columns(layer: Layer, columns: Array, shape: tuple[int, ...]) -> Array:
    """Undo ``as_columns``."""
    if layer.operator.type == "DEPTHWISE_CONV_2D":
        columns = np.moveaxis(columns[:, 0, :], 0, 1)
    return np.ascontiguousarray(columns.reshape(shape), np.float32)


def patches(layer: Layer, values: Array, kernel: tuple[int, int]) -> Array:
    """Give what a convolution's kernel sees at every position: (n, rows, columns, kernel rows × columns, channels)."""
    (kernel_rows, kernel_columns), (down, right) = kernel, layer.dilation
    extents = (kernel_rows - 1) * down + 1, (kernel_columns - 1) * right + 1
    if layer.same:
        pads = [_pads(size, *pair) for size, pair in zip(values.shape[1:3], zip(extents, layer.stride), strict=True)]
        values = np.pad(values, ((0, 0), *pads, (0, 0)))
    windows: Array = np.lib.stride_tricks.sliding_window_view(values, extents, axis=(1, 2))  # type: ignore[call-overload]
    windows = windows[:, :: layer.stride[0], :: layer.stride[1], :, ::down, ::right]
    return np.moveaxis(windows, 3, -1).reshape(*windows.shape[:3], -1, values.shape[3])


def _pads(size: int, extent: int, stride: int) -> tuple[int, int]:
    """Give TensorFlow's SAME padding: the odd one goes behind."""
    total = max(0, (-(-size // stride) - 1) * stride + extent - size)
    return total // 2, total - total // 2


def _inputs_per_output(layer: Layer, held: Mapping[str, Array]) -> int:
    return as_columns(layer, held[layer.weights]).shape[2]


def _moments(
    content: bytes, layers: Iterable[Layer], held: Mapping[str, Array], inputs: Mapping[str, Array], seed: int
) -> dict[str, tuple[Array, Array]]:
    """Give each layer's second moments (groups, inputs, inputs) and means (groups, inputs) of what it sees."""
    random = np.random.default_rng(seed)
    sums: dict[str, tuple[Array, Array, int]] = {}
    for batch in observe(content, inputs):
        for layer in layers:
            seen = _seen(layer, batch[layer.input], held[layer.weights].shape, random)
            new = np.matmul(seen.transpose(0, 2, 1), seen), seen.sum(axis=1), seen.shape[1]
            old = sums.get(layer.weights)
            sums[layer.weights] = new if old is None else (old[0] + new[0], old[1] + new[1], old[2] + new[2])
    return {name: (squares / rows, means / rows) for name, (squares, means, rows) in sums.items()}


def _seen(layer: Layer, values: Array, shape: tuple[int, ...], random: np.random.Generator) -> Array:
    """Give (groups, positions, inputs) float64."""
    if layer.operator.type == "FULLY_CONNECTED":
        return values.reshape(1, -1, shape[1]).astype(np.float64)
    all_seen = patches(layer, values, (shape[1], shape[2]))
    flat = all_seen.reshape(-1, *all_seen.shape[3:])
    if len(flat) > POSITIONS:
        flat = flat[random.choice(len(flat), POSITIONS, replace=False)]
    if layer.operator.type == "CONV_2D":
        return flat.reshape(1, len(flat), -1).astype(np.float64)
    # A depth multiplier repeats each input channel.
    repeated = np.repeat(flat, shape[3] // flat.shape[2], axis=2)
    return np.moveaxis(repeated, 2, 0).astype(np.float64)


def _round(weights: Array, squares: Array, bound: Array) -> Array:
    """Round (outputs, inputs) to the grid of ``bound`` / 127 per output; algorithm 1 of the GPTQ paper.

    The inputs are taken in the order of falling second moment, so that the largest are rounded while there still are
    others to make good.
    """
    order = np.argsort(-np.diag(squares), kind="stable")
    dead = np.diag(squares)[order] <= 0
    damped = squares[np.ix_(order, order)].copy()
    damping = DAMPING * max(float(np.mean(np.diag(damped))), 1e-12)
    damped[np.diag_indices_from(damped)] += damping
    # The upper factor: inverse = upperᵀ × upper.
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T
    left = weights[:, order].astype(np.float64)
    steps = np.where(bound > 0, bound, 1.0)[:, None].astype(np.float64) / LEVELS
    rounded = np.empty_like(left)
    for column in range(left.shape[1]):
        value = left[:, column : column + 1]
        rounded[:, column : column + 1] = np.clip(np.round(value / steps), -LEVELS, LEVELS) * steps
        error = (value - rounded[:, column : column + 1]) / upper[column, column]
        if not dead[column]:
            left[:, column + 1 :] -= error * upper[column, column + 1 :]
    result = np.empty_like(rounded)
    result[:, order] = rounded
    return result

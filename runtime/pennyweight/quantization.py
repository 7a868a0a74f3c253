"""Quantise and dequantise, the one place: value = scale × (wire value − zero point).

The formula is TFLite's 8-bit quantisation specification; rounding is to the nearest, ties to even.
"""

from __future__ import annotations

from typing import Any, Callable

import numpy as np

from .manifest import InputSpec, OutputSpec, Wire

Array = Any  # np.ndarray[Any, Any] can't be subscripted at run time on numpy 1.21
Convert = Callable[[Array], Array]


def quantise(values: Array, wire: Wire) -> Array:
    """Give ``values`` in the wire's dtype; what lies outside its range takes the nearest end."""
    limits = np.iinfo(wire.dtype)
    scaled = np.rint(np.asarray(values, np.float64) / (wire.scale or 1.0)) + (wire.zero_point or 0)
    return np.clip(scaled, limits.min, limits.max).astype(wire.dtype)


def dequantise(values: Array, wire: Wire) -> Array:
    """Give wire values as float32."""
    scale, zero_point = np.float32(wire.scale or 1.0), np.float32(wire.zero_point or 0)
    return (values.astype(np.float32) - zero_point) * scale


def to_wire(spec: InputSpec, wire: Wire) -> Convert | None:
    """Give the function from the model's values to the wire's, or None where they are the same."""
    if wire.scale is None:
        return None if wire.dtype == spec.dtype else lambda values: values.astype(wire.dtype)
    if spec.dtype == wire.dtype and wire.scale == 1.0 and not wire.zero_point:
        return None
    if spec.dtype == "uint8" and wire.dtype == "int8" and wire.scale == 1.0 and wire.zero_point == -128:
        return lambda values: (values ^ np.uint8(128)).view(np.int8)
    if spec.dtype == "uint8":
        table = quantise(np.arange(256), wire)
        return lambda values: table.take(values)
    return lambda values: quantise(values, wire)


def from_wire(spec: OutputSpec, wire: Wire) -> Convert | None:
    """Give the function from the wire's values to the answer, or None where they are the same."""
    steps: list[Convert] = []
    if wire.scale is not None:
        steps.append(lambda values: dequantise(values, wire))
    elif wire.dtype != "float32":
        steps.append(lambda values: values.astype(np.float32))
    if spec.meaning == "logits" and spec.labelling != "none":
        binary = spec.labelling == "multi" or spec.shape == (1,)
        steps.append(sigmoid if binary else softmax)
    if not steps:
        return None
    if len(steps) == 1:
        return steps[0]
    return lambda values: steps[1](steps[0](values))


def softmax(logits: Array) -> Array:
    """Give probabilities over the last axis, float32; the largest logit is taken off first, so none overflows."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: Array = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def sigmoid(logits: Array) -> Array:
    """Give 1 / (1 + e^-x), float32, without overflow for x of any size."""
    exponential = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1.0, exponential).astype(np.float32) / (1 + exponential)

"""The layers of a float ``.tflite`` file that hold weights: read, and written back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from .arrays import Array
from .quantizer import Operator, operators
from .tflite_file import pack_tflite, parse_tflite

_NO_ACTIVATION = schema.ActivationFunctionType.NONE
_RELU = schema.ActivationFunctionType.RELU
# A positive factor passes through these.
PASSED_ACTIVATIONS = {_NO_ACTIVATION, _RELU}
# The axis of the weights along which each output channel has its own scale.
CHANNEL_AXIS = {"FULLY_CONNECTED": 0, "CONV_2D": 0, "DEPTHWISE_CONV_2D": 3}


class Layer(NamedTuple):
    """One operator with weights of its own, and how it slides over its input where it is a convolution.

    ``activation`` is "none", "relu" or "other": what is fused behind it. ``same`` says that the input is padded so
    that a stride of 1 keeps its size.
    """

    operator: Operator
    weights: str
    bias: str | None
    activation: str
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    same: bool = False

    @property
    def input(self) -> str:
        """The tensor that it reads."""
        return self.operator.inputs[0]

    @property
    def axis(self) -> int:
        """The axis of the weights that counts output channels."""
        return CHANNEL_AXIS[self.operator.type]


def weighted_layers(content: bytes) -> list[Layer]:
    """Give the dense, convolutional and depthwise layers whose constant weights no other operator reads."""
    model, _ = parse_tflite(content)
    graph, found = model.subgraphs[0], []
    every = operators(content)
    readers = Counter(name for operator in every for name in operator.constants)
    for operator in every:
        if operator.type not in CHANNEL_AXIS or len(operator.inputs) != 1:
            continue
        raw = graph.operators[operator.position]
        names = [graph.tensors[i].name.decode() if i >= 0 else None for i in raw.inputs]
        weights, bias = names[1], names[2] if len(names) > 2 else None
        if weights is None or readers[weights] != 1 or (bias is not None and readers[bias] != 1):
            continue
        found.append(_layer(operator, weights, bias, raw.builtinOptions))
    return found


def constants(content: bytes, names: set[str]) -> dict[str, Array]:
    """Give float32 constants by their tensors' names."""
    model, _ = parse_tflite(content)
    found = {}
    for tensor in model.subgraphs[0].tensors:
        name = tensor.name.decode()
        if name in names and tensor.type == schema.TensorType.FLOAT32:
            data = np.asarray(model.buffers[tensor.buffer].data, np.uint8)
            found[name] = data.view(np.float32).reshape(tensor.shape).copy()
    return found


def with_constants(content: bytes, new: Mapping[str, Array]) -> bytes:
    """Give the file with float32 constants of the same shapes in the place of its own."""
    if not new:
        return content
    model, _ = parse_tflite(content)
    shared = Counter(tensor.buffer for graph in model.subgraphs for tensor in graph.tensors)
    for tensor in model.subgraphs[0].tensors:
        values = new.get(tensor.name.decode())
        if values is not None:
            if shared[tensor.buffer] > 1:  # two constants of the same bytes
                model.buffers.append(schema.BufferT())
                tensor.buffer = len(model.buffers) - 1
            model.buffers[tensor.buffer].data = np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint8)
    return pack_tflite(model)


def _layer(operator: Operator, weights: str, bias: str | None, options: Any) -> Layer:
    code = options.fusedActivationFunction
    activation = {_NO_ACTIVATION: "none", _RELU: "relu"}.get(code, "other")
    layer = Layer(operator, weights, bias, activation)
    if operator.type == "FULLY_CONNECTED":
        return layer
    return layer._replace(
        stride=(options.strideH, options.strideW),
        dilation=(options.dilationHFactor, options.dilationWFactor),
        same=options.padding == schema.Padding.SAME,
    )

"""The error that quantisation brings, layer by layer: each one alone, and all together up to it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pennyweight.errors import PennyweightError, UsageError

from .arrays import Array
from .quality import HeldOut
from .quantizer import Kind, Operator, Range, Ranges, minimum_maximum, observe, operators, quantise
from .ranges import PASSING
from .tflite_file import parse_tflite

# These change the representation and compute nothing.
_BORDERS = {"QUANTIZE", "DEQUANTIZE", "CAST"}
_LEVELS = {"int8": (-128, 127), "int16": (-32768, 32767)}


class LayerError(NamedTuple):
    """What quantising one layer costs.

    ``alone`` is the error of the model's output when this layer alone is quantised, its RMS over the standard deviation
    of the float model's output, and ``agreement`` the share of answers that stay the same (None where the output names
    no class). ``accumulated`` is the error of this layer's own output in the quantised file, where everything before it
    is quantised too, over the standard deviation of the float layer's; None where the file doesn't hold that tensor.
    ``kind`` is how the file computes the layer: "int8", "int16" or "float".
    """

    layer: str
    operator: str
    position: int
    kind: str
    alone: float
    agreement: float | None
    accumulated: float | None


def layer_errors(
    original: bytes,
    quantised: bytes,
    inputs: Mapping[str, Array],
    classifier: bool,
    quantised_inputs: Mapping[str, Array] | None = None,
) -> tuple[LayerError, ...]:
    """Measure each layer of a quantised file, in the order in which they run.

    Args:
        original: the float ``.tflite`` file.
        quantised: the same model with integer activations; its layers are found by the names of their tensors.
        inputs: samples by the float file's input tensors, or under "" for the only one.
        classifier: whether the only output names one class.
        quantised_inputs: the same samples by the quantised file's tensors in its wires' dtypes; by default ``inputs``.

    Raises:
        UsageError: the two files share no layer, or the second has no integer layer.
    """
    found = _quantisation(quantised)
    layers = [one for one in operators(original) if one.type not in _BORDERS | PASSING]
    kinds = {one.scope: _kind(one, found) for one in layers}
    if not set(kinds.values()) - {"float"}:
        raise UsageError("none of its layers has integer activations; give a file such as int8.tflite")
    ranges: Ranges = {**minimum_maximum(original, inputs), **{name: one[1] for name, one in found.items()}}
    # What stands before the first quantised layer is the rescaling, which the quantised file has in its wire.
    first = next(index for index, one in enumerate(layers) if kinds[one.scope] != "float")
    layers = layers[first:]
    held_out = HeldOut(original, inputs, None, classifier)
    accumulated = _accumulated(original, quantised, inputs, quantised_inputs or inputs)
    names = layer_names(layers)
    errors = []
    for one in layers:
        kind = kinds[one.scope]
        alone, agreement = 0.0, 1.0 if classifier else None
        if kind != "float":
            try:
                content = quantise(original, ranges, "float", {one.scope: kind})
            except PennyweightError:
                continue  # the library has no recipe for it, and the file was made by another tool
            quality = held_out.measure(content)
            alone, agreement = quality.error, quality.agreement
        errors.append(
            LayerError(
                names[one.scope], one.type, one.position, kind, alone, agreement, accumulated.get(one.outputs[0])
            )
        )
    return tuple(errors)


def layer_names(layers: Sequence[Operator]) -> dict[str, str]:
    """Give readable names by scope: the Keras layer's, where the tensor's name holds it, each one once."""
    names: dict[str, str] = {}
    for one in layers:
        name = _layer_name(one)
        number = sum(other == name or other.startswith(f"{name} (") for other in names.values())
        names[one.scope] = f"{name} ({number + 1})" if number else name
    return names


def _layer_name(operator: Operator) -> str:
    """Find the Keras layer in names such as "cnn_1/C1_relu_1/Relu;…;cnn_1/C1_1/convolution"."""
    parts = [part.split("/") for part in operator.outputs[0].split(";") if "/" in part]
    weighted = [part for part in parts if part[-1].startswith(("MatMul", "convolution", "depthwise", "Conv2D"))]
    chosen = next(iter(weighted or parts), None)
    if chosen is None:
        return operator.type.lower()
    name = chosen[-2]
    # Keras numbers the layer's name once more for each time that it is called.
    return name.rpartition("_")[0] if name.rpartition("_")[2].isdigit() and "_" in name else name


def _quantisation(content: bytes) -> dict[str, tuple[str, Range]]:
    """Give dtype and range of each quantised tensor, by its name in the float file."""
    from ai_edge_litert import schema_py_generated as schema

    dtypes = {schema.TensorType.INT8: "int8", schema.TensorType.INT16: "int16"}
    model, names = parse_tflite(content)
    graph = model.subgraphs[0]
    found: dict[str, tuple[str, Range]] = {}
    for tensor in graph.tensors:
        parameters = tensor.quantization
        if tensor.type not in dtypes or parameters is None or parameters.scale is None or len(parameters.scale) != 1:
            continue
        dtype, scale, zero_point = dtypes[tensor.type], float(parameters.scale[0]), int(parameters.zeroPoint[0])
        low, high = ((end - zero_point) * scale for end in _LEVELS[dtype])
        found[tensor.name.decode()] = dtype, (low, high)
    for operator in graph.operators:
        # The model's output has its name behind the last DEQUANTIZE; what that reads is the quantised one.
        if names[operator.opcodeIndex] == "DEQUANTIZE":
            before, after = (graph.tensors[int(ends[0])].name.decode() for ends in (operator.inputs, operator.outputs))
            if before in found:
                found.setdefault(after, found[before])
    return found


def _kind(operator: Operator, found: Mapping[str, tuple[str, Range]]) -> Kind:
    dtype = found.get(operator.outputs[0], ("float",))[0]
    return "int8" if dtype == "int8" else "int16" if dtype == "int16" else "float"


def _accumulated(
    original: bytes, quantised: bytes, inputs: Mapping[str, Array], quantised_inputs: Mapping[str, Array]
) -> dict[str, float]:
    """Give the error of each tensor that both files hold, on the samples, over the float one's standard deviation."""
    noise: dict[str, float] = {}
    first, second, count = dict[str, Array](), dict[str, Array](), 0
    for wanted, got in zip(observe(original, inputs), _dequantised(quantised, quantised_inputs), strict=True):
        rows = len(next(iter(wanted.values())))
        count += rows
        for name in wanted.keys() & got.keys():
            one = wanted[name].astype(np.float64)
            noise[name] = noise.get(name, 0.0) + float(np.sum((got[name] - one) ** 2))
            first[name] = first.get(name, 0.0) + one.sum(axis=0)
            second[name] = second.get(name, 0.0) + (one**2).sum(axis=0)
    errors = {}
    for name, total in noise.items():
        power = float(np.sum(second[name] - first[name] ** 2 / count))
        if power > 0:
            errors[name] = math.sqrt(total / power)
    return errors


def _dequantised(content: bytes, inputs: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    """Run a quantised file and give its tensors as the numbers that they stand for."""
    parameters = {}
    model, _ = parse_tflite(content)
    for tensor in model.subgraphs[0].tensors:
        quantisation = tensor.quantization
        if quantisation is not None and quantisation.scale is not None and len(quantisation.scale) == 1:
            parameters[tensor.name.decode()] = float(quantisation.scale[0]), int(quantisation.zeroPoint[0])
    for batch in observe(content, inputs):
        values = {}
        for name, array in batch.items():
            scale, zero_point = parameters.get(name, (1.0, 0))
            values[name] = (array.astype(np.float64) - zero_point) * scale if array.dtype.kind in "iu" else array
        yield values

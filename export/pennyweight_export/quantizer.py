"""ai-edge-quantizer behind three functions: the operators of a float file, the ranges of its tensors, a quantised file.

Its own calibration runs samples one by one and keeps a moving average; here whole batches run, and the caller decides
what becomes of the values (``observe``, ``minimum_maximum``).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from pennyweight.engines import first_line
from pennyweight.errors import PennyweightError

from .arrays import Array
from .quiet import quiet
from .tflite_file import pack_tflite, parse_tflite

Kind = Literal["float", "int8", "int16", "dynamic int8", "dynamic int4", "weights int8", "weights int4"]
Range = tuple[float, float]
Ranges = dict[str, Range]
ROWS = 256
# Activation bits (None: they stay float), weight bits, and whether the operator computes in integers.
_RECIPES: dict[str, tuple[int | None, int, bool]] = {
    "int8": (8, 8, True),
    "int16": (16, 8, True),
    "dynamic int8": (None, 8, True),
    "dynamic int4": (None, 4, True),
    "weights int8": (None, 8, False),
    "weights int4": (None, 4, False),
}


class Operator(NamedTuple):
    """One operator of a file: its type, its position, and the names of the tensors that it reads and writes.

    ``scope`` is how ai-edge-quantizer names it: its outputs' names, each followed by ";".
    """

    type: str
    position: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: tuple[str, ...]

    @property
    def scope(self) -> str:
        """The name that recipes know it by."""
        return "".join(f"{name};" for name in self.outputs)


def operators(content: bytes) -> tuple[Operator, ...]:
    """Give the operators of a file's first subgraph, in the order in which they run."""
    model, names = parse_tflite(content)
    graph = model.subgraphs[0]
    found = []
    for index, operator in enumerate(graph.operators):
        reads = [i for i in operator.inputs if i >= 0]
        held = {i for i in reads if _is_constant(model, graph.tensors[i])}
        found.append(
            Operator(
                names[operator.opcodeIndex],
                index,
                tuple(graph.tensors[i].name.decode() for i in reads if i not in held),
                tuple(graph.tensors[i].name.decode() for i in operator.outputs if i >= 0),
                tuple(graph.tensors[i].name.decode() for i in reads if i in held),
            )
        )
    return tuple(found)


def observe(content: bytes, inputs: Mapping[str, Array], rows: int = ROWS) -> Iterator[dict[str, Array]]:
    """Run a file and give the values of every tensor that it computes, batch by batch.

    Args:
        content: a ``.tflite`` file with a free batch.
        inputs: the samples by the name of the input tensor, or under "" where the file has one input.
        rows: samples per batch; every tensor of the batch is in memory at once.

    Yields:
        By tensor name, arrays as the file holds them: float32, or integers where it is quantised.
    """
    from ai_edge_litert.interpreter import Interpreter

    with quiet():
        # It warns that this is for debugging and takes memory: a batch's worth.
        interpreter = Interpreter(model_content=content, experimental_preserve_all_tensors=True)
    entries = interpreter.get_input_details()
    fixed = [entry for entry in entries if len(entry["shape_signature"]) and entry["shape_signature"][0] != -1]
    step = int(fixed[0]["shape"][0]) if fixed else rows
    total = len(next(iter(inputs.values())))
    shape = 0
    for start in range(0, total, step):
        batch = {name: array[start : start + step] for name, array in inputs.items()}
        size = len(next(iter(batch.values())))
        if fixed and size < step:
            return
        if size != shape and not fixed:
            for entry in entries:
                interpreter.resize_tensor_input(entry["index"], (size, *entry["shape"][1:]))
        if size != shape:
            with quiet():
                interpreter.allocate_tensors()
            shape = size
            wanted = _computed(content, interpreter)
        for entry in entries:
            interpreter.set_tensor(entry["index"], given(batch, entry["name"]))
        interpreter.invoke()
        yield {name: interpreter.get_tensor(index) for name, index in wanted}


def given(batch: Mapping[str, Array], name: str) -> Array:
    """Give an input's array by its tensor's name, or the only one there is."""
    return batch[name] if name in batch or len(batch) > 1 else next(iter(batch.values()))


def minimum_maximum(content: bytes, inputs: Mapping[str, Array], rows: int = ROWS) -> Ranges:
    """Give the least and greatest value of every float32 tensor on the samples, the inputs' included."""
    ranges: Ranges = {}
    for batch in observe(content, inputs, rows):
        for name, values in batch.items():
            if values.dtype == np.float32 and values.size:
                low, high = ranges.get(name, (np.inf, -np.inf))
                ranges[name] = min(low, float(values.min())), max(high, float(values.max()))
    return ranges


def quantise(
    content: bytes,
    ranges: Ranges,
    kind: Kind = "int8",
    layers: Mapping[str, Kind] | None = None,
    wire: Kind = "float",
    bounds: Mapping[str, Array] | None = None,
) -> bytes:
    """Quantise a float file.

    Operators that ai-edge-quantizer has no integer recipe for stay in float; read the file to know.

    Args:
        content: a float32 ``.tflite`` file.
        ranges: the least and greatest value of each tensor, for the kinds with quantised activations ("int8",
            "int16": int16 activations, int8 weights). A missing one is an error of the library.
        kind: of every operator that ``layers`` doesn't name. "dynamic" ones quantise activations as they come;
            "weights" ones only store their weights so and compute in float.
        layers: the kind by an operator's ``scope``.
        wire: of the input: "float", or "int8" or "int16" as the first operator's kind is. The output is float32.
        bounds: by a weight tensor's name, the magnitude per channel that int8's ±127 stands for, instead of the
            weights' own largest one.

    Raises:
        PennyweightError: ai-edge-quantizer refuses the model, the recipe or the ranges.
    """
    try:
        with quiet():
            result = _quantised(content, ranges, kind, layers or {}, wire, bounds or {})
    except Exception as error:
        raise PennyweightError(f"ai-edge-quantizer refuses the model ({first_line(error)})") from error
    if result is None:
        raise PennyweightError("ai-edge-quantizer wrote nothing for the model; report this")
    return _with_portable_borders(bytes(result))


def with_uint8_input(content: bytes, scale: float, zero_point: int) -> bytes:
    """Let a file with one float32 or int8 input take uint8 instead: value = scale × (uint8 − zero point).

    One operator more: QUANTIZE before an int8 input, which re-quantises, DEQUANTIZE before a float32 one.
    """
    model, _ = parse_tflite(content)
    graph = model.subgraphs[0]
    old = int(graph.inputs[0])
    entry = _tensor_like(graph.tensors[old], b"_uint8", schema.TensorType.UINT8)
    entry.quantization = schema.QuantizationParametersT()
    entry.quantization.scale, entry.quantization.zeroPoint = np.array([scale], np.float32), np.array([zero_point])
    graph.tensors.append(entry)
    new = len(graph.tensors) - 1
    operator = schema.OperatorT()
    integer = graph.tensors[old].type != schema.TensorType.FLOAT32
    code = schema.BuiltinOperator.QUANTIZE if integer else schema.BuiltinOperator.DEQUANTIZE
    operator.opcodeIndex, operator.inputs, operator.outputs = _operator_code(model, code), [new], [old]
    graph.operators.insert(0, operator)
    graph.inputs = [new]
    for signature in model.signatureDefs or ():
        for tensor in signature.inputs:
            tensor.tensorIndex = new if tensor.tensorIndex == old else tensor.tensorIndex
    return pack_tflite(model)


def _operator_code(model: Any, code: int) -> int:
    """Give the index of an operator code, added where the file has none."""
    for index, entry in enumerate(model.operatorCodes):
        if max(entry.builtinCode, entry.deprecatedBuiltinCode) == code:
            return index
    entry = schema.OperatorCodeT()
    entry.builtinCode = entry.deprecatedBuiltinCode = code
    entry.version = 1
    model.operatorCodes.append(entry)
    return len(model.operatorCodes) - 1


def _with_portable_borders(content: bytes) -> bytes:
    """Mend the operators that ai-edge-quantizer inserts between kinds.

    It writes their tensors' shape without its signature, which fixes the batch; and int8 → int16 as one QUANTIZE,
    which tflite-runtime 2.14 refuses, so that becomes DEQUANTIZE and QUANTIZE.
    """
    model, names = parse_tflite(content)
    for graph in model.subgraphs:
        operators: list[Any] = []
        for operator in graph.operators:
            if names[operator.opcodeIndex] in ("QUANTIZE", "DEQUANTIZE"):
                before, after = (graph.tensors[int(ends[0])] for ends in (operator.inputs, operator.outputs))
                # The one that has a signature is the model's own.
                signature = before.shapeSignature if before.shapeSignature is not None else after.shapeSignature
                before.shapeSignature = after.shapeSignature = signature
                if (before.type, after.type) == (schema.TensorType.INT8, schema.TensorType.INT16):
                    operators.append(_dequantize(model, graph, operator))
            operators.append(operator)
        graph.operators = operators
    return pack_tflite(model)


def _dequantize(model: Any, graph: Any, operator: Any) -> Any:
    """Give a new DEQUANTIZE of an operator's input, and let the operator read what that writes."""
    source = graph.tensors[int(operator.inputs[0])]
    between = _tensor_like(source, b"_float", schema.TensorType.FLOAT32)
    graph.tensors.append(between)
    new = schema.OperatorT()
    new.opcodeIndex = _operator_code(model, schema.BuiltinOperator.DEQUANTIZE)
    new.inputs, new.outputs = operator.inputs, [len(graph.tensors) - 1]
    operator.inputs = new.outputs
    return new


def _tensor_like(tensor: Any, suffix: bytes, dtype: int) -> Any:
    new = copy.copy(tensor)
    new.name, new.type, new.buffer, new.quantization = tensor.name + suffix, dtype, 0, None
    return new


def _quantised(
    content: bytes, ranges: Ranges, kind: Kind, layers: Mapping[str, Kind], wire: Kind, bounds: Mapping[str, Array]
) -> Any:
    from ai_edge_quantizer import qtyping, quantizer

    names = qtyping.TFLOperationName
    maker = quantizer.Quantizer(bytearray(content))
    _add(maker, ".*", names.ALL_SUPPORTED, kind)
    for scope, other in layers.items():
        _add(maker, f"^{re.escape(scope)}$", names.ALL_SUPPORTED, other)
    _add(maker, ".*;", names.INPUT, wire)
    _add(maker, ".*;|^$", names.OUTPUT, "float")
    statistics = {name: _statistics(np.array([low]), np.array([high])) for name, (low, high) in ranges.items()}
    statistics |= {name: _statistics(-bound, bound) for name, bound in _broadcast(content, bounds).items()}
    return maker.quantize(statistics if maker.need_calibration else None, enable_progress_report=False).quantized_model


def _statistics(low: Array, high: Array) -> dict[str, Array]:
    return {"min": low.astype(np.float32), "max": high.astype(np.float32)}


def _broadcast(content: bytes, bounds: Mapping[str, Array]) -> dict[str, Array]:
    """Give bounds in their weights' rank: all axes 1 but the one that counts channels."""
    if not bounds:
        return {}
    model, names = parse_tflite(content)
    graph, shaped = model.subgraphs[0], {}
    for operator in graph.operators:
        # Only a depthwise layer's channels come last.
        axis = 3 if names[operator.opcodeIndex] == "DEPTHWISE_CONV_2D" else 0
        for index in operator.inputs:
            tensor = graph.tensors[index]
            bound = bounds.get(tensor.name.decode())
            if bound is not None:
                shape = [1] * len(tensor.shape)
                shape[axis] = -1
                shaped[tensor.name.decode()] = bound.reshape(shape)
    return shaped


def _add(maker: Any, regex: str, operation: Any, kind: Kind) -> None:
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    if kind == "float":
        maker.update_quantization_recipe(regex, operation, algorithm_key=AlgorithmName.NO_QUANTIZE)
        return
    activations, weights, integer = _RECIPES[kind]
    if activations is not None:
        maker.add_static_config(regex, operation, activations, weights)
    elif integer:
        maker.add_dynamic_config(regex, operation, weights)
    else:
        maker.add_weight_only_config(regex, operation, weights)


def _is_constant(model: Any, tensor: Any) -> bool:
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def _computed(content: bytes, interpreter: Any) -> list[tuple[str, int]]:
    """Give name and index of the tensors that hold values: written by an operator, or an input."""
    written = {name for operator in operators(content) for name in operator.outputs}
    written |= {entry["name"] for entry in interpreter.get_input_details()}
    return [(entry["name"], entry["index"]) for entry in interpreter.get_tensor_details() if entry["name"] in written]

"""A ``.tflite`` file, read back and packed through the format's own schema."""

from __future__ import annotations

from collections import Counter
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from pennyweight.engines import first_line
from pennyweight.errors import PennyweightError

from .facts import FileFacts, LayerFact, TensorFact

_OPERATORS = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
_DTYPES = {code: name.lower() for name, code in vars(schema.TensorType).items() if not name.startswith("_")}
_FLOATS = {"float16", "float32", "float64"}
# These change the representation and compute nothing.
_BORDERS = {"QUANTIZE", "DEQUANTIZE"}
# Operators that multiply with a network's weights, which is nearly all of its work.
WEIGHTED = {
    "FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "CONV_3D", "BATCH_MATMUL",
    "LSTM", "UNIDIRECTIONAL_SEQUENCE_LSTM", "RNN", "SVDF",
}  # fmt: skip


def parse_tflite(content: bytes) -> tuple[Any, list[str]]:
    """Give a file as the schema's mutable ``ModelT``, and the name of each of its operator codes."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    for buffer in model.buffers:
        # Contents that stand behind the flatbuffer move inside, or packing would lose them.
        if buffer.offset > 1:
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model, [_operator_name(code) for code in model.operatorCodes]


def pack_tflite(model: Any) -> bytes:
    """Give the bytes of a ``ModelT``."""
    builder = _Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class _Builder(flatbuffers.Builder):  # type: ignore[misc]
    """Aligns vectors of bytes as the schema wants its buffers, to 16; its Python code for packing doesn't."""

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:  # noqa: N802, N803  the library's own
        """Start a vector; see flatbuffers.Builder."""
        return super().StartVector(elemSize, numElems, max(alignment, 16) if elemSize == 1 else alignment)


def read_tflite(content: bytes, artifact: str) -> FileFacts:
    """Read operators, wires and quantisation; raise PennyweightError when the bytes are no TFLite model."""
    try:
        model, names = parse_tflite(content)
        operators: Counter[str] = Counter()
        floats: Counter[str] = Counter()
        layers: list[LayerFact] = []
        for subgraph in model.subgraphs:
            reader = _Reader(model, subgraph, names)
            for operator in subgraph.operators:
                name = names[operator.opcodeIndex]
                operators[name] += 1
                floats[name] += reader.computes_in_float(operator)
                if name in WEIGHTED:
                    layers.append(reader.layer(operator))
        main = model.subgraphs[0]
        signature = model.signatureDefs[0] if model.signatureDefs else None
        inputs = tuple(_tensor(main, index, signature and signature.inputs) for index in main.inputs)
        outputs = tuple(_tensor(main, index, signature and signature.outputs) for index in main.outputs)
    except Exception as error:  # the flatbuffer reader raises whatever damaged offsets lead to
        raise PennyweightError(f"{artifact}: not readable as a TFLite model ({first_line(error)})") from error
    foreign = tuple(sorted({name for name in names if name.startswith(("Flex", "custom "))}))
    return FileFacts(dict(operators), dict(+floats), foreign, inputs, outputs, tuple(layers))


class _Reader:
    """One subgraph with what is looked up by a tensor's index."""

    def __init__(self, model: Any, subgraph: Any, names: list[str]) -> None:
        self._tensors, self._names = subgraph.tensors, names
        self._held = {
            index
            for index, tensor in enumerate(subgraph.tensors)
            if (data := model.buffers[tensor.buffer].data) is not None and len(data)
        }
        # Weights that are turned into float32 when the file is loaded.
        self._unpacked = {
            int(operator.outputs[0]): int(operator.inputs[0])
            for operator in subgraph.operators
            if names[operator.opcodeIndex] == "DEQUANTIZE" and int(operator.inputs[0]) in self._held
        }

    def layer(self, operator: Any) -> LayerFact:
        """Say which dtypes a layer's weights and activations have, and whether it computes in float."""
        reads = [int(index) for index in operator.inputs if index >= 0]
        if self._names[operator.opcodeIndex] == "TRANSPOSE_CONV":
            reads = reads[1:]  # the first is the output's shape
        given = [index for index in reads if index not in self._held and index not in self._unpacked]
        stored = self._stored(operator)
        weights = self._dtype(self._unpacked.get(stored, stored)) if stored is not None else None
        activations = self._dtype(given[0]) if given else "float32"
        return LayerFact(self._names[operator.opcodeIndex], activations, weights, self.computes_in_float(operator))

    def computes_in_float(self, operator: Any) -> bool:
        """Say whether an operator has float tensors, and not only to quantise them as they come."""
        name = self._names[operator.opcodeIndex]
        tensors = [int(index) for index in (*operator.inputs, *operator.outputs) if index >= 0]
        if name in _BORDERS or not any(self._dtype(index) in _FLOATS for index in tensors):
            return False
        stored = self._stored(operator) if name in WEIGHTED else None
        return stored is None or stored in self._unpacked or self._dtype(stored) in _FLOATS

    def _stored(self, operator: Any) -> int | None:
        """Give the tensor that a layer has its weights in; biases have one dimension, weights more."""
        for index in (int(index) for index in operator.inputs if index >= 0):
            held = self._unpacked.get(index, index)
            shape = self._tensors[held].shape
            if held in self._held and shape is not None and len(shape) > 1:
                return index
        return None

    def _dtype(self, index: int) -> str:
        return str(_DTYPES[self._tensors[index].type])


def _operator_name(code: Any) -> str:
    # Codes up to 126 stand in the older field; both hold the same number otherwise.
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    if number != schema.BuiltinOperator.CUSTOM:
        return str(_OPERATORS.get(number, f"custom {number}"))
    custom = (code.customCode or b"?").decode(errors="replace")
    return custom if custom.startswith("Flex") else f"custom {custom}"


def _tensor(subgraph: Any, index: int, named: Any) -> TensorFact:
    tensor = subgraph.tensors[index]
    key = next((entry.name.decode() for entry in named or () if entry.tensorIndex == index), "")
    signature = tensor.shapeSignature if tensor.shapeSignature is not None else tensor.shape
    shape = () if signature is None else tuple(int(size) for size in signature)
    scale, zero_point = None, None
    quantisation = tensor.quantization
    if quantisation is not None and quantisation.scale is not None and len(quantisation.scale) == 1:
        scale, zero_point = float(quantisation.scale[0]), int(quantisation.zeroPoint[0])
    return TensorFact(tensor.name.decode(), shape, _DTYPES[tensor.type], scale, zero_point, key)

"""A ``.tflite`` file: written by TensorFlow's converter, read back through the format's own schema."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from pennyweight.engines import first_line
from pennyweight.errors import PennyweightError

from ._tensorflow import tf
from .arrays import Arrays
from .facts import FileFacts, TensorFact
from .graph import Graph
from .quiet import quiet

_OPERATORS = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
_DTYPES = {code: name.lower() for name, code in vars(schema.TensorType).items() if not name.startswith("_")}
_FLOATS = {"float16", "float32", "float64"}
# These change the representation and compute nothing.
_BORDERS = {"QUANTIZE", "DEQUANTIZE"}


def convert_float32(graph: Graph) -> bytes:
    """Convert with float32 weights and activations; raise PennyweightError when TensorFlow's converter can't."""
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph.for_tflite(inner=False)], graph)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return _converted(converter, "float32.tflite")


def convert_int8(graph: Graph, seen: Arrays, wire: str) -> bytes:
    """Convert with int8 weights and activations, from the graph after rescaling.

    Args:
        graph: the model.
        seen: calibration samples as ``Graph.inner`` takes them, (n, *shape) by name.
        wire: dtype of the inputs that get quantised, "uint8" or "float32"; outputs are float32, dequantised in the
            graph.

    Raises:
        PennyweightError: TensorFlow's converter can't.
    """
    if graph.loops:
        raise PennyweightError(
            "int8.tflite: TensorFlow's converter crashes when it quantises a loop, and this model has one"
        )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph.for_tflite(inner=True)], graph)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = _one_by_one(seen)
    # With the float set beside it, an operator without an int8 kernel stays in float, and reading back finds it.
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
    converter.inference_input_type = getattr(tf, wire)
    converter.inference_output_type = tf.float32
    return _converted(converter, "int8.tflite")


def read_tflite(content: bytes, artifact: str) -> FileFacts:
    """Read operators, wires and quantisation; raise PennyweightError when the bytes are no TFLite model."""
    try:
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        names = [_operator_name(code) for code in model.operatorCodes]
        operators: Counter[str] = Counter()
        floats: Counter[str] = Counter()
        for subgraph in model.subgraphs:
            for operator in subgraph.operators:
                name = names[operator.opcodeIndex]
                operators[name] += 1
                tensors = [subgraph.tensors[index] for index in (*operator.inputs, *operator.outputs) if index >= 0]
                if name not in _BORDERS and any(_DTYPES[tensor.type] in _FLOATS for tensor in tensors):
                    floats[name] += 1
        main = model.subgraphs[0]
        signature = model.signatureDefs[0] if model.signatureDefs else None
        inputs = tuple(_tensor(main, index, signature and signature.inputs) for index in main.inputs)
        outputs = tuple(_tensor(main, index, signature and signature.outputs) for index in main.outputs)
    except Exception as error:  # the flatbuffer reader raises whatever damaged offsets lead to
        raise PennyweightError(f"{artifact}: not readable as a TFLite model ({first_line(error)})") from error
    foreign = tuple(sorted({name for name in names if name.startswith(("Flex", "custom "))}))
    return FileFacts(dict(operators), dict(floats), foreign, inputs, outputs)


def _converted(converter: Any, artifact: str) -> bytes:
    try:
        with quiet():
            content: bytes = converter.convert()
    except Exception as error:
        raise PennyweightError(f"{artifact}: TensorFlow's converter refuses the model; {_cause(error)}") from error
    return content


def _cause(error: Exception) -> str:
    missing = re.search(r"(?:TF Select|Custom) ops: (.+)", str(error))
    if missing is None:
        return first_line(error)
    return f"TFLite has no {missing[1].strip()}: rebuild that layer from common operations"


def _one_by_one(samples: Arrays) -> Callable[[], Any]:
    rows = len(next(iter(samples.values())))
    return lambda: ({name: array[index : index + 1] for name, array in samples.items()} for index in range(rows))


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

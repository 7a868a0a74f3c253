"""An ``.onnx`` file: written by tf2onnx, checked and read back by onnx."""

from __future__ import annotations

from collections import Counter
from typing import Any

import onnx

from pennyweight.engines import first_line
from pennyweight.errors import PennyweightError

from .facts import FileFacts, TensorFact
from .graph import Graph
from .quiet import quiet

# Read by every onnxruntime from 1.14 on, so by all that have a wheel for Python 3.9 or later.
OPSET = 17
_FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE}


def convert_onnx(graph: Graph) -> bytes:
    """Convert with float32 weights and activations; raise PennyweightError when tf2onnx can't."""
    with quiet():
        import tf2onnx
    try:
        with quiet():
            signature = graph.whole.input_signature
            model, _ = tf2onnx.convert.from_function(graph.whole, input_signature=signature, opset=OPSET)
    except Exception as error:
        raise PennyweightError(f"float32.onnx: tf2onnx refuses this model ({first_line(error)})") from error
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    content: bytes = model.SerializeToString()
    return content


def read_onnx(content: bytes, artifact: str) -> FileFacts:
    """Check the file with onnx.checker and read operators and wires; raise PennyweightError when it isn't valid."""
    try:
        model = onnx.load_model_from_string(content)
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        raise PennyweightError(f"{artifact}: not a valid ONNX model ({first_line(error)})") from error
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if opset != OPSET:
        raise PennyweightError(f"{artifact}: opset {OPSET} was asked for, the file has {opset}")
    operators = Counter(node.op_type for node in model.graph.node)
    foreign = tuple(sorted({f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain}))
    weights = {weight.name for weight in model.graph.initializer}
    inputs = tuple(_tensor(value) for value in model.graph.input if value.name not in weights)
    return FileFacts(dict(operators), {}, foreign, inputs, tuple(_tensor(value) for value in model.graph.output))


def _tensor(value: Any) -> TensorFact:
    kind = value.type.tensor_type
    shape = tuple(size.dim_value if size.HasField("dim_value") else -1 for size in kind.shape.dim)
    return TensorFact(value.name, shape, str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)), key=value.name)

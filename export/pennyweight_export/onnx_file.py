"""An ``.onnx`` file: written by tf2onnx, checked and read back by onnx."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx

from pennyweight.engines import first_line
from pennyweight.errors import PennyweightError

from .facts import FileFacts, LayerFact, TensorFact
from .quiet import quiet

# Read by every onnxruntime from 1.14 on, so by all that have a wheel for Python 3.9 or later.
OPSET = 17
_OWN = ("", "ai.onnx")
_FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE}
# Where the operators that hold weights have them.
_WEIGHTS = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "MatMul", "ConvInteger", "MatMulInteger"), (1,)),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), (1, 2)),
}
# These take float32 and integers, give the other, and compute with integers.
_INTEGER = {"MatMulInteger", "ConvInteger", "DynamicQuantizeLinear", "QuantizeLinear", "DequantizeLinear"}


def convert_onnx(function: Any) -> bytes:
    """Convert a ``tf.function`` with float32 weights and activations; raise PennyweightError when tf2onnx can't."""
    with quiet():
        import tf2onnx
    try:
        with quiet():
            model, _ = tf2onnx.convert.from_function(
                function,
                input_signature=function.input_signature,
                opset=OPSET,
                custom_op_handlers={"Erfc": (_one_less_erf, [])},
            )
    except Exception as error:
        raise PennyweightError(f"tf2onnx refuses the model ({first_line(error)})") from error
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    content: bytes = model.SerializeToString()
    return content


def _one_less_erf(context: Any, node: Any, name: str, arguments: Any) -> None:
    """Write TensorFlow's Erfc, which its optimizer makes of an exact GELU, as 1 − Erf; ONNX has no other."""
    node.type = "Erf"
    one = context.make_const(f"{name}_one", np.ones((), np.float32))
    erf = node.output[0]
    context.insert_new_node_on_output("Sub", erf, name=f"{name}_less", inputs=[one.output[0], erf])


def parse_onnx(content: bytes) -> Any:
    """Give a file as onnx's mutable ``ModelProto``."""
    return onnx.load_model_from_string(content)


def without_idle_opsets(model: Any) -> Any:
    """Take out the operator sets that no operator is of; onnxruntime writes down all that it knows."""
    used = {node.domain for node in model.graph.node} | set(_OWN)
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    return model


def read_onnx(content: bytes, artifact: str) -> FileFacts:
    """Check the file with onnx.checker and read operators and wires; raise PennyweightError when it isn't valid."""
    try:
        model = parse_onnx(content)
        onnx.checker.check_model(model, full_check=True)
        model = onnx.shape_inference.infer_shapes(model)
    except Exception as error:
        raise PennyweightError(f"{artifact}: not a valid ONNX model ({first_line(error)})") from error
    opset = max((entry.version for entry in model.opset_import if entry.domain in _OWN), default=0)
    if opset != OPSET:
        raise PennyweightError(f"{artifact}: opset {OPSET} was asked for, the file has {opset}")
    foreign = {f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain not in _OWN}
    reader = _Reader(model.graph)
    return FileFacts(
        operators=dict(Counter(node.op_type for node in model.graph.node)),
        float_operators=dict(Counter(node.op_type for node in model.graph.node if reader.computes_in_float(node))),
        foreign_operators=tuple(sorted(foreign)),
        inputs=tuple(reader.tensor(value) for value in model.graph.input if value.name not in reader.constants),
        outputs=tuple(reader.tensor(value) for value in model.graph.output),
        layers=tuple(reader.layer(node) for node in model.graph.node if node.op_type in _WEIGHTS),
    )


class _Reader:
    """One graph with what is looked up by a tensor's name."""

    def __init__(self, graph: Any) -> None:
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self._makers = {name: node for node in graph.node for name in node.output}
        self._readers: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        values = (*graph.value_info, *graph.input, *graph.output)
        self._types = {value.name: value.type.tensor_type.elem_type for value in values}
        self._types |= {name: tensor.data_type for name, tensor in self.constants.items()}

    def tensor(self, value: Any) -> TensorFact:
        """Describe an input or output; a quantised input has the scale of the DequantizeLinear that reads it."""
        kind = value.type.tensor_type
        shape = tuple(size.dim_value if size.HasField("dim_value") else -1 for size in kind.shape.dim)
        fact = TensorFact(value.name, shape, _dtype(kind.elem_type), key=value.name)
        for node in self._readers.get(value.name, ()):
            if node.op_type == "DequantizeLinear":
                scale, zero_point = (onnx.numpy_helper.to_array(self.constants[name]) for name in node.input[1:3])
                return fact._replace(scale=float(scale), zero_point=int(zero_point))
        return fact

    def layer(self, node: Any) -> LayerFact:
        """Say which dtypes a layer's weights and activations have, and whether it computes in float."""
        weights = [self._stored(node.input[index]) for index in _WEIGHTS[node.op_type] if index < len(node.input)]
        held = next((dtype for dtype in weights if dtype), None)
        maker = self._makers.get(node.input[0])
        if maker is not None and maker.op_type == "DequantizeLinear":
            activations = _dtype(self._types.get(maker.input[0], onnx.TensorProto.FLOAT))
        elif node.op_type in _INTEGER:
            activations = "float32"
        else:
            activations = _dtype(self._types.get(node.input[0], onnx.TensorProto.FLOAT))
        # The sign of a quantised activation is the zero point's matter; both are eight bits.
        activations = "int8" if activations == "uint8" else activations
        return LayerFact(node.op_type, activations, held, self.computes_in_float(node))

    def computes_in_float(self, node: Any) -> bool:
        """Say whether an operator takes or gives floats that aren't merely integers in another dress.

        onnxruntime runs an operator between DequantizeLinear and QuantizeLinear in integers; Gemm and MatMul also
        where their result stays float.
        """
        if node.op_type in _INTEGER:
            return False
        names = [name for name in (*node.input, *node.output) if name]
        if not any(self._types.get(name, onnx.TensorProto.FLOAT) in _FLOATS for name in names):
            return False
        floats = [name for name in node.input if name and self._types.get(name, 1) in _FLOATS]
        dequantised = floats and all(
            name in self._makers and self._makers[name].op_type == "DequantizeLinear" for name in floats
        )
        requantised = all(
            self._readers.get(name) and all(reader.op_type == "QuantizeLinear" for reader in self._readers[name])
            for name in node.output
        )
        return not (dequantised and (requantised or node.op_type in ("Gemm", "MatMul")))

    def _stored(self, name: str) -> str | None:
        """Give the dtype in which a constant stands in the file, or None where the tensor is computed."""
        maker = self._makers.get(name)
        if maker is not None and maker.op_type in ("DequantizeLinear", "Cast", "Transpose"):
            name = maker.input[0]
        return _dtype(self.constants[name].data_type) if name in self.constants else None


def _dtype(code: int) -> str:
    return str(onnx.helper.tensor_dtype_to_np_dtype(code))

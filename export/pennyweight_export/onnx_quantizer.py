"""onnxruntime's own quantisation and half-precision tools: a float32 ``.onnx`` model in, one of fewer bits out."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx

from pennyweight.engines import first_line
from pennyweight.errors import PennyweightError

from .arrays import Arrays
from .onnx_file import parse_onnx, without_idle_opsets
from .quiet import quiet

# These end a classifier; in integers they round probabilities to 1/256, and win nothing that could be measured.
KEPT_FLOAT = {"Softmax", "Sigmoid", "Cast"}
# With a float result each of these is one kernel of onnxruntime's: integers in, float out.
FLOAT_RESULT = {"Gemm", "MatMul"}
# Dynamic quantisation turns others into operators of onnxruntime's own domain, which no other engine reads.
DYNAMIC = ["Conv", "MatMul"]
ROWS = 64


def halve(content: bytes) -> bytes:
    """Give the model with float16 weights and activations; its inputs and outputs stay as they are."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with _named("onnxruntime's float16 converter"), quiet():
        model = convert_float_to_float16(parse_onnx(content), keep_io_types=True)
    return bytes(model.SerializeToString())


def quantise_dynamic(content: bytes) -> bytes:
    """Give the model with int8 weights, one scale for each channel, and activations quantised as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _named("onnxruntime's quantizer"), tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "quantised.onnx")
        with quiet():
            quantize_dynamic(
                parse_onnx(content),
                place,
                op_types_to_quantize=DYNAMIC,
                per_channel=True,
                weight_type=QuantType.QInt8,
            )
        return place.read_bytes()


def quantise_static(content: bytes, samples: Arrays, uint8_inputs: bool) -> bytes:
    """Give the model in QDQ format: uint8 activations, int8 weights, one scale for each channel.

    uint8 because the artifact's input is, and then a pixel is a quantised value as it stands.

    Args:
        content: the float32 model.
        samples: calibration samples by input, (n, *shape).
        uint8_inputs: take float32 inputs as uint8, in the quantisation that the calibration gave them.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with _named("onnxruntime's quantizer"), tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "quantised.onnx")
        with quiet():
            fused = _fused(content, Path(folder, "fused.onnx"))
            types = {node.op_type for node in fused.graph.node} - KEPT_FLOAT
            quantize_static(
                fused,
                place,
                _Samples(samples),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=sorted(types),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                # Or a Reshape or MaxPool that comes first stays in float, and the input with it.
                extra_options={"ForceQuantizeNoInputCheck": True},
            )
        model = onnx.load_model(place)
    _keep_last_results(model)
    if uint8_inputs:
        _take_quantised(model)
    return bytes(model.SerializeToString())


class _Samples:
    """Calibration samples as onnxruntime asks for them, batch by batch."""

    def __init__(self, samples: Arrays) -> None:
        self._batches = self._all(samples)

    @staticmethod
    def _all(samples: Arrays) -> Iterator[dict[str, Any]]:
        for start in range(0, len(next(iter(samples.values()))), ROWS):
            yield {name: array[start : start + ROWS] for name, array in samples.items()}

    def get_next(self) -> Mapping[str, Any] | None:
        """Give the next batch by input, or None after the last."""
        return next(self._batches, None)


def _fused(content: bytes, place: Path) -> Any:
    """Let onnxruntime fold constants and fuse: what is Gemm is quantised as one operator, MatMul and Add are two."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(place)
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return without_idle_opsets(onnx.load_model(place))


def _keep_last_results(model: Any) -> None:
    """Hand a float operator the last layer's sums as they are, not rounded to 256 steps first."""
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type not in ("Softmax", "Sigmoid") or node.input[0] not in makers:
            continue
        after = makers[node.input[0]]
        before = makers.get(after.input[0]) if after.op_type == "DequantizeLinear" else None
        layer = makers.get(before.input[0]) if before is not None and before.op_type == "QuantizeLinear" else None
        if before is not None and layer is not None and layer.op_type in FLOAT_RESULT:
            node.input[0] = before.input[0]
            for border in (after, before):
                if not any(name in other.input for other in graph.node for name in border.output):
                    graph.node.remove(border)


def _take_quantised(model: Any) -> None:
    """Make uint8 of each float32 input that nothing but one QuantizeLinear reads, and drop that operator."""
    graph = model.graph
    for value in graph.input:
        readers = [node for node in graph.node if value.name in node.input]
        if len(readers) != 1 or readers[0].op_type != "QuantizeLinear":
            continue
        value.type.tensor_type.elem_type = onnx.TensorProto.UINT8
        for node in graph.node:
            for index, name in enumerate(node.input):
                if name == readers[0].output[0]:
                    node.input[index] = value.name
        graph.node.remove(readers[0])


@contextlib.contextmanager
def _named(tool: str) -> Iterator[None]:
    """Turn whatever a tool raises into one error that names it."""
    try:
        yield
    except PennyweightError:
        raise
    except Exception as error:
        raise PennyweightError(f"{tool} refuses the model ({first_line(error)})") from error

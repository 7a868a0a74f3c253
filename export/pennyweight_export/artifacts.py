"""The artifacts of a bundle: each converted, read back, held to what was asked for, and described."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

from pennyweight.errors import PennyweightError
from pennyweight.manifest import ArtifactSpec, Wire

from .evidence import Calibration, seen_by_layers
from .facts import FileFacts, TensorFact, require_asked
from .graph import Graph
from .interface import Interface
from .onnx_file import OPSET, convert_onnx, read_onnx
from .tflite_file import convert_float32, convert_int8, read_tflite

NO_KERNEL = "TensorFlow's converter kept it in float32: TFLite has no int8 kernel for it"


def make_artifacts(
    graph: Graph, interface: Interface, calibration: Calibration, notice: Callable[[str], None]
) -> Iterator[tuple[ArtifactSpec, bytes]]:
    """Convert one artifact after the other; give each with its bytes.

    Raises:
        PennyweightError: a converter refused the model, or wrote something else than was asked for.
    """
    wire = interface.input.dtype
    tflite = {"tool": "tf.lite.TFLiteConverter", "version": version("tensorflow")}
    notice("float32.tflite: converting")
    content = convert_float32(graph)
    yield _described("float32.tflite", "float32", interface, read_tflite(content, "float32.tflite"), tflite), content

    notice(f"int8.tflite: converting with {calibration.record['samples']} calibration samples")
    seen = seen_by_layers(calibration.inputs, interface)
    content = convert_int8(graph, seen, wire)
    settings = {"optimizations": "DEFAULT", "supported_ops": "TFLITE_BUILTINS_INT8", "from": "after rescaling"}
    spec = _described("int8.tflite", "int8", interface, read_tflite(content, "int8.tflite"), {**tflite, **settings})
    record = {**calibration.record, "input_range": [float(seen.min()), float(seen.max())]}
    yield spec._replace(calibration=record), content

    notice("float32.onnx: converting")
    content = convert_onnx(graph)
    converter = {"tool": "tf2onnx", "version": version("tf2onnx"), "opset": OPSET}
    yield _described("float32.onnx", "float32", interface, read_onnx(content, "float32.onnx"), converter), content


def _described(
    name: str, precision: str, interface: Interface, facts: FileFacts, converter: dict[str, Any]
) -> ArtifactSpec:
    if len(facts.inputs) != 1 or len(facts.outputs) != 1:
        raise PennyweightError(f"{name}: has {len(facts.inputs)} inputs and {len(facts.outputs)} outputs, not one each")
    spec = ArtifactSpec(
        name=name,
        format=name.rpartition(".")[2],
        precision=precision,
        inputs=(_input_wire(interface, facts.inputs[0]),),
        outputs=(Wire(interface.output.name, facts.outputs[0].name, "float32"),),
        operators=dict(sorted(facts.operators.items())),
        float_operators=dict.fromkeys(facts.float_operators, NO_KERNEL) if precision == "int8" else {},
        converter=converter,
    )
    require_asked(facts, name, precision, spec.inputs, spec.outputs)
    return spec


def _input_wire(interface: Interface, fact: TensorFact) -> Wire:
    """Describe the input's wire; a quantised one in pixels, and without scale where the pixel itself travels.

    In the file: what the layers see = file scale × (wire value − file zero point), and it is inner scale × pixel +
    inner offset. A zero point is whole, so an offset that is no whole number of steps is rounded by up to half a pixel.
    """
    wire = Wire(interface.input.name, fact.name, interface.input.dtype)
    if fact.scale is None or fact.zero_point is None:
        return wire
    scale = fact.scale / interface.inner_scale
    zero_point = fact.zero_point + interface.inner_offset / fact.scale
    if abs(scale - 1) <= 1e-3 and abs(zero_point) <= 0.5:
        return wire
    return wire._replace(scale=scale, zero_point=round(zero_point))

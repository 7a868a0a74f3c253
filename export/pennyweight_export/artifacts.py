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
from .interface import Input, Interface
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
    tflite = {"tool": "tf.lite.TFLiteConverter", "version": version("tensorflow")}
    notice("float32.tflite: converting")
    content = convert_float32(graph)
    yield _described("float32.tflite", "float32", interface, read_tflite(content, "float32.tflite"), tflite), content

    notice(f"int8.tflite: converting with {calibration.record['samples']} calibration samples")
    seen = seen_by_layers(calibration.inputs, interface)
    content = convert_int8(graph, seen, interface.wire)
    settings = {"optimizations": "DEFAULT", "supported_ops": "TFLITE_BUILTINS_INT8", "from": "after rescaling"}
    spec = _described("int8.tflite", "int8", interface, read_tflite(content, "int8.tflite"), {**tflite, **settings})
    ranges = {name: [float(array.min()), float(array.max())] for name, array in seen.items()}
    record = {**calibration.record, "input_range": ranges if len(ranges) > 1 else next(iter(ranges.values()))}
    yield spec._replace(calibration=record), content

    notice("float32.onnx: converting")
    content = convert_onnx(graph)
    converter = {"tool": "tf2onnx", "version": version("tf2onnx"), "opset": OPSET}
    yield _described("float32.onnx", "float32", interface, read_onnx(content, "float32.onnx"), converter), content


def _described(
    name: str, precision: str, interface: Interface, facts: FileFacts, converter: dict[str, Any]
) -> ArtifactSpec:
    spec = ArtifactSpec(
        name=name,
        format=name.rpartition(".")[2],
        precision=precision,
        inputs=tuple(
            _input_wire(entry, _fact(facts.inputs, entry.spec.name, name), precision, interface.wire)
            for entry in interface.inputs
        ),
        outputs=tuple(
            Wire(output.spec.name, _fact(facts.outputs, output.spec.name, name).name, "float32")
            for output in interface.outputs
        ),
        operators=dict(sorted(facts.operators.items())),
        float_operators=dict.fromkeys(facts.float_operators, NO_KERNEL) if precision == "int8" else {},
        converter=converter,
    )
    require_asked(facts, name, precision, spec.inputs, spec.outputs)
    return spec


def _fact(facts: tuple[TensorFact, ...], key: str, artifact: str) -> TensorFact:
    for fact in facts:
        if fact.key == key:
            return fact
    raise PennyweightError(f"{artifact}: has no {key!r}, only {', '.join(fact.key or fact.name for fact in facts)}")


def _input_wire(entry: Input, fact: TensorFact, precision: str, quantised: str) -> Wire:
    """Describe the input's wire; a quantised one in pixels, and without scale where the pixel itself travels.

    In the file: what ``Graph.inner`` takes = file scale × (wire value − file zero point), and it is held scale × pixel
    + held offset. A zero point is whole, so an offset that is no whole number of steps is rounded by up to half a
    pixel.
    """
    integer = entry.spec.dtype == "int32" or precision == "float32"
    wire = Wire(entry.spec.name, fact.name, entry.spec.dtype if integer else quantised)
    if fact.scale is None or fact.zero_point is None:
        return wire
    held_scale, held_offset = entry.held
    scale = fact.scale / held_scale
    zero_point = fact.zero_point + held_offset / fact.scale
    if abs(scale - 1) <= 1e-3 and abs(zero_point) <= 0.5:
        return wire
    return wire._replace(scale=scale, zero_point=round(zero_point))

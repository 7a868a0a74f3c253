"""The artifacts of a bundle: each converted by every tool that can, read back, held to its recipe, and described."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from importlib.metadata import version
from typing import Any, NamedTuple

from pennyweight.errors import PennyweightError, UsageError
from pennyweight.manifest import ArtifactSpec, Wire

from .arrays import Arrays
from .candidates import Candidate
from .evidence import Calibration, seen_by_layers
from .facts import FileFacts, TensorFact, require_asked
from .graph import Graph
from .interface import Input, Interface
from .metadata import About, with_onnx_metadata, with_tflite_metadata
from .onnx_file import OPSET, convert_onnx, read_onnx
from .onnx_quantizer import KEPT_FLOAT, halve, quantise_dynamic, quantise_static
from .quantizer import Kind, minimum_maximum, quantise, with_uint8_input
from .recipes import Recipe
from .tflite_converter import convert_dynamic, convert_float16, convert_float32, convert_integer
from .tflite_file import read_tflite

Notice = Callable[[str], None]


class Converters:
    """One model's way into files: what several artifacts are made from is made once."""

    def __init__(self, graph: Graph, interface: Interface, calibration: Calibration) -> None:
        self.graph = graph
        self.interface = interface
        self.calibration = calibration

    @cached_property
    def seen(self) -> Arrays:
        """Calibration samples as ``Graph.inner`` takes them."""
        return seen_by_layers(self.calibration.inputs, self.interface)

    @cached_property
    def float32(self) -> bytes:
        """The float32 ``.tflite`` file of the whole graph."""
        return convert_float32(self.graph)

    @cached_property
    def float32_onnx(self) -> bytes:
        """The float32 ``.onnx`` file of the whole graph."""
        return convert_onnx(self.graph.whole)

    @cached_property
    def float32_inner(self) -> bytes:
        """The float32 ``.tflite`` file of the graph after rescaling, which integer ones are quantised from."""
        return convert_float32(self.graph, inner=True)

    @cached_property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """The least and greatest value of each of its tensors on the calibration samples."""
        return minimum_maximum(self.float32_inner, {"": next(iter(self.seen.values()))})

    def integer(self, activations: str) -> bytes:
        """Convert with TensorFlow's converter; int8 takes pixels as they are, int16 has no such wire."""
        return convert_integer(self.graph, self.seen, self.wire(activations), activations)

    def integer_by_ranges(self, kind: Kind) -> bytes:
        """Quantise the float32 file with ai-edge-quantizer, from the same calibration samples."""
        if len(self.interface.inputs) > 1:
            raise PennyweightError("ai-edge-quantizer is used for models with one input")
        if self.graph.loops:
            raise PennyweightError(
                "the values inside a loop can't be read, so ai-edge-quantizer has no ranges for them"
            )
        pixels = self.wire(kind) != "float32"
        content = quantise(self.float32_inner, self.ranges, kind, wire=kind if pixels else "float")
        if kind != "int8" or not pixels:
            return content
        (fact,) = read_tflite(content, "int8.tflite").inputs
        if fact.scale is None or fact.zero_point is None:
            raise PennyweightError("ai-edge-quantizer left the input in float")
        return with_uint8_input(content, fact.scale, fact.zero_point + 128)

    def static_onnx(self) -> bytes:
        """Quantise the ONNX model of the graph after rescaling."""
        content = convert_onnx(self.graph.inner)
        return quantise_static(content, self.seen, uint8_inputs=self.interface.wire == "uint8")

    def wire(self, activations: str) -> str:
        """Give the dtype of an integer artifact's inputs."""
        return "int16" if activations == "int16" and self.interface.wire == "uint8" else self.interface.wire


class Tool(NamedTuple):
    """One way to make a recipe: the tool's name, the package that its version is of, settings, and the conversion."""

    name: str
    package: str
    settings: dict[str, Any]
    convert: Callable[[Converters], bytes]

    @property
    def record(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return {"tool": self.name, "version": version(self.package), **self.settings}


def _tensorflow(convert: Callable[[Converters], bytes], **settings: Any) -> Tool:
    return Tool("tf.lite.TFLiteConverter", "tensorflow", settings, convert)


def _edge(convert: Callable[[Converters], bytes], **settings: Any) -> Tool:
    return Tool("ai-edge-quantizer", "ai-edge-quantizer", settings, convert)


def _onnx(convert: Callable[[Converters], bytes], package: str = "onnxruntime", **settings: Any) -> Tool:
    return Tool(package, package, {**settings, "opset": OPSET}, convert)


_INNER = {"from": "after rescaling"}
# The first of equals is taken. TensorFlow's converter writes Dense layers with a scale for each unit, which
# tflite-runtime 2.14 doesn't load in a dynamic-range file; with one scale for the layer it does, a little less exact.
TOOLS: dict[str, tuple[Tool, ...]] = {
    "float32.tflite": (_tensorflow(lambda made: made.float32),),
    "float16.tflite": (_tensorflow(lambda made: convert_float16(made.graph), weights="float16"),),
    "int16x8.tflite": (
        _tensorflow(lambda made: made.integer("int16"), supported_ops="ACTIVATIONS_INT16_WEIGHTS_INT8", **_INNER),
        _edge(lambda made: made.integer_by_ranges("int16"), ranges="minimum and maximum", **_INNER),
    ),
    "dynamic-int8.tflite": (
        _tensorflow(lambda made: convert_dynamic(made.graph, True), dense="per channel"),
        _tensorflow(lambda made: convert_dynamic(made.graph, False), dense="per tensor"),
        _edge(lambda made: quantise(made.float32, {}, "dynamic int8"), weights="int8"),
    ),
    "int8.tflite": (
        _tensorflow(lambda made: made.integer("int8"), supported_ops="TFLITE_BUILTINS_INT8", **_INNER),
        _edge(lambda made: made.integer_by_ranges("int8"), ranges="minimum and maximum", **_INNER),
    ),
    "int4.tflite": (
        _edge(lambda made: quantise(made.float32, {}, "weights int4"), computes="float32"),
        _edge(lambda made: quantise(made.float32, {}, "dynamic int4"), computes="int8"),
    ),
    "float32.onnx": (_onnx(lambda made: made.float32_onnx, "tf2onnx"),),
    "float16.onnx": (_onnx(lambda made: halve(made.float32_onnx)),),
    "dynamic-int8.onnx": (
        _onnx(lambda made: quantise_dynamic(made.float32_onnx), weights="per channel", activations="one range a batch"),
    ),
    "int8.onnx": (_onnx(Converters.static_onnx, format="QDQ", weights="per channel", **_INNER),),
}


def make_candidates(
    converters: Converters, recipes: Sequence[Recipe], name: str, licence: str, notice: Notice
) -> Iterator[Candidate]:
    """Convert with every tool of every recipe; a tool that can't gives a candidate without a file, and the reason."""
    calibration = converters.calibration.record
    for recipe in recipes:
        samples = f" with {calibration['samples']} calibration samples" if recipe.integer else ""
        notice(f"{recipe.name}: converting{samples}")
        tools = TOOLS[recipe.name]
        for index, tool in enumerate(tools):
            file = recipe.name if not index else f"{recipe.precision}.{index + 1}.{recipe.format}"
            try:
                content = tool.convert(converters)
                spec, content = finish(recipe, converters, content, tool.record, name, licence)
            except UsageError:
                raise
            except PennyweightError as error:
                yield Candidate(recipe, tool.record, None, b"", str(error).removeprefix(f"{recipe.name}: "))
            else:
                yield Candidate(recipe, spec.converter, spec._replace(name=file), content, "")


def finish(
    recipe: Recipe, converters: Converters, content: bytes, converter: dict[str, Any], name: str, licence: str
) -> tuple[ArtifactSpec, bytes]:
    """Hold a file to its recipe, let it say what it is, and hold that to the recipe again.

    Raises:
        PennyweightError: it isn't what the recipe asks for.
    """
    interface = converters.interface
    if recipe.format == "tflite" and converters.graph.loops:
        converter = {**converter, "batch": 1}  # the runtime asks such a file sample by sample
    spec = describe(recipe, interface, _read(recipe, content), converter)
    about = About(
        name,
        recipe.precision,
        licence,
        tuple(entry.spec for entry in interface.inputs),
        tuple(output.spec for output in interface.outputs),
        {entry.spec.name: entry.held for entry in interface.inputs},
    )
    if recipe.format == "onnx":
        content = with_onnx_metadata(content, about)
    else:
        content = with_tflite_metadata(content, about, spec.inputs, spec.outputs)
    spec = describe(recipe, interface, _read(recipe, content), converter)
    if not recipe.integer:
        return spec, content
    ranges = {key: [float(array.min()), float(array.max())] for key, array in converters.seen.items()}
    input_range = ranges if len(ranges) > 1 else next(iter(ranges.values()))
    return spec._replace(calibration={**converters.calibration.record, "input_range": input_range}), content


def _read(recipe: Recipe, content: bytes) -> FileFacts:
    read = read_onnx if recipe.format == "onnx" else read_tflite
    return read(content, recipe.name)


def describe(recipe: Recipe, interface: Interface, facts: FileFacts, converter: dict[str, Any]) -> ArtifactSpec:
    """Describe a file for the manifest.

    Raises:
        PennyweightError: it isn't what the recipe asks for.
    """
    quantised = "int16" if recipe.activations == "int16" and interface.wire == "uint8" else interface.wire
    spec = ArtifactSpec(
        name=recipe.name,
        format=recipe.format,
        precision=recipe.precision,
        inputs=tuple(
            _input_wire(entry, _fact(facts.inputs, entry.spec.name, recipe.name), quantised if recipe.integer else "")
            for entry in interface.inputs
        ),
        outputs=tuple(
            Wire(output.spec.name, _fact(facts.outputs, output.spec.name, recipe.name).name, "float32")
            for output in interface.outputs
        ),
        operators=dict(sorted(facts.operators.items())),
        float_operators={name: _reason(recipe, facts, name, converter) for name in sorted(facts.float_operators)}
        if recipe.weights.startswith("int")
        else {},
        converter=converter,
    )
    require_asked(facts, recipe, spec.inputs, spec.outputs, batch=converter.get("batch", -1))
    return spec


def _reason(recipe: Recipe, facts: FileFacts, operator: str, converter: dict[str, Any]) -> str:
    """Say why an operator of a quantised artifact computes in float, and of how many that is so."""
    count, total = facts.float_operators[operator], facts.operators[operator]
    which = "" if count == total else f"{count} of {total}: "
    weights = {layer.weights for layer in facts.layers if layer.operator == operator and layer.in_float}
    if recipe.integer and operator in KEPT_FLOAT:
        return f"{which}left in float32: in integers it would round the answers to 1/256"
    if recipe.integer:
        return f"{which}{converter['tool']} kept it in float32: it writes no integer kernel for it"
    if recipe.weights in weights:
        return f"{which}its weights are stored as {recipe.weights}; the engine computes with them in float32"
    if weights - {None}:
        return f"{which}{converter['tool']} left its weights in float32: too few to gain by"
    return f"{which}activations are float32 between the layers with weights"


def _fact(facts: tuple[TensorFact, ...], key: str, artifact: str) -> TensorFact:
    for fact in facts:
        if fact.key == key:
            return fact
    raise PennyweightError(f"{artifact}: has no {key!r}, only {', '.join(fact.key or fact.name for fact in facts)}")


def _input_wire(entry: Input, fact: TensorFact, quantised: str) -> Wire:
    """Describe the input's wire; a quantised one in pixels, and without scale where the pixel itself travels.

    In the file: what ``Graph.inner`` takes = file scale × (wire value − file zero point), and it is held scale × pixel
    + held offset. A zero point is whole, so an offset that is no whole number of steps is rounded by up to half a
    step.
    """
    wire = Wire(
        entry.spec.name, fact.name, quantised if quantised and entry.spec.dtype != "int32" else entry.spec.dtype
    )
    if fact.scale is None or fact.zero_point is None:
        return wire
    held_scale, held_offset = entry.held
    scale = fact.scale / held_scale
    zero_point = fact.zero_point + held_offset / fact.scale
    if wire.dtype == "uint8" and abs(scale - 1) <= 1e-3 and abs(zero_point) <= 0.501:
        return wire
    return wire._replace(scale=scale, zero_point=round(zero_point))

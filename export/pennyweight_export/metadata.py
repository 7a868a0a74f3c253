"""What an artifact says of itself to other tools: labels, image preparation, ranges, written into the file.

ONNX has ``metadata_props`` with standard keys for images (onnx, docs/MetadataProps.md) and denotations of types and
dimensions (docs/TypeDenotation.md). TFLite has a flatbuffer of its own inside the model's (metadata_schema.fbs of
tflite-support, file identifier M001) with the labels' file appended as a zip; no kept-up library with that schema is
small enough to depend on, so it is built here, field by field, with the flatbuffers library.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from pennyweight.manifest import InputSpec, OutputSpec, Wire, plain_json

from .onnx_file import parse_onnx
from .tflite_file import pack_tflite, parse_tflite

METADATA_NAME = "TFLITE_METADATA"
IDENTIFIER = b"M001"
# The schema's version that first had every field written here.
LEAST_PARSER = "1.0.0"
# Members of the schema's enumerations and unions.
_COLOURS = {"rgb": 1, "gray": 2}
_IMAGE_PROPERTIES, _FEATURE_PROPERTIES = 2, 1
_NORMALISATION = 1
_AXIS_LABELS = 2


class About(NamedTuple):
    """What is told: the bundle's name, the precision, the licence of the data, inputs and outputs.

    ``held`` has, for each input, scale and offset from its values to those that its quantisation parameters speak of.
    """

    name: str
    precision: str
    licence: str
    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]
    held: Mapping[str, tuple[float, float]]

    @property
    def description(self) -> str:
        """One sentence for people."""
        given = ", ".join(describe_input(spec) for spec in self.inputs)
        answers = ", ".join(f"float32 {list(spec.shape)} {spec.meaning}" for spec in self.outputs)
        return f"{given} in, {answers} out; {self.precision}, exported by Pennyweight"

    def labels_file(self, spec: OutputSpec) -> str:
        """Name the file of an output's labels."""
        return "labels.txt" if len(self.outputs) == 1 else f"labels-{spec.name}.txt"


def describe_input(spec: InputSpec) -> str:
    """Say in words what an input takes, and how a picture becomes it."""
    text = f"{spec.dtype} {list(spec.shape)}"
    if spec.range:
        text += f" from {spec.range[0]:g} to {spec.range[1]:g}"
    if spec.image:
        smooth = "antialiased " if spec.image.antialias and spec.image.resize == "bilinear" else ""
        text += f", {spec.image.colour} picture resized {smooth}{spec.image.resize} ({spec.image.fit})"
    return text


def with_onnx_metadata(content: bytes, about: About) -> bytes:
    """Give an ``.onnx`` file that holds ``about``."""
    model = parse_onnx(content)
    model.producer_name, model.doc_string = "pennyweight", about.description
    model.graph.name = about.name
    properties = {
        "name": about.name,
        "licence": about.licence,
        "inputs": json.dumps([plain_json(spec) for spec in about.inputs], ensure_ascii=False),
        "outputs": json.dumps([plain_json(spec) for spec in about.outputs], ensure_ascii=False),
    }
    labels = about.outputs[0].labels
    if labels:
        properties["labels"] = json.dumps(labels, ensure_ascii=False)
    images = [spec for spec in about.inputs if spec.image]
    if images and images[0].image:
        properties["Image.BitmapPixelFormat"] = "Gray8" if images[0].image.colour == "gray" else "Rgb8"
        properties["Image.ColorSpaceGamma"] = "SRGB"
        properties["Image.NominalPixelRange"] = "NominalRange_0_255"
    del model.metadata_props[:]
    for key, value in properties.items():
        model.metadata_props.add(key=key, value=value)
    for value in model.graph.input:
        for spec in images:
            if spec.name == value.name:
                _denote(value, spec)
    return bytes(model.SerializeToString())


def _denote(value: Any, spec: InputSpec) -> None:
    value.type.denotation = "IMAGE"
    names = ("DATA_BATCH", "DATA_FEATURE", "DATA_FEATURE", "DATA_CHANNEL")
    for dimension, name in zip(value.type.tensor_type.shape.dim, names):
        dimension.denotation = name


def with_tflite_metadata(content: bytes, about: About, inputs: Sequence[Wire], outputs: Sequence[Wire]) -> bytes:
    """Give a ``.tflite`` file that holds ``about``; the wires say which tensor is which."""
    model, _ = parse_tflite(content)
    graph = model.subgraphs[0]
    given = {wire.tensor: spec for wire, spec in _paired(inputs, about.inputs)}
    answers = {wire.tensor: spec for wire, spec in _paired(outputs, about.outputs)}
    writer = _Writer()
    told_inputs = []
    for tensor in (graph.tensors[index] for index in graph.inputs):
        spec = given[tensor.name.decode()]
        # An integer that stands for what the layers see is reached by way of what they see.
        quantised = tensor.quantization is not None and tensor.quantization.scale is not None
        scale, offset = about.held[spec.name] if quantised else (1.0, 0.0)
        told_inputs.append(writer.input(spec, mean=0.0 - offset / scale, deviation=1 / scale))
    told_outputs = [
        writer.output(answers[tensor.name.decode()], about) for tensor in (graph.tensors[i] for i in graph.outputs)
    ]
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(writer.finish(about, told_inputs, told_outputs), np.uint8)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA_NAME.encode(), len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    file = io.BytesIO(pack_tflite(model))
    labelled = [spec for spec in about.outputs if spec.labels]
    if labelled:
        with zipfile.ZipFile(file, "a", zipfile.ZIP_STORED) as archive:
            for spec in labelled:
                # A fixed date: the same model gives the same bytes.
                archive.writestr(zipfile.ZipInfo(about.labels_file(spec)), "".join(f"{name}\n" for name in spec.labels))
    return file.getvalue()


def _paired(wires: Sequence[Wire], specs: Sequence[Any]) -> Iterator[tuple[Wire, Any]]:
    by_name = {spec.name: spec for spec in specs}
    return ((wire, by_name[wire.name]) for wire in wires)


class _Writer:
    """Builds the metadata's flatbuffer; each method gives the offset of what it wrote.

    Slots are the fields' positions in the schema, from 0 on.
    """

    def __init__(self) -> None:
        self._builder = flatbuffers.Builder(1024)

    def input(self, spec: InputSpec, mean: float, deviation: float) -> int:
        """Write a TensorMetadata whose values are normalised as (value − mean) / deviation before quantisation."""
        slots = {0: self._text(spec.name), 1: self._text(describe_input(spec))}
        image = spec.image
        if image is not None:
            size = self._table({}, numbers={0: image.width, 1: image.height})
            properties = self._table({1: size}, small={0: _COLOURS[image.colour]})
            slots[3] = self._union(_IMAGE_PROPERTIES, properties)
        else:
            slots[3] = self._union(_FEATURE_PROPERTIES, self._table({}))
        if spec.dtype in ("uint8", "float32"):
            options = self._table({0: self._floats([mean]), 1: self._floats([deviation])})
            slots[4] = self._vector([self._union(_NORMALISATION, options)])
        if spec.range is not None:
            slots[5] = self._table({0: self._floats([spec.range[1]]), 1: self._floats([spec.range[0]])})
        return self._table(slots)

    def output(self, spec: OutputSpec, about: About) -> int:
        """Write a TensorMetadata, with its labels' file where it has labels."""
        slots = {0: self._text(spec.name), 1: self._text(f"float32 {list(spec.shape)} {spec.meaning}")}
        slots[3] = self._union(_FEATURE_PROPERTIES, self._table({}))
        if spec.meaning == "probabilities":
            slots[5] = self._table({0: self._floats([1.0]), 1: self._floats([0.0])})
        if spec.labels:
            names = {0: self._text(about.labels_file(spec)), 1: self._text("the classes' names in order")}
            slots[6] = self._vector([self._table(names, small={2: _AXIS_LABELS})])
        return self._table(slots)

    def finish(self, about: About, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """Write the ModelMetadata around inputs and outputs; give the whole flatbuffer."""
        graph = self._table({2: self._vector(inputs), 3: self._vector(outputs)})
        texts = {0: about.name, 1: about.description, 5: about.licence, 7: LEAST_PARSER}
        slots = {slot: self._text(text) for slot, text in texts.items()}
        self._builder.Finish(self._table({**slots, 3: self._vector([graph])}), IDENTIFIER)
        return bytes(self._builder.Output())

    def _text(self, text: str) -> int:
        return int(self._builder.CreateString(text))

    def _floats(self, values: Sequence[float]) -> int:
        return int(self._builder.CreateNumpyVector(np.asarray(values, np.float32)))

    def _vector(self, offsets: Sequence[int]) -> int:
        self._builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self._builder.PrependUOffsetTRelative(offset)
        return int(self._builder.EndVector())

    def _union(self, kind: int, member: int) -> int:
        """Write a table whose first field is a union: its member's number, and the member."""
        return self._table({1: member}, small={0: kind})

    def _table(
        self,
        offsets: Mapping[int, int],
        small: Mapping[int, int] | None = None,
        numbers: Mapping[int, int] | None = None,
    ) -> int:
        """Write a table of offsets, 8-bit numbers (enumerations, unions' kinds) and 32-bit numbers by slot."""
        self._builder.StartObject(max([*offsets, *(small or ()), *(numbers or ()), -1]) + 1)
        for slot, offset in offsets.items():
            self._builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
        for slot, number in (numbers or {}).items():
            self._builder.PrependUint32Slot(slot, number, 0)
        for slot, number in (small or {}).items():
            self._builder.PrependUint8Slot(slot, number, 0)
        return int(self._builder.EndObject())

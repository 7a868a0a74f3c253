"""A file explains itself to other tools: read back here by tools that the exporter doesn't write with."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
import onnxruntime
import pytest
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import number_types
from flatbuffers.table import Table  # type: ignore[import-untyped]

from pennyweight import open_bundle
from pennyweight.bundle import Bundle
from pennyweight.manifest import ImagePreparation
from pennyweight_data import Dataset
from pennyweight_export import export

from .conftest import blobs, trained

ROTATED = ["dunkel", "mittel, grau", "grün"]


@pytest.fixture(scope="module")
def labelled(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Give a gray model's bundle with labels that need UTF-8 and hold a comma."""
    place = tmp_path_factory.mktemp("metadata") / "gray"
    model = trained(data, 3)
    image = ImagePreparation("gray", 6, 6, "bilinear", True, "crop")
    precision = ["float32", "int8", "int16x8"]
    return export(model, data, place, labels=ROTATED, image=image, precision=precision)


def properties(content: bytes) -> dict[str, str]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found: dict[str, str] = session.get_modelmeta().custom_metadata_map
    return found


@pytest.mark.parametrize("artifact", ["float32.onnx", "int8.onnx"])
def test_onnxruntime_reads_labels_and_image_keys(labelled: Bundle, artifact: str) -> None:
    found = properties(labelled.read(artifact))
    assert found["Image.BitmapPixelFormat"] == "Gray8"
    assert found["Image.ColorSpaceGamma"] == "SRGB"
    assert found["Image.NominalPixelRange"] == "NominalRange_0_255"
    assert json.loads(found["labels"]) == ROTATED
    assert json.loads(found["inputs"])[0]["image"]["fit"] == "crop"
    assert json.loads(found["outputs"])[0]["meaning"] == "probabilities"
    assert found["licence"] == "CC0-1.0"


def test_a_colour_model_is_rgb(tmp_path: Path) -> None:
    data = blobs((4, 4, 3))
    bundle = export(trained(data, 3), data, tmp_path / "b", precision=["float32"])
    assert properties(bundle.read("float32.onnx"))["Image.BitmapPixelFormat"] == "Rgb8"
    content = Fields.of(bundle.read("float32.tflite")).table(3, 0).table(2, 0).table(3)
    assert content.table(1).number(0, number_types.Int8Flags) == 1


def test_any_unzip_reads_the_labels_of_a_tflite_file(labelled: Bundle) -> None:
    for artifact in ("float32.tflite", "int8.tflite", "int16x8.tflite"):
        with zipfile.ZipFile(io.BytesIO(labelled.read(artifact))) as archive:
            assert archive.namelist() == ["labels.txt"]
            assert archive.read("labels.txt").decode().splitlines() == ROTATED


class Fields:
    """A flatbuffer's table, read by the position of its fields: nothing of the writer's is in it."""

    def __init__(self, table: Any) -> None:
        self._table = table

    @classmethod
    def of(cls, content: bytes) -> Fields:
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        (entry,) = [entry for entry in model.metadata if entry.name == b"TFLITE_METADATA"]
        packed = bytes(model.buffers[entry.buffer].data)
        assert packed[4:8] == b"M001"
        return cls(Table(packed, flatbuffers.encode.Get(flatbuffers.packer.uoffset, packed, 0)))

    def _at(self, slot: int) -> int:
        offset = self._table.Offset(4 + 2 * slot)
        assert offset, f"no field {slot}"
        return int(self._table.Pos + offset)

    def text(self, slot: int) -> str:
        return bytes(self._table.String(self._at(slot))).decode()

    def number(self, slot: int, flags: Any) -> int:
        return int(self._table.Get(flags, self._at(slot)))

    def floats(self, slot: int) -> list[float]:
        array = self._table.GetVectorAsNumpy(number_types.Float32Flags, self._table.Offset(4 + 2 * slot))
        return [float(value) for value in np.asarray(array)]

    def table(self, slot: int, index: int | None = None) -> Fields:
        if index is None:
            return Fields(Table(self._table.Bytes, self._table.Indirect(self._at(slot))))
        start = self._table.Vector(self._table.Offset(4 + 2 * slot))
        return Fields(Table(self._table.Bytes, self._table.Indirect(start + 4 * index)))


@pytest.mark.parametrize(
    ("artifact", "deviation"), [("float32.tflite", 1.0), ("int8.tflite", 255.0), ("int16x8.tflite", 255.0)]
)
def test_the_tflite_metadata_says_what_goes_in(labelled: Bundle, artifact: str, deviation: float) -> None:
    model = Fields.of(labelled.read(artifact))
    assert model.text(0) == "gray"
    assert model.text(5) == "CC0-1.0"
    assert model.text(7) == "1.0.0"
    given = model.table(3, 0).table(2, 0)
    assert given.text(0) == "image"
    assert "gray picture resized antialiased bilinear (crop)" in given.text(1)
    content = given.table(3)
    assert content.number(0, number_types.Uint8Flags) == 2  # ImageProperties
    assert content.table(1).number(0, number_types.Int8Flags) == 2  # GRAYSCALE
    size = content.table(1).table(1)
    assert [size.number(slot, number_types.Uint32Flags) for slot in (0, 1)] == [6, 6]
    # (value − mean) / deviation is what the input's quantisation speaks of: pixels, or pixels over 255.
    options = given.table(4, 0).table(1)
    assert options.floats(0) == [0.0]
    assert options.floats(1) == pytest.approx([deviation])
    assert (given.table(5).floats(0), given.table(5).floats(1)) == ([255.0], [0.0])


def test_the_tflite_metadata_says_what_comes_out(labelled: Bundle) -> None:
    output = Fields.of(labelled.read("int8.tflite")).table(3, 0).table(3, 0)
    assert output.text(0) == "probabilities"
    file = output.table(6, 0)
    assert file.text(0) == "labels.txt"
    assert file.number(2, number_types.Int8Flags) == 2  # TENSOR_AXIS_LABELS


def test_weights_stay_aligned_in_the_repacked_file(labelled: Bundle) -> None:
    content = labelled.read("float32.tflite")
    model = schema.Model.GetRootAs(content, 0)
    starts = []
    for index in range(model.BuffersLength()):
        buffer = model.Buffers(index)
        if buffer.DataLength() > 64:
            table = buffer._tab
            starts.append(table.Vector(table.Offset(4)))
    assert starts
    assert all(start % 16 == 0 for start in starts)


def test_a_model_without_labels_has_no_labels_file(tmp_path: Path) -> None:
    from dataclasses import replace

    from .conftest import fitted

    pixels = blobs()
    y_train, y_test = (x.mean(axis=(1, 2), keepdims=True)[:, 0] / 25 for x in (pixels.x_train, pixels.x_test))
    data = replace(pixels, y_train=y_train, y_test=y_test)
    import keras

    model = fitted(data, y_train, keras.layers.Rescaling(1 / 255), keras.layers.Flatten())
    bundle = export(model, data, tmp_path / "b", precision=["float32"])
    assert not zipfile.is_zipfile(io.BytesIO(bundle.read("float32.tflite")))
    assert "labels" not in properties(bundle.read("float32.onnx"))


def test_the_same_model_gives_the_same_bytes(tiny_model: Any, data: Dataset, tmp_path: Path) -> None:
    files = [export(tiny_model, data, tmp_path / n / "b", precision=["float32"]) for n in made(tmp_path, "one", "two")]
    # tf2onnx counts its names on from one conversion to the next, so ONNX files differ in names.
    assert files[0].read("float32.tflite") == files[1].read("float32.tflite")
    assert open_bundle(files[0].path).manifest.gaps == ()


def made(folder: Path, *names: str) -> tuple[str, ...]:
    for name in names:
        (folder / name).mkdir()
    return names

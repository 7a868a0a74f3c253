"""``pennyweight layers``: the right layer is named, in the table, the JSON and the picture, and nonsense is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pennyweight import open_bundle
from pennyweight.errors import UsageError
from pennyweight.manifest import dump_manifest
from pennyweight_export.layers import LayerError, layer_errors, layer_names
from pennyweight_export.layers_command import layers_text, measure_layers
from pennyweight_export.layers_picture import layers_picture
from pennyweight_export.quantizer import Operator
from pennyweight_export.tflite_file import pack_tflite, parse_tflite
from support import command, one_line


def measured(lab_bundle: Path, change: Any = lambda content: content) -> dict[str, LayerError]:
    bundle = open_bundle(lab_bundle)
    inputs = {"": bundle.evaluation().inputs["image"][:400]}
    found = layer_errors(bundle.read("float32.tflite"), change(bundle.read("int8.tflite")), inputs, True)
    return {one.layer: one for one in found}


def shuffled(content: bytes, layer: int) -> bytes:
    """Shuffle the weights of one fully connected layer."""
    model, names = parse_tflite(content)
    graph = model.subgraphs[0]
    dense = [one for one in graph.operators if names[one.opcodeIndex] == "FULLY_CONNECTED"]
    buffer = model.buffers[graph.tensors[dense[layer].inputs[1]].buffer]
    buffer.data = np.random.default_rng(0).permutation(np.asarray(buffer.data, np.uint8))
    return pack_tflite(model)


def test_every_layer_of_the_lab_has_its_errors(lab_bundle: Path) -> None:
    found = measured(lab_bundle)
    assert list(found) == ["L1", "L2", "L3", "softmax"]
    for one in found.values():
        assert one.kind == "int8"
        assert 0 < one.alone < 0.05
        assert one.agreement is not None
        assert one.agreement > 0.97
        assert one.accumulated is not None
        assert 0 < one.accumulated < 0.05
    # What has accumulated at the output is the file's own error there.
    assert found["softmax"].accumulated == pytest.approx(final_error(lab_bundle), rel=0.05)


def final_error(lab_bundle: Path) -> float:
    from pennyweight import load

    images = open_bundle(lab_bundle).evaluation().inputs["image"][:400]
    wanted, got = (
        np.asarray(load(lab_bundle, artifact=name, engine="ai-edge-litert").predict(images))
        for name in ("float32.tflite", "int8.tflite")
    )
    spread = np.sqrt(np.mean((wanted - wanted.mean(axis=0)) ** 2))
    return float(np.sqrt(np.mean((got - wanted) ** 2)) / spread)


@pytest.mark.parametrize(("layer", "name"), [(0, "L1"), (1, "L2"), (2, "L3")])
def test_a_damaged_layer_shows_from_where_it_is(lab_bundle: Path, layer: int, name: str) -> None:
    found = list(measured(lab_bundle, lambda content: shuffled(content, layer)).values())
    accumulated = [one.accumulated or 0.0 for one in found]
    assert [one.layer for one in found][layer] == name
    assert max(accumulated[:layer], default=0.0) < 0.05
    assert accumulated[layer] > 0.5


def test_a_layer_with_a_ruined_range_is_the_worst_alone(lab_bundle: Path) -> None:
    def coarse(content: bytes) -> bytes:
        model, _ = parse_tflite(content)
        for tensor in model.subgraphs[0].tensors:
            if b"L2_1/MatMul;" in tensor.name:
                tensor.quantization.scale = tensor.quantization.scale * 16
        return pack_tflite(model)

    found = measured(lab_bundle, coarse)
    # L3 reads what L2 writes, so it has that error too; L1 has nothing to do with it.
    assert min(found["L2"].alone, found["L3"].alone) > 5 * found["L1"].alone


def test_a_file_without_integer_layers_is_refused(lab_bundle: Path) -> None:
    bundle = open_bundle(lab_bundle)
    with pytest.raises(UsageError, match="none of its layers has integer activations"):
        layer_errors(bundle.read("float32.tflite"), bundle.read("float32.tflite"), {"": np.zeros((2, 20, 20))}, True)


@pytest.mark.parametrize(
    ("tensors", "names"),
    [
        (["lab_1/L1_1/MatMul;lab_1/L1_1/Relu"], ["L1"]),
        (["m/relu_1/Relu;m/conv_2_1/convolution;m/norm/sub"], ["conv_2"]),
        (["m/block/a_1/MatMul", "n/block/a_1/MatMul"], ["a", "a (2)"]),
        (["StatefulPartitionedCall:0"], ["softmax"]),
    ],
)
def test_layers_are_named_as_keras_names_them(tensors: list[str], names: list[str]) -> None:
    layers = [Operator("SOFTMAX", index, (), (tensor,), ()) for index, tensor in enumerate(tensors)]
    assert list(layer_names(layers).values()) == names


@pytest.fixture(scope="module")
def result(lab_bundle: Path) -> dict[str, Any]:
    bundle = open_bundle(lab_bundle)
    return measure_layers(bundle, bundle.manifest.artifact("int8.tflite"), bundle.evaluation().part(0, 200))


def test_the_table_has_the_worst_layer_first(result: dict[str, Any]) -> None:
    errors = [row["relative_error"] for row in result["rows"]]
    assert errors == sorted(errors, reverse=True)
    lines = layers_text(result).splitlines()
    assert lines[0] == "digits: int8.tflite on 200 samples, worst layer first"
    assert lines[4].startswith(result["rows"][0]["layer"])


def test_names_that_are_anybodys_do_not_break_the_picture(result: dict[str, Any]) -> None:
    strange = {
        **result,
        "rows": [{**row, "layer": "$x_$<b>" * 12, "accumulated_error": None} for row in result["rows"]],
    }
    assert layers_picture(strange, ".png").startswith(b"\x89PNG")
    assert b"<svg" in layers_picture(result, ".svg")


def test_the_command_prints_the_table_writes_json_that_report_reads_and_draws(lab_bundle: Path, tmp_path: Path) -> None:
    done = command("layers", lab_bundle, "--samples", "300", "--picture", tmp_path / "l.png", "-o", tmp_path / "l.json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("digits: int8.tflite on 300 samples, worst layer first")
    assert (tmp_path / "l.png").read_bytes().startswith(b"\x89PNG")
    assert len(json.loads((tmp_path / "l.json").read_text())["rows"]) == 4
    page = command("report", tmp_path / "l.json", "-o", tmp_path / "r.html")
    assert page.returncode == 0, page.stderr
    assert "softmax" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--artifact", "float32.tflite"], 2, "give a quantised .tflite file, such as int8.tflite"),
        (["--artifact", "float32.onnx"], 2, "give a quantised .tflite file, such as int8.tflite"),
        (["--artifact", "none.tflite"], 2, "has no artifact 'none.tflite'"),
        (["--samples", "0"], 2, "--samples 0; give at least 1"),
        (["--picture", "p.txt"], 2, "end the name in .png, .svg, .pdf"),
        (["--picture", "/nowhere/p.png"], 2, "can't be written"),
    ],
)
def test_nonsense_is_one_line(lab_bundle: Path, arguments: list[str], code: int, said: str) -> None:
    assert said in one_line(command("layers", lab_bundle, *arguments), code)


def test_a_bundle_without_its_float_file_is_refused(lab_bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(lab_bundle, copy)
    manifest = open_bundle(copy).manifest
    (copy / "float32.tflite").unlink()
    files = {name: record for name, record in manifest.files.items() if name != "float32.tflite"}
    specs = tuple(spec for spec in manifest.artifacts if spec.name != "float32.tflite")
    (copy / "manifest.json").write_bytes(dump_manifest(manifest._replace(files=files, artifacts=specs)))
    assert "has no float32.tflite to compare with" in one_line(command("layers", copy), 2)


def test_a_bundle_without_evaluation_set_is_measured_on_its_golden_one(lab_bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(lab_bundle, copy)
    manifest = open_bundle(copy).manifest
    (copy / "evaluation.npz").unlink()
    files = {name: record for name, record in manifest.files.items() if name != "evaluation.npz"}
    (copy / "manifest.json").write_bytes(dump_manifest(manifest._replace(files=files, evaluation=None)))
    assert "int8.tflite on 24 samples" in command("layers", copy).stdout

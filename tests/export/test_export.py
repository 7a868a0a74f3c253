"""Exports of small models of each kind, and what is recorded, refused and noticed on the way."""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from pennyweight import load, open_bundle
from pennyweight.bundle import Bundle
from pennyweight.errors import InputError, PennyweightError, UsageError
from pennyweight_data import Dataset, make_dataset
from pennyweight_export import export
from pennyweight_export.arrays import fit
from pennyweight_export.evidence import draw_calibration, draw_evaluation
from pennyweight_export.interface import recognise

from .conftest import blobs, fitted, trained

L = keras.layers


def answers(bundle: Bundle, artifact: str, inputs: Any) -> Any:
    engine = "onnxruntime" if artifact.endswith(".onnx") else "ai-edge-litert"
    return load(bundle, artifact=artifact, engine=engine).predict(inputs)


def verdicts(bundle: Bundle) -> set[str | None]:
    """Give the verdicts but that of dynamic int8, whose kernels tflite-runtime 2.14 gets wrong."""
    specs = [spec for spec in bundle.manifest.artifacts if spec.precision != "dynamic-int8"]
    return {record.verdict for spec in specs for record in spec.engines}


def test_a_bundle_can_be_one_file(tiny_model: Any, data: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "tiny.pennyweight"
    bundle = export(tiny_model, data, path)
    assert zipfile.is_zipfile(path)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert bundle.manifest.name == "tiny"
    assert bundle.check() == []
    assert load(path).classify(data.x_test[0])[0] == "0"


def test_export_leaves_the_callers_model_alone(tiny_model: Any, data: Dataset, tmp_path: Path) -> None:
    before, layers = tiny_model.predict(data.x_test, verbose=0), list(tiny_model.layers)
    nodes = [len(layer._inbound_nodes) for layer in layers]
    export(tiny_model, data, tmp_path / "b")
    assert list(tiny_model.layers) == layers
    assert [len(layer._inbound_nodes) for layer in layers] == nodes
    np.testing.assert_array_equal(tiny_model.predict(data.x_test, verbose=0), before)


def test_a_small_convolutional_network(tmp_path: Path) -> None:
    data = blobs((8, 8, 3))
    body = [
        L.Rescaling(1 / 127.5, -1),
        L.Conv2D(4, 3, activation="relu"),
        L.BatchNormalization(),
        L.DepthwiseConv2D(3, padding="same"),
        L.GlobalAveragePooling2D(),
        L.Dropout(0.2),
    ]
    model = trained(data, 3, *body)
    bundle = export(model, data, tmp_path / "cnn")
    expected = keras.ops.softmax(model.predict(data.x_test, verbose=0)).numpy()
    for artifact in ("float32.tflite", "float32.onnx"):
        assert np.abs(answers(bundle, artifact, data.x_test) - expected).max() <= 1e-5
    assert bundle.manifest.artifact("int8.tflite").float_operators == {}
    # 127.5 is no whole zero point: the wire is off by half a pixel, which is still "the pixel itself".
    assert bundle.manifest.artifact("int8.tflite").inputs[0].scale is None


def test_floats_in_are_floats_on_the_wire(tmp_path: Path) -> None:
    pixels = blobs((36,))
    x_train, x_test = (array.astype(np.float64) / 255 - 0.1 for array in (pixels.x_train, pixels.x_test))
    data = replace(pixels, x_train=x_train, x_test=x_test)
    model = trained(data, 3, L.Dense(8, "relu"), dtype="float32")
    bundle = export(model, data, tmp_path / "floats")
    expected = keras.ops.softmax(model.predict(x_test, verbose=0)).numpy()
    for artifact in ("float32.tflite", "int8.tflite", "float32.onnx"):
        spec = bundle.manifest.artifact(artifact)
        assert (spec.inputs[0].dtype, spec.inputs[0].scale) == ("float32", None)
        got = answers(bundle, artifact, x_test.astype(np.float32))
        if artifact.startswith("float32"):
            assert np.abs(got - expected).max() <= 1e-5
        assert (got.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.98
    int8 = bundle.manifest.artifact("int8.tflite")
    assert int8.float_operators == {}
    assert int8.operators["QUANTIZE"] == 1


def test_scale_and_offset_go_into_the_graph(tmp_path: Path) -> None:
    data = blobs()
    scaled = replace(data, x_train=data.x_train / 100 - 0.5, x_test=data.x_test / 100 - 0.5)
    model = trained(scaled, 3, L.Flatten(), L.Dense(8, "relu"), dtype="float32")
    bundle = export(model, data, tmp_path / "b", scale=0.01, offset=-0.5)
    expected = keras.ops.softmax(model.predict(scaled.x_test, verbose=0)).numpy()
    assert np.abs(answers(bundle, "float32.tflite", data.x_test) - expected).max() <= 1e-5
    int8 = answers(bundle, "int8.tflite", data.x_test)
    assert (int8.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.98


def test_an_offset_outside_the_range_still_maps_pixels(tmp_path: Path) -> None:
    # Every value that the layers see is at least 1: TFLite's range reaches down to 0, so a step is no pixel.
    data = blobs()
    scaled = replace(data, x_train=data.x_train / 255 + 1, x_test=data.x_test / 255 + 1)
    model = trained(scaled, 3, L.Flatten(), L.Dense(16, "relu"), dtype="float32")
    bundle = export(model, data, tmp_path / "b", scale=1 / 255, offset=1.0)
    wire = bundle.manifest.artifact("int8.tflite").inputs[0]
    assert wire.scale == pytest.approx(2, rel=1e-3)
    assert wire.zero_point in (127, 128)  # 127.5, to the nearest whole number
    expected = keras.ops.softmax(model.predict(scaled.x_test, verbose=0)).numpy().argmax(axis=1)
    assert (answers(bundle, "int8.tflite", data.x_test).argmax(axis=1) == expected).mean() >= 0.95


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_a_binary_model_answers_one_probability(tmp_path: Path, activation: str | None) -> None:
    data = blobs(classes=2)
    wanted = np.where(data.y_train[:, None] == 1, 4.0, -4.0)
    model = fitted(data, wanted, L.Rescaling(1 / 255), L.Flatten(), activation=activation)
    bundle = export(model, data, tmp_path / "b", labels=["dark", "light"])
    model_answers = load(bundle)
    logits = model.predict(data.x_test, verbose=0)
    expected = logits if activation else keras.ops.sigmoid(logits).numpy()
    assert np.abs(answers(bundle, "float32.onnx", data.x_test) - expected).max() <= 1e-5
    labels = [model_answers.classify(image)[0] for image in data.x_test[:10]]
    assert labels == [["dark", "light"][label] for label in data.y_test[:10]]


def test_a_regression_is_compared_as_numbers(tmp_path: Path) -> None:
    pixels = blobs()
    y_train, y_test = (x.mean(axis=(1, 2), keepdims=True)[:, 0] / 25 for x in (pixels.x_train, pixels.x_test))
    data = replace(pixels, y_train=y_train, y_test=y_test)
    model = fitted(data, y_train, L.Rescaling(1 / 255), L.Flatten())
    bundle = export(model, data, tmp_path / "b")
    assert bundle.manifest.outputs[0][2:4] == ("raw", "none")
    assert verdicts(bundle) == {"pass"}
    assert all(r.figures["kind"] == "numbers" for s in bundle.manifest.artifacts for r in s.engines)
    assert "relative error" in (bundle.path / "README.md").read_text()


def test_a_last_axis_of_one_is_added_where_the_model_has_it(tmp_path: Path) -> None:
    data = blobs()
    model = trained(replace(data, x_train=data.x_train[..., None]), 3)
    bundle = export(model, data, tmp_path / "b")
    assert bundle.manifest.inputs[0].shape == (6, 6, 1)
    assert bundle.evaluation().inputs["image"].shape == (1500, 6, 6, 1)


def test_calibration_takes_no_sample_that_is_evaluated(tiny_model: Any, data: Dataset) -> None:
    leaked = replace(data, x_train=np.concatenate([data.x_test[:30], data.x_train[30:]]))
    fitted_data = fit(leaked, recognise(tiny_model, leaked))
    drawn = draw_calibration(fitted_data, fitted_data.x_test, 500, 0)
    assert drawn.record["samples"] == 120
    assert drawn.record["left_out_as_in_evaluation"] == 30
    held_out = {image.tobytes() for image in data.x_test}
    assert not any(image.tobytes() in held_out for image in drawn.inputs["image"])


def test_calibration_on_the_evaluation_set_itself_is_refused(tiny_model: Any, data: Dataset, tmp_path: Path) -> None:
    same = replace(data, x_train=data.x_test, y_train=data.y_test)
    with pytest.raises(InputError, match="every training sample is a test sample too"):
        export(tiny_model, same, tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_the_same_seed_draws_the_same_calibration(tiny_model: Any, data: Dataset) -> None:
    fitted_data = fit(data, recognise(tiny_model, data))

    def digest(seed: int) -> str:
        return str(draw_calibration(fitted_data, fitted_data.x_test, 60, seed).record["indices_sha256"])

    assert digest(1) == digest(1) != digest(2)


def test_an_operator_that_tflite_lacks_is_named(data: Dataset, tmp_path: Path) -> None:
    entry = keras.Input((6, 6), dtype="uint8")
    odd = keras.ops.tan(L.Flatten()(L.Rescaling(1 / 255)(entry)))
    model = keras.Model(entry, L.Dense(3)(odd))
    bundle = export(model, data, tmp_path / "b", any_accuracy=True)
    assert [spec.name for spec in bundle.manifest.artifacts] == ["float32.onnx", "int8.onnx"]
    assert {gap.artifact for gap in bundle.manifest.gaps} == {
        f"{name}.tflite" for name in ("float32", "float16", "dynamic-int8", "int8")
    }
    assert all("TFLite has no Tan" in gap.reason for gap in bundle.manifest.gaps)


def test_where_no_format_has_the_operator_there_is_no_bundle(data: Dataset, tmp_path: Path) -> None:
    entry = keras.Input((6, 6), dtype="uint8")
    odd = keras.ops.tan(L.Flatten()(L.Rescaling(1 / 255)(entry)))
    model = keras.Model(entry, L.Dense(3)(odd))
    with pytest.raises(PennyweightError, match=r"no artifact could be made of the model \(float32.tflite: .*no Tan"):
        export(model, data, tmp_path / "b", precision=["float32.tflite"], any_accuracy=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"calibration": 0}, "calibration with 0"),
        ({"evaluation": 0}, "evaluation with 0"),
        ({"evaluation": "some"}, "a number of samples, all or none"),
    ],
)
def test_impossible_numbers_are_refused(
    tiny_model: Any, data: Dataset, tmp_path: Path, options: Any, match: str
) -> None:
    with pytest.raises(UsageError, match=match):
        export(tiny_model, data, tmp_path / "b", **options)


@pytest.mark.parametrize("model", [None, [1, 2], object()])
def test_what_is_no_model_is_refused(data: Dataset, tmp_path: Path, model: Any) -> None:
    with pytest.raises(InputError, match="no Keras model"):
        export(model, data, tmp_path / "b")


def test_a_data_set_without_a_test_part_is_refused(tiny_model: Any, data: Dataset, tmp_path: Path) -> None:
    class Half:
        x_train, y_train = data.x_train, data.y_train

    with pytest.raises(InputError, match="no x_test, y_test"):
        export(tiny_model, Half(), tmp_path / "b")


def test_whole_numbers_beyond_pixels_are_refused(tiny_model: Any, data: Dataset, tmp_path: Path) -> None:
    wide = make_dataset(
        "wide", (data.x_train.astype(np.int32) * 3, data.y_train), (data.x_test.astype(np.int32), data.y_test)
    )
    with pytest.raises(InputError, match=r"outside 0\.\.255"):
        export(tiny_model, wide, tmp_path / "b")


def test_a_keras_file_gives_the_artifacts_of_the_model_in_memory(
    tiny_model: Any, tiny_bundle: Path, data: Dataset, tmp_path: Path
) -> None:
    tiny_model.save(tmp_path / "m.keras")
    from_memory, from_file = open_bundle(tiny_bundle), export(tmp_path / "m.keras", data, tmp_path / "b")
    for artifact in ("float32.tflite", "int8.tflite", "float32.onnx"):
        np.testing.assert_array_equal(*(answers(b, artifact, data.x_test) for b in (from_memory, from_file)))
    assert from_file.manifest.source["digest_of"] == "file"
    assert from_memory.manifest.source["digest_of"] == "weights"
    assert from_file.read("golden.npz") == from_memory.read("golden.npz")


def test_progress_goes_to_the_callback_and_nothing_to_the_terminal(
    tiny_model: Any, data: Dataset, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lines: list[str] = []
    capfd.readouterr()
    bundle = export(tiny_model, data, tmp_path / "b", notice=lines.append, evaluation="none")
    assert capfd.readouterr() == ("", "")
    seen, right, convert = (
        next(index for index, line in enumerate(lines) if text in line)
        for text in ("see values from 0 to 1", "the original is right on", "converting")
    )
    assert max(seen, right) < convert
    # Without an evaluation set in the bundle, the verdicts are made all the same.
    assert not (bundle.path / "evaluation.npz").exists()
    assert "evaluation.npz" not in bundle.manifest.files
    assert all(record.figures["samples"] == 1500 for spec in bundle.manifest.artifacts for record in spec.engines)
    assert verdicts(bundle) == {"pass"}


@pytest.mark.parametrize(("wanted", "rows"), [(None, 1500), (30, 30), (9999, 1500)])
def test_the_evaluation_set_is_stratified_and_as_large_as_asked(
    tiny_model: Any, data: Dataset, wanted: int | None, rows: int
) -> None:
    interface = recognise(tiny_model, data)
    inputs, answers = draw_evaluation(fit(data, interface), interface, wanted, 0)
    labels = answers["probabilities"]
    assert len(inputs["image"]) == len(labels) == rows
    assert np.bincount(labels).tolist() == [rows // 3] * 3


def test_an_evaluation_set_holds_at_most_50_megabytes(tiny_model: Any, data: Dataset) -> None:
    interface = recognise(tiny_model, data)
    huge = replace(
        data,
        x_test=np.broadcast_to(data.x_test[:1], (2_000_000, 6, 6)),
        y_test=np.broadcast_to(data.y_test[:1], 2_000_000),
    )
    inputs, answers = draw_evaluation(fit(huge, interface), interface, None, 0)
    images, labels = inputs["image"], answers["probabilities"]
    assert 49e6 < images.nbytes + labels.nbytes + 4 * 3 * len(images) <= 50e6


def test_a_failure_half_way_leaves_the_old_bundle_and_nothing_else(
    tiny_model: Any, tiny_bundle: Path, data: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / "b"
    shutil.copytree(tiny_bundle, path)
    before = {entry.name: entry.read_bytes() for entry in path.iterdir()}

    def stop_half_way(text: str) -> None:
        if text == "trying 2 files on onnxruntime":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(tiny_model, data, path, force=True, notice=stop_half_way)
    assert [entry.name for entry in tmp_path.iterdir()] == ["b"]
    assert {entry.name: entry.read_bytes() for entry in path.iterdir()} == before
    export(tiny_model, data, path, force=True, name="new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["b"]
    assert open_bundle(path).manifest.name == "new"


def test_a_model_that_answers_nan_is_refused(tiny_model: Any, data: Dataset, tmp_path: Path) -> None:
    broken = keras.models.clone_model(tiny_model)
    broken.set_weights([np.full_like(weight, np.nan) for weight in tiny_model.get_weights()])
    with pytest.raises(InputError, match="the model itself answers NaN"):
        export(broken, data, tmp_path / "b")

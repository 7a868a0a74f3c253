"""Preprocessing, as options or in the model, ends up in the artifacts; where it's wrong, export stops and says so."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from pennyweight import load
from pennyweight.bundle import Bundle
from pennyweight.errors import InputError, UsageError
from pennyweight_data import Dataset, make_dataset
from pennyweight_export import export
from pennyweight_export.interface import recognise
from pennyweight_export.preprocessing import NOTHING, Preprocessing, preprocessing_from
from support import command, one_line

from .kinds import TRAIN, classes_of, named, pictures, sequential, spread

L = keras.layers
SCALE, OFFSET = (1 / 58.4, 1 / 57.1, 1 / 57.4), (-2.1, -2.0, -1.8)


def network(shape: tuple[int, ...] = (12, 12, 3), *first: Any, dtype: str = "float32") -> Any:
    layers = (L.Conv2D(6, 3, activation="relu"), L.GlobalAveragePooling2D(), L.Dense(4))
    return sequential(shape, *first, *layers, dtype=dtype)


def answered(bundle: Bundle, artifact: str, inputs: Any) -> Any:
    engine = "onnxruntime" if artifact.endswith("onnx") else "ai-edge-litert"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # int8 of random weights may fail its gate, which `load` says
        model = load(bundle, artifact=artifact, engine=engine)
    return model.predict(inputs)


def made(model: Any, seen: Any, folder: Path, **options: Any) -> tuple[Bundle, Any, Any]:
    """Export a model that was trained on ``seen``; give the bundle, evaluation pixels, and probabilities."""
    spread(model, seen)
    _, data = named(model, pictures(), classes_of(model, seen))
    bundle = export(model, data, folder / "b", precision=["float32", "int8"], repair=False, **options)
    wanted = keras.ops.softmax(model.predict(seen[TRAIN:], verbose=0)).numpy()
    return bundle, pictures()[TRAIN:], wanted


def require_close(bundle: Bundle, pixels: Any, wanted: Any) -> None:
    samples = bundle.evaluation().inputs["image"]
    order = [int(np.flatnonzero((pixels == sample).all(axis=(1, 2, 3)))[0]) for sample in samples]
    for spec in bundle.manifest.artifacts:
        # Eight bits over three layers of random weights; another preprocessing is off by 0.5 and more.
        allowed = 1e-5 if spec.precision == "float32" else 0.12
        got = answered(bundle, spec.name, samples)
        assert np.sqrt(np.mean((got - wanted[order]) ** 2)) / wanted.std() <= allowed, spec.name
        assert all(wire.dtype == "uint8" for wire in spec.inputs), spec.name
    assert len(bundle.manifest.artifacts) == 4


def test_a_scale_and_an_offset_for_each_channel(tmp_path: Path) -> None:
    seen = (pictures() * np.asarray(SCALE) + np.asarray(OFFSET)).astype(np.float32)
    bundle, pixels, wanted = made(network(), seen, tmp_path, scale=SCALE, offset=OFFSET)
    require_close(bundle, pixels, wanted)
    # One convolution in the graph, and pixels on the wire as they are.
    wire = bundle.manifest.artifact("int8.tflite").inputs[0]
    assert (wire.dtype, wire.scale, wire.zero_point) == ("uint8", None, None)
    assert bundle.manifest.artifact("int8.tflite").operators["DEPTHWISE_CONV_2D"] == 1


@pytest.mark.parametrize("mode", ["tf", "caffe", "torch"])
def test_the_three_modes_of_keras_applications(tmp_path: Path, mode: str) -> None:
    from keras.src.applications.imagenet_utils import preprocess_input

    seen = preprocess_input(pictures().astype(np.float32), data_format="channels_last", mode=mode)
    bundle, pixels, wanted = made(network(), seen, tmp_path, preprocess=f"keras:{mode}")
    require_close(bundle, pixels, wanted)


@pytest.mark.parametrize(
    "name",
    ["mobilenet_v2", "resnet50", "vgg16", "densenet", "inception_v3", "efficientnet", "mobilenet_v3", "xception"],
)
def test_an_application_is_prepared_as_its_own_function_does(name: str) -> None:
    found = preprocessing_from(None, None, f"keras:{name}")
    pixels = pictures()[:4].astype(np.float64)
    expected = getattr(keras.applications, name).preprocess_input(pixels.copy(), data_format="channels_last")
    given = pixels[..., ::-1] if found.swapped else pixels
    np.testing.assert_allclose(given * np.asarray(found.scale) + np.asarray(found.offset), expected, atol=1e-5)


def test_a_normalization_layer_goes_into_the_graph_or_the_quantisation(tmp_path: Path) -> None:
    layer = L.Normalization(mean=[120.0, 110.0, 100.0], variance=[3000.0, 3500.0, 4000.0])
    model = network((12, 12, 3), layer)
    bundle, pixels, wanted = made(model, pictures().astype(np.float32), tmp_path)
    require_close(bundle, pixels, wanted)
    assert bundle.manifest.artifact("int8.tflite").inputs[0].dtype == "uint8"


def test_a_normalization_of_one_mean_is_folded_into_the_wire() -> None:
    model = network((12, 12, 3), L.Normalization(axis=None, mean=127.5, variance=127.5**2))
    data = named(model, pictures(), np.arange(len(pictures())) % 4)[1]
    (entry,) = recognise(model, data).inputs
    assert (entry.rescaling, entry.in_graph) == (True, False)
    assert entry.seen == pytest.approx((-1, 1))


def test_a_rescaling_for_each_channel_is_computed_in_the_graph() -> None:
    model = network((12, 12, 3), L.Rescaling([1 / 255, 1 / 127.5, 1.0], [0.0, -1.0, 0.0]), dtype="uint8")
    data = named(model, pictures(), np.arange(len(pictures())) % 4)[1]
    (entry,) = recognise(model, data).inputs
    assert (entry.rescaling, entry.in_graph, entry.held) == (True, True, (1.0, 0.0))
    assert entry.inner_scale == pytest.approx((1 / 255, 1 / 127.5, 1.0))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (("x", None, None), "must be finite"),
        ((0.0, None, None), "the scale not 0"),
        (([1.0, 0.0, 1.0], None, None), "the scale not 0"),
        ((1.0, None, "keras:vgg16"), "leave --scale and --offset out"),
        ((None, None, "keras:nothing"), "give keras:NAME, of tf, caffe, torch, .*mobilenet_v2"),
        ((None, None, "torch:resnet"), "give keras:NAME"),
    ],
)
def test_options_that_cannot_be_are_refused(options: Any, match: str) -> None:
    scale = float("nan") if options[0] == "x" else options[0]
    with pytest.raises(UsageError, match=match):
        preprocessing_from(scale, *options[1:])


def test_numbers_for_other_channels_are_refused() -> None:
    with pytest.raises(UsageError, match="2 numbers for the scale, and a sample of shape \\(6, 6\\) has 6 channels"):
        Preprocessing((1.0, 2.0)).for_shape((6, 6))
    assert preprocessing_from(None, None, None) == NOTHING


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Dataset]:
    """Give a folder with a model that was trained on pixels / 127.5 − 1 and its data, as pixels."""
    seen = pictures().astype(np.float32) / 127.5 - 1
    model = spread(network(), seen)
    _, data = named(model, pictures(), classes_of(model, seen))
    folder = tmp_path_factory.mktemp("wrong")
    model.save(folder / "m.keras")
    arrays = {name: getattr(data, name) for name in ("x_train", "y_train", "x_test", "y_test")}
    np.savez(folder / "d.npz", **arrays)
    return folder, model, data


def test_near_chance_the_likely_preprocessing_is_named_and_right(
    wrong: tuple[Path, Any, Dataset], tmp_path: Path
) -> None:
    folder, _, _ = wrong
    result = command(
        "export", folder / "m.keras", "--data", folder / "d.npz", "-o", tmp_path / "b", "--precision", "float32.onnx"
    )
    line = one_line(result, 2)
    assert "with pixels / 127.5 − 1: use --scale 0.00784313725 --offset=-1" in line
    assert "the model's layers see values from 0 to 255" in result.stderr
    assert not (tmp_path / "b").exists()
    # What it says is what to do.
    advice = ["--scale", "0.00784313725", "--offset=-1"]
    result = command(
        "export",
        folder / "m.keras",
        "--data",
        folder / "d.npz",
        "-o",
        tmp_path / "b",
        "--precision",
        "float32.onnx",
        *advice,
    )
    assert "right on 256 of 256" in result.stderr
    assert "see values from -1 to 1" in result.stderr
    assert (tmp_path / "b" / "float32.onnx").exists()


def test_any_accuracy_exports_all_the_same(wrong: tuple[Path, Any, Dataset], tmp_path: Path) -> None:
    _, model, data = wrong
    bundle = export(model, data, tmp_path / "b", precision=["float32.onnx"], any_accuracy=True)
    assert [spec.name for spec in bundle.manifest.artifacts] == ["float32.onnx"]


def test_a_wrong_option_is_named_too(wrong: tuple[Path, Any, Dataset], tmp_path: Path) -> None:
    _, model, data = wrong
    with pytest.raises(UsageError, match=r"with pixels / 127.5 − 1: use --scale"):
        export(model, data, tmp_path / "b", preprocess="keras:caffe")


def test_a_model_that_is_near_chance_whatever_is_done_is_stopped(
    wrong: tuple[Path, Any, Dataset], tmp_path: Path
) -> None:
    _, model, data = wrong
    random = np.random.default_rng(1)
    shuffled = make_dataset(
        "shuffled",
        (data.x_train, random.permutation(data.y_train)),
        (data.x_test, random.permutation(data.y_test)),
    )
    with pytest.raises(UsageError, match=r"which is near chance: give the data as in training .*--any-accuracy"):
        export(model, shuffled, tmp_path / "b")


def test_floats_that_were_divided_for_a_model_that_divides_are_named(tmp_path: Path) -> None:
    model = network((12, 12, 3), L.Rescaling(1 / 255))
    spread(model, pictures().astype(np.float32))
    y = classes_of(model, pictures().astype(np.float32))
    _, data = named(model, pictures().astype(np.float32) / 255, y)
    with pytest.raises(UsageError, match=r"with the floats × 255: give the data as uint8 pixels"):
        export(model, data, tmp_path / "b")


def test_token_ids_that_are_no_whole_numbers_are_refused() -> None:
    model = sequential((5,), L.Embedding(9, 3), L.GlobalAveragePooling1D(), L.Dense(2), dtype="int32")
    data = named(model, np.full((320, 5), 0.5, np.float32), np.arange(320) % 2)[1]
    with pytest.raises(InputError, match="x_train is float32, the model takes int32"):
        recognise(model, data)

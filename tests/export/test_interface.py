"""What the exporter makes of a model and its data, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest

from pennyweight.errors import InputError, UsageError
from pennyweight.manifest import ImagePreparation
from pennyweight_data import Dataset, make_dataset
from pennyweight_export.interface import Interface, recognise
from pennyweight_export.preprocessing import preprocessing_from

L = keras.layers


def sequential(shape: tuple[int | None, ...], *layers: Any, dtype: str = "uint8") -> Any:
    return keras.Sequential([keras.Input(shape, dtype=dtype), *layers])


def pixels(shape: tuple[int, ...] = (6, 6), classes: int = 3) -> Dataset:
    x = np.arange(12 * int(np.prod(shape)), dtype=np.uint32).reshape(12, *shape).astype(np.uint8)
    y = np.arange(12) % classes
    return make_dataset("pixels", (x, y), (x[::-1].copy(), y))


def seen(model: Any, data: Dataset | None = None, **options: Any) -> Interface:
    preprocessing = preprocessing_from(*(options.pop(name, None) for name in ("scale", "offset", "preprocess")))
    return recognise(model, data or pixels(), preprocessing=preprocessing, **options)


def test_a_leading_rescaling_is_folded() -> None:
    interface = seen(sequential((6, 6), L.Rescaling(1 / 255), L.Flatten(), L.Dense(3)))
    assert interface.inputs[0].rescaling
    assert interface.inputs[0].inner_scale == pytest.approx(1 / 255)
    assert interface.inputs[0].seen == pytest.approx((0, 1))
    assert (interface.inputs[0].scale, interface.inputs[0].offset) == (1, 0)


def test_a_leading_rescaling_of_a_float_input_is_folded_too() -> None:
    interface = seen(sequential((6, 6), L.Rescaling(1 / 127.5, -1), L.Flatten(), L.Dense(3), dtype="float32"))
    assert interface.inputs[0].rescaling
    assert interface.inputs[0].seen == pytest.approx((-1, 1))
    assert interface.inputs[0].spec.dtype == "uint8"


def test_a_rescaling_in_a_functional_model_is_folded_only_where_nothing_else_reads_the_input() -> None:
    entry = keras.Input((6, 6), dtype="uint8")
    scaled = L.Flatten()(L.Rescaling(1 / 255)(entry))
    alone = keras.Model(entry, L.Dense(3)(scaled))
    beside = keras.Model(entry, L.Dense(3)(L.Concatenate()([scaled, L.Flatten()(L.Rescaling(1.0)(entry))])))
    assert seen(alone).inputs[0].rescaling
    assert not seen(beside).inputs[0].rescaling


def test_a_rescaling_further_in_stays_in_the_graph() -> None:
    interface = seen(sequential((6, 6), L.Flatten(), L.Rescaling(1 / 255), L.Dense(3)))
    assert not interface.inputs[0].rescaling
    assert interface.inputs[0].seen == (0, 255)


def test_scale_and_offset_say_how_training_fed_floats() -> None:
    model = sequential((6, 6), L.Flatten(), L.Dense(3), dtype="float32")
    interface = seen(model, scale=1 / 255, offset=-0.5)
    assert interface.inputs[0].seen == pytest.approx((-0.5, 0.5))
    assert interface.inputs[0].spec.range == (0, 255)


@pytest.mark.parametrize(
    ("last", "head"),
    [
        ([L.Dense(3)], "softmax"),
        ([L.Dense(3, "softmax")], ""),
        ([L.Dense(3), L.Softmax()], ""),
        ([L.Dense(3), L.Activation("softmax")], ""),
        ([L.Dense(3, "sigmoid")], ""),
        ([keras.Sequential([L.Dense(3, "softmax")])], ""),
    ],
)
def test_softmax_is_appended_to_logits_only(last: list[Any], head: str) -> None:
    interface = seen(sequential((6, 6), L.Flatten(), *last))
    assert interface.outputs[0].head == head
    assert interface.outputs[0].spec[1:4] == ((3,), "probabilities", "single")


@pytest.mark.parametrize(("activation", "head"), [(None, "sigmoid"), ("sigmoid", "")])
def test_one_output_is_binary(activation: str | None, head: str) -> None:
    model = sequential((6, 6), L.Flatten(), L.Dense(1, activation))
    interface = recognise(model, pixels(classes=2))
    assert interface.outputs[0].head == head
    assert interface.outputs[0].spec == ("probabilities", (1,), "probabilities", "single", ("0", "1"))


def test_one_linear_output_with_other_whole_targets_is_a_regression() -> None:
    interface = recognise(sequential((6, 6), L.Flatten(), L.Dense(1)), pixels(classes=5))
    assert interface.outputs[0].spec == ("output", (1,), "raw", "none", ())


def test_targets_that_are_no_class_numbers_make_a_regression() -> None:
    data = pixels()
    data = replace(data, y_train=np.ones((12, 3)), y_test=np.ones((12, 3)))
    model = sequential((6, 6), L.Flatten(), L.Dense(3))
    assert recognise(model, data).outputs[0].spec[1:4] == ((3,), "raw", "none")
    with pytest.raises(InputError, match="no class numbers"):
        recognise(model, data, labels=["a", "b", "c"])


@pytest.mark.parametrize(
    ("shape", "colour"), [((6, 6), "gray"), ((6, 6, 1), "gray"), ((6, 6, 3), "rgb"), ((6, 6, 4), None), ((36,), None)]
)
def test_pictures_are_known_by_their_shape(shape: tuple[int, ...], colour: str | None) -> None:
    interface = recognise(sequential(shape, L.Flatten(), L.Dense(3)), pixels(shape))
    expected = ImagePreparation(colour, 6, 6, "bilinear", True, "stretch", 0) if colour else None
    assert interface.inputs[0].spec.image == expected
    assert interface.inputs[0].spec.name == ("image" if colour else "input")


def test_a_preparation_of_ones_own_must_fit() -> None:
    model = sequential((6, 6), L.Flatten(), L.Dense(3))
    wanted = ImagePreparation("gray", 6, 6, fit="pad", pad_value=255)
    assert seen(model, image=wanted).inputs[0].spec.image == wanted
    with pytest.raises(UsageError, match="doesn't fit"):
        seen(model, image=ImagePreparation("rgb", 6, 6))


def test_float_samples_make_a_float_interface() -> None:
    data = pixels((36,))
    data = replace(data, x_train=data.x_train.astype(np.float32) / 100, x_test=data.x_test.astype(np.float32))
    interface = recognise(sequential((36,), L.Dense(3), dtype="float32"), data)
    (entry,) = interface.inputs
    assert (entry.spec.dtype, entry.spec.image, entry.rescaling) == ("float32", None, False)
    assert entry.spec.range == pytest.approx((0, 2.55))
    with pytest.raises(UsageError, match="--scale"):
        seen(sequential((36,), L.Dense(3), dtype="float32"), data, scale=2.0)


@pytest.mark.parametrize("labels", [["a", "b"], ["a", "b", "c", "d"], ["a", "b", "b"]])
def test_labels_must_name_each_class_once(labels: list[str]) -> None:
    with pytest.raises(InputError, match="name each class once"):
        seen(sequential((6, 6), L.Flatten(), L.Dense(3)), labels=labels)


def test_labels_are_the_callers_or_the_datas_or_numbers() -> None:
    model = sequential((6, 6), L.Flatten(), L.Dense(3))
    named = replace(pixels(), labels=("x", "y", "z"))
    assert seen(model).outputs[0].spec.labels == ("0", "1", "2")
    assert recognise(model, named).outputs[0].spec.labels == ("x", "y", "z")
    assert recognise(model, named, labels=["p", "q", "r"]).outputs[0].spec.labels == ("p", "q", "r")


@pytest.mark.parametrize(
    ("model", "error", "match"),
    [
        (lambda: sequential((6, 6), L.Flatten(), L.Dense(2)), InputError, "classes from 0 to 2, the model has 0..1"),
        (lambda: sequential((5, 6), L.Flatten(), L.Dense(3)), InputError, r"shape \(6, 6\), the model takes \(5, 6\)"),
        (lambda: sequential((6, 6), L.Flatten(), L.Dense(3), dtype="float64"), UsageError, "takes float64"),
        (lambda: sequential((6, None), L.Flatten()), UsageError, "fix every size"),
    ],
)
def test_a_model_that_does_not_fit_its_data_is_refused(model: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        seen(model())


def test_several_inputs_need_an_array_for_each() -> None:
    one, other = keras.Input((6,), name="one"), keras.Input((6,), name="other")
    model = keras.Model([one, other], L.Dense(3)(L.Add()([one, other])))
    with pytest.raises(InputError, match="give x_train/one, x_train/other"):
        seen(model)


def test_options_without_a_use_are_refused() -> None:
    model = sequential((6, 6), L.Rescaling(1 / 255), L.Flatten(), L.Dense(3))
    with pytest.raises(UsageError, match="takes uint8 pixels itself"):
        seen(model, scale=1 / 255)
    with pytest.raises(UsageError, match="must be finite"):
        seen(sequential((6, 6), L.Flatten(), L.Dense(3), dtype="float32"), scale=0.0)


def two_by_two() -> tuple[Any, Dataset]:
    one, other = keras.Input((6, 6), dtype="uint8", name="one"), keras.Input((3,), name="other")
    hidden = L.Concatenate()([L.Flatten()(L.Rescaling(1 / 255)(one)), other])
    model = keras.Model([one, other], [L.Dense(3, name="kind")(hidden), L.Dense(1, name="size")(hidden)])
    part = (
        {"one": pixels().x_train, "other": np.ones((12, 3), np.float32)},
        {"kind": np.arange(12) % 3, "size": np.ones((12, 1))},
    )
    return model, make_dataset("two", part, part)


def test_several_inputs_and_outputs_keep_their_names() -> None:
    model, data = two_by_two()
    interface = recognise(model, data)
    assert [(entry.spec.name, entry.spec.dtype, entry.in_graph) for entry in interface.inputs] == [
        ("one", "uint8", True),  # beside floats, whose wire a quantised artifact shares
        ("other", "float32", False),
    ]
    assert [(output.spec.name, output.head) for output in interface.outputs] == [("kind", "softmax"), ("size", "")]
    assert interface.wire == "float32"


def test_labels_for_several_outputs_are_refused() -> None:
    model, data = two_by_two()
    with pytest.raises(UsageError, match="one output, and this model has kind, size"):
        recognise(model, data, labels=["a", "b", "c"])


def test_arrays_of_other_names_are_refused() -> None:
    model, data = two_by_two()
    renamed = replace(data, x_train={"one": data.x_train["one"], "facts": data.x_train["other"]})
    with pytest.raises(InputError, match=r"the data have x_train/one, x_train/facts, the model takes .*x_train/other"):
        recognise(model, renamed)


def test_token_ids_are_int32_where_the_model_embeds_them() -> None:
    ids = np.arange(60).reshape(12, 5) * 7
    data = make_dataset("ids", (ids, np.arange(12) % 2), (ids, np.arange(12) % 2))
    layers = (L.Embedding(500, 3), L.GlobalAveragePooling1D(), L.Dense(2))
    for dtype in ("int32", "int64", "float32"):
        (entry,) = recognise(sequential((5,), *layers, dtype=dtype), data).inputs
        assert (entry.spec.dtype, entry.takes, entry.spec.image) == ("int32", "int32", None)


@pytest.mark.parametrize(
    ("shape", "y", "spec"),
    [
        ((3,), np.eye(3, dtype=np.float32)[np.arange(12) % 3], ((3,), "probabilities", "single")),
        ((3,), (np.arange(36).reshape(12, 3) % 2), ((3,), "probabilities", "multi")),
        ((3,), np.linspace(0, 1, 36).reshape(12, 3), ((3,), "raw", "none")),
    ],
)
def test_targets_tell_one_label_from_several(shape: tuple[int, ...], y: Any, spec: Any) -> None:
    data = make_dataset("targets", (pixels().x_train, y), (pixels().x_test, y))
    ending = "sigmoid" if spec[2] == "multi" else "softmax"
    (output,) = recognise(sequential((6, 6), L.Flatten(), L.Dense(3, ending)), data).outputs
    assert output.spec[1:4] == spec
    assert output.one_hot == (y.dtype == np.float32)


def test_a_class_for_each_pixel_is_a_segmentation() -> None:
    y = np.arange(12 * 36).reshape(12, 6, 6) % 2
    data = make_dataset("masks", (pixels((6, 6, 3)).x_train, y), (pixels((6, 6, 3)).x_test, y))
    (output,) = recognise(sequential((6, 6, 3), L.Rescaling(1 / 255), L.Conv2D(2, 1)), data).outputs
    assert (output.spec[1:4], output.head) == (((6, 6, 2), "probabilities", "single"), "softmax")
    (mask,) = recognise(sequential((6, 6, 3), L.Rescaling(1 / 255), L.Conv2D(1, 1, activation="sigmoid")), data).outputs
    assert (mask.spec[1:], mask.head) == (((6, 6, 1), "probabilities", "single", ()), "")


def test_targets_of_another_shape_are_refused() -> None:
    data = make_dataset("other", (pixels().x_train, np.ones((12, 4))), (pixels().x_test, np.ones((12, 4))))
    with pytest.raises(InputError, match=r"y_train has shape \(4,\) a sample, the model's output \(3,\)"):
        recognise(sequential((6, 6), L.Flatten(), L.Dense(3)), data)

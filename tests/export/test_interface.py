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

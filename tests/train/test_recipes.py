from __future__ import annotations

import numpy as np
import pytest

from pennyweight.errors import UsageError
from pennyweight_data import load_digits, load_lab_digits
from pennyweight_train import RECIPES


def test_the_lab_is_the_labs_network_on_both_inputs() -> None:
    for shape, dtype in (((400,), "float32"), ((20, 20), "uint8")):
        model = RECIPES["lab"].build(shape, dtype, 10)
        dense = [layer for layer in model.layers if layer.name in ("L1", "L2", "L3")]
        assert [layer.units for layer in dense] == [25, 15, 10]
        assert [layer.activation.__name__ for layer in dense] == ["relu", "relu", "linear"]
        assert model.count_params() == 10_575
        assert model.input_shape == (None, *shape)
        assert model.inputs[0].dtype == dtype


def test_the_labs_floats_enter_the_first_layer_as_they_are() -> None:
    assert [layer.name for layer in RECIPES["lab"].build((400,), "float32", 10).layers] == ["L1", "L2", "L3"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_pixels_are_scaled_inside_the_model(recipe: str) -> None:
    pixels = load_digits().x_train[:3]
    model = RECIPES[recipe].build((20, 20), "uint8", 10)
    floats = RECIPES[recipe].build((20, 20), "float32", 10)
    floats.set_weights(model.get_weights())
    # float32: multiplying by 1/255 and dividing by 255 differ in the last bit.
    scaled = (pixels / 255).astype(np.float32)
    assert np.allclose(np.asarray(model(pixels)), np.asarray(floats(scaled)), rtol=0, atol=1e-6)


def test_the_lab_reads_pixels_row_by_row_and_its_own_rows_column_by_column() -> None:
    pixels, rows = load_digits().x_train[:50], load_lab_digits().X[:50]
    upright = RECIPES["lab"].build((20, 20), "uint8", 10)
    columns = RECIPES["lab"].build((400,), "float32", 10)
    first, *others = upright.get_weights()
    columns.set_weights([first.reshape(20, 20, 25).transpose(1, 0, 2).reshape(400, 25), *others])
    # The pixels are the lab's floats, rounded and clipped: the logits move a little, but an untransposed row far more.
    near = np.abs(np.asarray(upright(pixels)) - np.asarray(columns(rows.astype(np.float32)))).max()
    columns.set_weights(upright.get_weights())
    far = np.abs(np.asarray(upright(pixels)) - np.asarray(columns(rows.astype(np.float32)))).max()
    assert near < far / 4


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(("shape", "classes"), [((20, 20), 10), ((28, 28), 10), ((28, 28, 1), 26), ((32, 32, 3), 100)])
def test_recipes_fit_other_data(recipe: str, shape: tuple[int, ...], classes: int) -> None:
    model = RECIPES[recipe].build(shape, "uint8", classes)
    assert np.asarray(model(np.zeros((2, *shape), np.uint8))).shape == (2, classes)


def test_the_cnn_is_small_and_refuses_what_is_no_image() -> None:
    assert RECIPES["cnn"].build((20, 20), "uint8", 10).count_params() <= 60_000
    for shape in ((400,), (7, 20), (2, 20, 20, 3)):
        with pytest.raises(UsageError, match="recipe cnn: samples of shape"):
            RECIPES["cnn"].build(shape, "uint8", 10)

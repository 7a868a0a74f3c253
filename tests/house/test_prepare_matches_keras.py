"""The runtime's resizing, in numpy, against what Keras and TensorFlow do."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from pennyweight.manifest import ImagePreparation, InputSpec
from pennyweight.prepare import prepare

PICTURE = np.random.default_rng(7).integers(0, 256, (75, 101, 3), dtype=np.uint8)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize(("height", "width"), [(20, 20), (33, 150), (160, 160), (74, 100)])
def test_bilinear_is_tensorflows(height: int, width: int, antialias: bool) -> None:
    spec = InputSpec(
        "x", (height, width, 3), "uint8", None, ImagePreparation("rgb", height, width, antialias=antialias)
    )
    wanted = tf.image.resize(PICTURE, (height, width), antialias=antialias).numpy()
    # Half a level is the rounding to whole pixels; TensorFlow works its weights out in float32.
    assert abs(prepare(PICTURE, "rgb", spec) - wanted).max() <= 0.51


def test_nearest_is_tensorflows() -> None:
    how = ImagePreparation("rgb", 20, 31, "nearest")
    wanted = tf.image.resize(PICTURE, (20, 31), "nearest").numpy()
    np.testing.assert_array_equal(prepare(PICTURE, "rgb", InputSpec("x", (20, 31, 3), "uint8", None, how)), wanted)


@pytest.mark.parametrize(("height", "width"), [(20, 20), (40, 20), (20, 50)])
def test_crop_and_pad_are_keras(height: int, width: int) -> None:
    for fit, option in (("crop", "crop_to_aspect_ratio"), ("pad", "pad_to_aspect_ratio")):
        how = ImagePreparation("rgb", height, width, antialias=False, fit=fit)
        layer = keras.layers.Resizing(height, width, **{option: True})
        wanted = np.asarray(layer(PICTURE.astype("float32")))
        got = prepare(PICTURE, "rgb", InputSpec("x", (height, width, 3), "uint8", None, how))
        assert abs(got - wanted).max() <= 0.51, fit


def test_another_method_would_be_noticed() -> None:
    how = ImagePreparation("rgb", 20, 20, antialias=True)
    plain = tf.image.resize(PICTURE, (20, 20), antialias=False).numpy()
    assert abs(prepare(PICTURE, "rgb", InputSpec("x", (20, 20, 3), "uint8", None, how)) - plain).max() > 10

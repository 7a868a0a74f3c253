"""The recipes: which network, and how it is trained. Each builds itself from the data's shape and number of classes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pennyweight.errors import UsageError

if TYPE_CHECKING:
    import keras

PIXEL_SCALE = 1 / 255
SMALLEST_IMAGE = 8


@dataclass(frozen=True)
class Recipe:
    """How to make a network. ``layers(shape, classes)`` gives its Keras layers, logits out, after the input's scaling.

    Training is Adam on the sparse categorical cross-entropy of the logits; with ``cosine`` the learning rate falls to
    zero along half a cosine, with ``augment`` each epoch sees every image turned, scaled and moved a little.
    """

    name: str
    description: str
    layers: Callable[[tuple[int, ...], int], list[Any]]
    epochs: int
    batch: int
    learning_rate: float
    cosine: bool = False
    augment: bool = False

    def build(self, shape: tuple[int, ...], dtype: str, classes: int) -> keras.Model:
        """Build the untrained model for samples of ``shape`` and NumPy ``dtype``.

        ``uint8`` samples are pixels: the model takes them as they are and divides by 255 itself. Anything else enters
        as float32, unscaled. The result gives (n, classes) float32 logits. Raise UsageError on a shape that the recipe
        can't take.
        """
        from ._keras import keras

        pixels = dtype == "uint8"
        network = self.layers(shape, classes)
        start = [keras.Input(shape, dtype="uint8" if pixels else "float32", name="input")]
        if pixels:
            start.append(keras.layers.Rescaling(PIXEL_SCALE, name="rescaling"))
        model: keras.Model = keras.Sequential([*start, *network], name=self.name)
        return model


def _lab_layers(shape: tuple[int, ...], classes: int) -> list[Any]:
    from ._keras import keras

    flatten = [] if len(shape) == 1 else [keras.layers.Reshape((math.prod(shape),), name="flatten")]
    return [
        *flatten,
        keras.layers.Dense(25, activation="relu", name="L1"),
        keras.layers.Dense(15, activation="relu", name="L2"),
        keras.layers.Dense(classes, name="L3"),
    ]


def _cnn_layers(shape: tuple[int, ...], classes: int) -> list[Any]:
    from ._keras import keras

    if len(shape) not in (2, 3) or min(shape[:2]) < SMALLEST_IMAGE:
        raise UsageError(
            f"recipe cnn: samples of shape {shape} are no images of {SMALLEST_IMAGE} pixels or more; try recipe lab"
        )
    channel = [keras.layers.Reshape((*shape, 1), name="channel")] if len(shape) == 2 else []
    return [
        *channel,
        *_convolution("C1", 24),
        keras.layers.MaxPooling2D(name="P1"),
        *_convolution("C2", 32),
        keras.layers.MaxPooling2D(name="P2"),
        *_convolution("C3", 64),
        keras.layers.GlobalMaxPooling2D(name="pool"),
        keras.layers.Dense(classes, name="logits"),
    ]


def _convolution(name: str, filters: int) -> list[Any]:
    from ._keras import keras

    # The normalisation folds into the convolution when the model is converted, so it costs nothing on the device.
    return [
        keras.layers.Conv2D(filters, 3, padding="same", use_bias=False, name=name),
        keras.layers.BatchNormalization(name=f"{name}_norm"),
        keras.layers.ReLU(name=f"{name}_relu"),
    ]


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("lab", "the lab's 400-25-15-10 network", _lab_layers, epochs=40, batch=32, learning_rate=0.001),
        Recipe(
            "cnn",
            "a small convolutional network for a Raspberry Pi",
            _cnn_layers,
            epochs=30,
            batch=64,
            learning_rate=0.006,
            cosine=True,
            augment=True,
        ),
    )
}

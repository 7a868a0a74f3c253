"""A model that full int8 ruins: the same answers as an easy one, from weights that no single scale per tensor fits."""

from __future__ import annotations

from typing import Any

import numpy as np

from pennyweight_data import Dataset, make_dataset


def hard_data(test: int = 4000) -> Dataset:
    """Give the embedded digits with a smaller test part."""
    from pennyweight_data import load_data

    digits = load_data("digits")
    return make_dataset(
        "digits", (digits.x_train, digits.y_train), (digits.x_test[:test], digits.y_test[:test]), licence="CC BY-SA 3.0"
    )


def hard_model(data: Dataset) -> Any:
    """Give a classifier of random features under a last layer solved by least squares; no training, always the same.

    Channels of the first layer and of the residual sum are multiplied by factors from 1 to 1,000 and divided by them in
    the next layer; some of the units before tanh are multiplied by factors of up to 300, so that they saturate.
    """
    import keras

    random = np.random.default_rng(0)
    layers, units = keras.layers, (96, 96, 160)
    entry = keras.Input(data.x_train.shape[1:], dtype="uint8", name="image")
    pixels = layers.Flatten()(layers.Rescaling(1 / 255)(entry))
    first = layers.Dense(units[0], "relu", name="first")(pixels)
    total = layers.Add(name="sum")(
        [layers.Dense(units[1], name="inner")(first), layers.Dense(units[1], name="shortcut")(pixels)]
    )
    saturating = layers.Activation("tanh", name="tanh")(
        layers.Dense(units[2], name="steep")(layers.ReLU(name="after_sum")(total))
    )
    model = keras.Model(entry, layers.Dense(10, name="logits")(saturating))

    wide, sums = (np.logspace(0, 3, size) for size in units[:2])
    steep = np.r_[np.full(units[2] - 16, 0.7), np.logspace(0, np.log10(300), 16)]
    inputs = data.x_train.reshape(len(data.x_train), -1) / 255.0
    hidden = _set(model.get_layer("first"), random, inputs, 1.0, wide)
    shortcut = _set(model.get_layer("shortcut"), random, inputs, 1.0, sums)
    added = _set(model.get_layer("inner"), random, np.maximum(hidden, 0), wide, sums) + shortcut
    before = _set(model.get_layer("steep"), random, np.maximum(added, 0), sums, steep)
    features = np.tanh(before * steep)
    wanted = np.where(data.y_train[:, None] == np.arange(10), 4.0, -4.0)
    matrix = np.linalg.lstsq(np.c_[features, np.ones(len(features))], wanted, rcond=1e-3)[0]
    model.get_layer("logits").set_weights([matrix[:-1], matrix[-1]])
    return model


def _set(layer: Any, random: np.random.Generator, inputs: Any, divide: Any, multiply: Any) -> Any:
    """Set random weights whose sums on ``inputs`` have mean 0 and deviation 1, and give these.

    The layer reads ``inputs`` multiplied by ``divide`` and gives the sums multiplied by ``multiply``.
    """
    weights = random.normal(0, 1, (inputs.shape[1], len(multiply)))
    weights /= (inputs @ weights).std(axis=0)
    bias = -(inputs @ weights).mean(axis=0)
    layer.set_weights([weights / np.reshape(divide, (-1, 1)) * multiply, bias * multiply])
    return inputs @ weights + bias

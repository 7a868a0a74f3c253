"""Small models and data sets, made in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pennyweight_data import Dataset, make_dataset
from pennyweight_export import export


def blobs(shape: tuple[int, ...] = (6, 6), classes: int = 3, seed: int = 0) -> Dataset:
    """Give uint8 samples of classes that differ in brightness: 150 for training, 1,500 for the test.

    With as many and not one lost, the drop's interval stays inside the half point that parity allows.
    """
    rows, train = 1650, 150
    random = np.random.default_rng(seed)
    y = np.arange(rows) % classes
    middle = (y * 200 // classes + 20).reshape(-1, *[1] * len(shape))
    x = np.clip(random.normal(middle, 12, (rows, *shape)), 0, 255).astype(np.uint8)
    return make_dataset("blobs", (x[:train], y[:train]), (x[train:], y[train:]), licence="CC0-1.0")


@pytest.fixture(scope="session")
def data() -> Dataset:
    """Give 6×6 pixels in three classes."""
    return blobs()


@pytest.fixture(scope="session")
def tiny_model(data: Dataset) -> Any:
    """Give a trained network for ``data``: uint8 pixels, rescaled, logits out."""
    return trained(data, 3)


@pytest.fixture(scope="session")
def tiny_bundle(tiny_model: Any, data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give its bundle, as a folder."""
    return export(tiny_model, data, tmp_path_factory.mktemp("tiny") / "tiny").path


def trained(data: Dataset, classes: int, *body: Any, dtype: str = "uint8") -> Any:
    """Give ``body``, by default rescaling and a hidden layer, under ``classes`` logits that tell the classes apart."""
    wanted = np.where(data.y_train[:, None] == np.arange(classes), 4.0, -4.0)
    return fitted(data, wanted if classes > 2 else wanted[:, 1:], *body, dtype=dtype)


def fitted(data: Dataset, wanted: Any, *body: Any, dtype: str = "uint8", activation: str | None = None) -> Any:
    """Give random layers under a last one solved by least squares: always the same, as gradient descent isn't."""
    import keras

    keras.utils.set_random_seed(0)
    # Made anew: a layer draws its seed when it is made, and the caller made these before this one's.
    layers = [type(layer).from_config(layer.get_config()) for layer in body]
    layers = layers or [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(8, "relu")]
    entry = keras.Input(data.x_train.shape[1:], dtype=dtype)
    hidden = keras.Sequential([entry, *layers])
    for layer in layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([weight + 0.1 for weight in layer.get_weights()])
    last = keras.layers.Dense(wanted.shape[1], activation)
    model = keras.Sequential([entry, *layers, last])
    features = np.asarray(hidden(data.x_train, training=False), np.float64)
    matrix = np.linalg.lstsq(np.c_[features, np.ones(len(features))], wanted, rcond=1e-6)[0]
    last.set_weights([matrix[:-1], matrix[-1]])
    return model

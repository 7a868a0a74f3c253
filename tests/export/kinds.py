"""Small models of every kind with data for them; the labels are the models' own answers, so all are right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from pennyweight_data import Dataset, make_dataset

L = keras.layers
TRAIN, ROWS = 64, 320


def pictures(shape: tuple[int, ...] = (12, 12, 3)) -> Any:
    """Give smooth random pictures, (n, *shape) uint8: noise alone would average out in any network."""
    random = np.random.default_rng(0)
    coarse = random.uniform(0, 255, (ROWS, shape[0] // 4, shape[1] // 4, *shape[2:]))
    return np.clip(
        np.kron(coarse, np.ones((1, 4, 4, *[1] * len(shape[2:])))) + random.normal(0, 9, (ROWS, *shape)), 0, 255
    ).astype(np.uint8)


def numbers(*shape: int) -> Any:
    return np.random.default_rng(0).normal(size=(ROWS, *shape)).astype(np.float32)


def named(model: Any, x: Any, y: Any) -> tuple[Any, Dataset]:
    def cut(values: Any, part: slice) -> Any:
        return {name: array[part] for name, array in values.items()} if isinstance(values, dict) else values[part]

    train, test = slice(None, TRAIN), slice(TRAIN, None)
    return model, make_dataset("kinds", (cut(x, train), cut(y, train)), (cut(x, test), cut(y, test)))


def classes_of(model: Any, x: Any) -> Any:
    """Give the class of each sample, of each pixel or step, that the model itself names."""
    answers = np.asarray(model.predict(x, verbose=0))
    return (answers[..., 0] > 0.5).astype(int) if answers.shape[-1] == 1 else answers.argmax(axis=-1)


def spread(model: Any, x: Any) -> Any:
    """Shift the last layer's biases so that each class is named about as often, and give the model."""
    last = [layer for layer in model.layers if layer.get_weights()][-1]
    kernel, _ = last.get_weights()
    before = keras.Model(model.inputs, last.input)
    logits = np.asarray(before.predict(x, verbose=0)) @ kernel.reshape(-1, kernel.shape[-1])
    axes = tuple(range(logits.ndim - 1))
    scale = 2.0 / np.maximum(logits.std(axis=axes), 1e-6)
    last.set_weights([kernel * scale, -logits.mean(axis=axes) * scale])
    return model


def sequential(shape: tuple[int, ...], *layers: Any, dtype: str = "float32") -> Any:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input(shape, dtype=dtype), *layers])


def classifier(model: Any, x: Any) -> tuple[Any, Dataset]:
    spread(model, x)
    return named(model, x, classes_of(model, x))


def dense_regression() -> tuple[Any, Dataset]:
    x = numbers(6)
    return named(sequential((6,), L.Dense(8, "relu"), L.Dense(2)), x, numbers(2))


def residual_cnn() -> tuple[Any, Dataset]:
    keras.utils.set_random_seed(0)
    entry = keras.Input((12, 12, 3), dtype="uint8")
    start = L.Conv2D(6, 3, padding="same")(L.Rescaling(1 / 127.5, -1)(entry))
    hidden = L.ReLU(6.0)(L.BatchNormalization()(L.DepthwiseConv2D(3, padding="same")(start)))
    hidden = L.MaxPooling2D(2)(L.Add()([start, L.Conv2D(6, 1)(hidden)]))
    hidden = L.Dropout(0.2)(L.AveragePooling2D(2)(hidden))
    return classifier(keras.Model(entry, L.Dense(4)(L.Flatten()(hidden))), pictures())


def lstm() -> tuple[Any, Dataset]:
    return classifier(sequential((5, 5), L.LSTM(8), L.Dense(3)), numbers(5, 5))


def gru() -> tuple[Any, Dataset]:
    x = numbers(5, 5)
    return named(sequential((5, 5), L.Bidirectional(L.GRU(6)), L.Dense(2)), x, numbers(2))


def attention() -> tuple[Any, Dataset]:
    keras.utils.set_random_seed(0)
    entry = keras.Input((6, 8))
    hidden = L.LayerNormalization()(L.Add()([entry, L.MultiHeadAttention(2, 4)(entry, entry)]))
    hidden = L.Dense(8, "gelu")(hidden)
    return classifier(keras.Model(entry, L.Dense(3)(L.GlobalAveragePooling1D()(hidden))), numbers(6, 8))


def embedding() -> tuple[Any, Dataset]:
    x = np.random.default_rng(0).integers(0, 1000, (ROWS, 10))
    model = sequential((10,), L.Embedding(1000, 8), L.GlobalAveragePooling1D(), L.Dense(1), L.Activation("sigmoid"))
    last = model.layers[-2]
    last.set_weights([last.get_weights()[0] * 40, last.get_weights()[1]])
    return named(model, x, classes_of(model, x))


def two_in_two_out() -> tuple[Any, Dataset]:
    keras.utils.set_random_seed(0)
    picture, facts = keras.Input((12, 12, 3), dtype="uint8", name="picture"), keras.Input((4,), name="facts")
    seen = L.GlobalAveragePooling2D()(L.Conv2D(4, 3, activation="relu")(L.Rescaling(1 / 255)(picture)))
    hidden = L.Dense(8, "relu")(L.Concatenate()([seen, L.Dense(4)(facts)]))
    model = keras.Model([picture, facts], [L.Dense(3, name="kind")(hidden), L.Dense(2, name="size")(hidden)])
    x = {"picture": pictures(), "facts": numbers(4)}
    kind = np.asarray(model.predict(x, verbose=0)[0]).argmax(axis=1)
    return named(model, x, {"kind": kind, "size": numbers(2)})


def autoencoder() -> tuple[Any, Dataset]:
    x = pictures((12, 12, 1))
    layers = (L.Conv2D(4, 3, 2, "same", activation="relu"), L.Conv2DTranspose(4, 3, 2, "same", activation="relu"))
    model = sequential((12, 12, 1), L.Rescaling(1 / 255), *layers, L.Conv2D(1, 3, padding="same"), dtype="uint8")
    return named(model, x, x)


def segmentation() -> tuple[Any, Dataset]:
    layers = (L.Conv2D(4, 3, padding="same", activation="relu"), L.MaxPooling2D(2), L.UpSampling2D(2))
    model = sequential((12, 12, 3), L.Rescaling(1 / 255), *layers, L.Conv2D(3, 1), dtype="uint8")
    return named(model, pictures(), classes_of(model, pictures()))


def several_labels() -> tuple[Any, Dataset]:
    x = numbers(6)
    model = sequential((6,), L.Dense(8, "relu"), L.Dense(4, "sigmoid"))
    return named(model, x, (np.asarray(model.predict(x, verbose=0)) > 0.5).astype(int))


@keras.saving.register_keras_serializable("pennyweight_tests")
class Subclassed(keras.Model):  # type: ignore[misc]
    """A model that states no inputs."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.scale = L.Rescaling(1 / 255)
        self.conv = L.Conv2D(4, 3, activation="relu")
        self.last = L.Dense(3)

    def call(self, pixels: Any, training: bool = False) -> Any:
        return self.last(keras.ops.mean(self.conv(self.scale(pixels)), (1, 2)))


def subclassed() -> tuple[Any, Dataset]:
    keras.utils.set_random_seed(0)
    model, x = Subclassed(), pictures()
    features = np.asarray(keras.ops.mean(model.conv(model.scale(x)), (1, 2)))
    model(x[:1])
    kernel, _ = model.last.get_weights()
    scale = 8.0 / (features @ kernel).std(axis=0)
    model.last.set_weights([kernel * scale, -(features @ kernel).mean(axis=0) * scale])
    return named(model, x, classes_of(model, x))


def long_lstm() -> tuple[Any, Dataset]:
    """Give a recurrent layer over more steps than are written out one by one."""
    x = numbers(150, 2)
    return named(sequential((150, 2), L.LSTM(4), L.Dense(2)), x, numbers(2))


KINDS: dict[str, Callable[[], tuple[Any, Dataset]]] = {
    "dense regression": dense_regression,
    "residual cnn": residual_cnn,
    "lstm": lstm,
    "gru": gru,
    "attention": attention,
    "embedding": embedding,
    "two in, two out": two_in_two_out,
    "autoencoder": autoencoder,
    "segmentation": segmentation,
    "several labels": several_labels,
    "subclassed": subclassed,
    "long lstm": long_lstm,
}

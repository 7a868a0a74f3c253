"""The data sets that Keras fetches by name."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from pennyweight.errors import InputError

from .dataset import Dataset, make_dataset
from .quiet import quiet_stderr

_DIGITS = tuple("0123456789")
_CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

# Class names in the order of their numbers, as Keras' own pages list them.
LABELS: dict[str, tuple[str, ...] | None] = {
    "mnist": _DIGITS,
    "fashion_mnist": _CLOTHES,
    "cifar10": _THINGS,
    "cifar100": None,
    "california_housing": None,
}


def load_keras(name: str) -> Dataset:
    """Load the ``keras.datasets`` module ``name``, from its cache or the network; raise InputError where that fails."""
    with quiet_stderr():
        import keras

    module: Any = getattr(keras.datasets, name)
    try:
        # Keras reports the download on standard output, which is for results.
        with contextlib.redirect_stdout(sys.stderr):
            train, test = module.load_data()
    except Exception as error:
        raise InputError(f"{name}: Keras couldn't fetch it ({error}); check the network, or give a file") from error
    licence = f"see the page of keras.datasets.{name}"
    return make_dataset(name, train, test, labels=LABELS[name], licence=licence, split_note="Keras' own test part")

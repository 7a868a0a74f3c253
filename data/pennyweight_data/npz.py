"""Data sets in one ``.npz`` file, in Keras' own convention: ``x_train y_train x_test y_test``."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pennyweight.errors import InputError

from .dataset import Dataset, make_dataset

TRAIN = ("x_train", "y_train")
TEST = ("x_test", "y_test")


def load_npz(path: Path, seed: int) -> Dataset:
    """Read ``x_train`` and ``y_train``, and ``x_test`` and ``y_test`` where the file has them.

    Integers in y are class numbers, floating point is targets. Raise InputError where it is no such file.
    """
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path}: not an .npz file; write it with np.savez(path, x_train=…, y_train=…, …)")
    try:
        with np.load(path, allow_pickle=False) as archive:
            have = archive.files
            if not set(TRAIN) <= set(have) or len(set(TEST) & set(have)) == 1:
                raise InputError(
                    f"{path}: holds {', '.join(have) or 'nothing'}; "
                    "it needs x_train and y_train, and both or none of x_test and y_test"
                )
            arrays = {name: _array(archive, name, path) for name in (*TRAIN, *TEST) if name in have}
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise InputError(f"{path}: damaged ({error}); write or fetch it again") from error
    train = arrays["x_train"], arrays["y_train"]
    test = (arrays["x_test"], arrays["y_test"]) if "x_test" in arrays else None
    return make_dataset(str(path), train, test, seed=seed)


def _array(archive: Any, name: str, path: Path) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = archive[name]
    except Exception as error:
        if "allow_pickle" in str(error):
            raise InputError(
                f"{path}: {name} holds pickled objects, which could run code; save plain numbers"
            ) from error
        raise InputError(f"{path}: {name} is damaged ({error}); write or fetch it again") from error
    return array

"""Data sets in one ``.npz`` file, in Keras' own convention: ``x_train y_train x_test y_test``.

For a model with several inputs or outputs the arrays are called ``x_train/NAME`` and so on.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pennyweight.errors import InputError

from .dataset import Dataset, Values, make_dataset

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
            members = {part: _members(have, part) for part in (*TRAIN, *TEST)}
            found = {part for part, names in members.items() if names}
            if not set(TRAIN) <= found or len(set(TEST) & found) == 1:
                raise InputError(
                    f"{path}: holds {', '.join(have) or 'nothing'}; "
                    "it needs x_train and y_train, and both or none of x_test and y_test"
                )
            arrays = {part: _values(archive, part, members[part], path) for part in members if part in found}
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise InputError(f"{path}: damaged ({error}); write or fetch it again") from error
    train = arrays["x_train"], arrays["y_train"]
    test = (arrays["x_test"], arrays["y_test"]) if "x_test" in arrays else None
    return make_dataset(str(path), train, test, seed=seed)


def _members(have: list[str], part: str) -> list[str]:
    """Give the names of a part's arrays: its own, or those of several inputs or outputs."""
    return [part] if part in have else [name for name in have if name.startswith(f"{part}/")]


def _values(archive: Any, part: str, names: list[str], path: Path) -> Values:
    if names == [part]:
        return _array(archive, part, path)
    return {name.removeprefix(f"{part}/"): _array(archive, name, path) for name in names}


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

"""Data sets in one ``.npz`` file, in Keras' own convention: ``x_train y_train x_test y_test``.

For a model with several inputs or outputs the arrays are called ``x_train/NAME`` and so on.
"""

from __future__ import annotations

import weakref
import zipfile
from pathlib import Path
from typing import Any

import numpy.typing as npt

from pennyweight.errors import InputError

from .dataset import Dataset, Values, make_dataset
from .npy import PickledError, open_member
from .rows import AGAIN, Rows

Array = npt.NDArray[Any]

TRAIN = ("x_train", "y_train")
TEST = ("x_test", "y_test")


def load_npz(path: Path, seed: int, memory: int | None = None) -> Dataset:
    """Read ``x_train`` and ``y_train``, and ``x_test`` and ``y_test`` where the file has them.

    Integers in y are class numbers, floating point is targets. Arrays of more than ``memory`` bytes stay in the file;
    None reads all. Raise InputError where it is no such file.
    """
    archive = _archive(path)
    have = [name.removesuffix(".npy") for name in archive.namelist()]
    members = {part: _members(have, part) for part in (*TRAIN, *TEST)}
    found = {part for part, names in members.items() if names}
    if not set(TRAIN) <= found or len(set(TEST) & found) == 1:
        raise InputError(
            f"{path}: holds {', '.join(have) or 'nothing'}; "
            "it needs x_train and y_train, and both or none of x_test and y_test"
        )
    arrays = {part: _values(path, archive, part, members[part]) for part in members if part in found}
    train = arrays["x_train"], arrays["y_train"]
    test = (arrays["x_test"], arrays["y_test"]) if "x_test" in arrays else None
    return make_dataset(str(path), train, test, seed=seed, memory=memory)


def _members(have: list[str], part: str) -> list[str]:
    """Give the names of a part's arrays: its own, or those of several inputs or outputs."""
    return [part] if part in have else [name for name in have if name.startswith(f"{part}/")]


def _values(path: Path, archive: zipfile.ZipFile, part: str, names: list[str]) -> Values:
    if names == [part]:
        return _array(path, archive, part)
    return {name.removeprefix(f"{part}/"): _array(path, archive, name) for name in names}


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        with path.open("rb") as file:
            # A zip's table is at its end, so the beginning tells a damaged one from another kind of file.
            whole = file.read(4) != b"PK\x03\x04"
        hint = "not an .npz file; write it with np.savez(path, x_train=…, y_train=…, …)"
        raise InputError(f"{path}: {hint if whole else f'truncated or damaged ({error}); {AGAIN}'}") from error
    # The arrays that stay in the file hold on to it.
    weakref.finalize(archive, archive.close)
    return archive


def _array(path: Path, archive: zipfile.ZipFile, name: str) -> Array | Rows:
    try:
        return open_member(path, archive, name)
    except PickledError as error:
        raise InputError(f"{path}: {name} holds pickled objects, which could run code; save plain numbers") from error
    except Exception as error:
        raise InputError(f"{path}: {name} is damaged ({error}); {AGAIN}") from error

"""The lab's own files: a folder with ``X.npy`` and ``y.npy``, and MATLAB's ``ex3data1.mat``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pennyweight.errors import InputError

from .checks import whole_labels
from .dataset import Dataset, make_dataset
from .npy import open_npy
from .rows import Rows

Array = npt.NDArray[Any]

INPUTS, ANSWERS = "X.npy", "y.npy"
# MATLAB counts from 1, so that file calls the digit 0 class 10.
MATLAB_ZERO = 10


def load_npy_folder(folder: Path, seed: int, memory: int | None = None) -> Dataset:
    """Read ``X.npy`` (n, features) and ``y.npy`` (n,) or (n, 1), class numbers.

    Arrays of more than ``memory`` bytes stay in their file; None reads all. Raise InputError on either.
    """
    return _dataset(str(folder), _npy(folder / INPUTS), np.asarray(_npy(folder / ANSWERS)), seed, memory)


def load_mat(path: Path, seed: int) -> Dataset:
    """Read ``X`` and ``y`` from a MATLAB file up to version 7; labels 1…10 become 1…9 and 0. Raise InputError."""
    import scipy.io

    try:
        content = scipy.io.loadmat(path)
    except NotImplementedError as error:
        raise InputError(f"{path}: a MATLAB 7.3 file, which can't be read; in MATLAB, save it with -v7") from error
    except Exception as error:
        raise InputError(f"{path}: not a MATLAB file, or damaged ({error}); fetch it again") from error
    names = [name for name in content if not name.startswith("__")]
    if not {"X", "y"} <= set(names):
        raise InputError(f"{path}: holds {', '.join(names) or 'nothing'}; it needs X and y")
    y = whole_labels(str(path), "y", np.asarray(content["y"]))
    if y.dtype.kind in "ui" and y.size and y.min() >= 1 and y.max() == MATLAB_ZERO:
        y = y % MATLAB_ZERO
    return _dataset(str(path), np.ascontiguousarray(content["X"]), y, seed)


def _dataset(name: str, x: Array | Rows, y: Array, seed: int, memory: int | None = None) -> Dataset:
    return make_dataset(name, (x, whole_labels(name, ANSWERS, y)), seed=seed, memory=memory)


def _npy(path: Path) -> Array | Rows:
    try:
        return open_npy(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing; the folder must hold both {INPUTS} and {ANSWERS}") from error
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: not readable as .npy ({error}); save plain numbers with np.save") from error

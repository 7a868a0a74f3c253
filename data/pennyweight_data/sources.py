"""One door to every source of data: a name, a file or a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pennyweight.errors import InputError

from .dataset import Dataset, make_dataset
from .digits import ORIGINAL_SIZE, lab_preparation, load_digits, load_lab_digits
from .idx import idx_files, load_idx
from .images import load_images
from .keras_datasets import LABELS, load_keras
from .lab_files import ANSWERS, INPUTS, load_mat, load_npy_folder
from .npz import load_npz

MNIST_LICENCE = "MNIST, Yann LeCun and Corinna Cortes, CC BY-SA 3.0"
DIGIT_LABELS = tuple("0123456789")
NAMES = ("digits", "lab", *LABELS)


def load_data(
    source: str | Path = "digits",
    *,
    seed: int = 0,
    image_shape: tuple[int, ...] | None = None,
    memory: int | None = None,
) -> Dataset:
    """Read a data set from a name, a file or a folder.

    ``source`` is one of

    - ``digits``: the embedded 5,000 training and 10,000 test digits, (n, 20, 20) uint8, upright;
    - ``lab``: the lab's 5,000, (n, 400) float32, unrolled column by column. The lab has no test part; here it is the
      10,000 MNIST test images, prepared as the lab's own;
    - ``mnist``, ``fashion_mnist``, ``cifar10``, ``cifar100``, ``california_housing``: what Keras fetches;
    - an ``.npz`` in Keras' convention, with ``x_train y_train`` and, if it has one, the test part ``x_test y_test``;
    - a folder with the lab's ``X.npy`` and ``y.npy``, or the file ``ex3data1.mat``;
    - a folder of idx files, as MNIST and Fashion-MNIST come in, gzipped or not;
    - a folder with one subfolder of images for each class, or those within ``train`` and ``test``.

    A name goes before a file of that name: ``./digits`` is the file or folder. Where a source has no test part, 20 %
    are split off, stratified and drawn with ``seed``; ``split_note`` says so. ``image_shape`` is for folders of images
    alone: (height, width) or (height, width, channels).

    With ``memory``, inputs and targets of more bytes than that stay in their files and are read piece by piece; see
    ``Dataset``. Not so those of a ``.mat`` or of Keras, and arrays stored column by column, which are read whole.

    Raise InputError on what is missing, damaged or inconsistent.
    """
    if source == "digits":
        return _digits()
    if source == "lab":
        return _lab()
    if isinstance(source, str) and source in LABELS:
        return load_keras(source)
    if not str(source):
        raise InputError(f"data with an empty name; give a file, a folder or one of {', '.join(NAMES)}")
    path = Path(source)
    try:
        if "\0" in str(source):
            raise ValueError("it holds a null character")
        folder = path.is_dir()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{str(source)[:80]!r}: no possible name of a file or folder ({reason})") from error
    return _folder(path, seed, image_shape, memory) if folder else _file(path, seed, memory)


def _folder(path: Path, seed: int, image_shape: tuple[int, ...] | None, memory: int | None) -> Dataset:
    if (path / INPUTS).exists() or (path / ANSWERS).exists():
        return load_npy_folder(path, seed, memory)
    if idx_files(path):
        return load_idx(path, seed, memory)
    return load_images(path, seed, image_shape, memory)


def _file(path: Path, seed: int, memory: int | None) -> Dataset:
    try:
        size = path.stat().st_size
    except OSError as error:
        names = ", ".join(NAMES)
        raise InputError(f"{path}: no such file, folder or data set; the names are {names}") from error
    if size == 0:
        raise InputError(f"{path}: empty; write or fetch it again")
    if path.suffix == ".npz":
        return load_npz(path, seed, memory)
    if path.suffix == ".mat":
        return load_mat(path, seed)
    hint = "give its folder" if path.suffix == ".npy" or "-ubyte" in path.name else "give an .npz, a .mat or a folder"
    raise InputError(f"{path}: not a data set by itself; {hint}")


def _digits() -> Dataset:
    x_train, y_train, x_test, y_test = load_digits()
    train, test = (x_train, y_train), (x_test, y_test)
    return make_dataset("digits", train, test, labels=DIGIT_LABELS, licence=MNIST_LICENCE)


def _lab() -> Dataset:
    lab = load_lab_digits()
    originals = load_digits(size=ORIGINAL_SIZE)
    return make_dataset(
        "lab",
        (lab.X.astype(np.float32), lab.y),
        (lab_preparation(originals.x_test).astype(np.float32), originals.y_test),
        labels=DIGIT_LABELS,
        licence=MNIST_LICENCE,
        split_note="the lab has no test part; these are the 10,000 MNIST test images, prepared as the lab's own",
    )

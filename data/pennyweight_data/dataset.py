"""A data set: arrays with a named training and test part, checked once, where it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from pennyweight.errors import InputError

from .checks import check_inputs, check_labels, check_rows, clean_answers
from .rows import Rows, picked, settled
from .split import TEST_FRACTION, stratified_split

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test part. ``make_dataset`` and ``load_data`` check it; nothing else should build one.

    ``x_train`` and ``x_test`` are (n, *shape) of one numeric dtype each, finite. ``y_train`` and ``y_test`` are (n,)
    int64 class numbers from 0, or floating-point targets (n, …) for regression and autoencoders. ``labels`` names the
    classes in order, where names are known. ``split_note`` says where the test part comes from.

    Where ``memory`` bounded what is read, inputs and targets larger than that are ``Rows``: they have an array's
    ``shape``, ``dtype``, ``len``, ``min``, ``max``, ``astype`` and ``reshape``, and ``x[start:stop]`` reads.
    """

    name: str
    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array
    labels: tuple[str, ...] | None
    licence: str
    split_note: str

    @property
    def classes(self) -> int | None:
        """The number of classes, or None where the answers are targets and no classes."""
        if not np.issubdtype(self.y_train.dtype, np.integer):
            return None
        return len(self.labels) if self.labels else int(self.y_train.max()) + 1


def make_dataset(
    name: str,
    train: tuple[Array | Rows, Array | Rows],
    test: tuple[Array | Rows, Array | Rows] | None = None,
    *,
    labels: Sequence[str] | None = None,
    licence: str = "not stated",
    split_note: str = "the source's own test part",
    seed: int = 0,
    memory: int | None = None,
) -> Dataset:
    """Check arrays and make them a data set.

    ``train`` and ``test`` are (x, y) pairs; x is (n, *shape), y (n,) or (n, 1) integers for classes or any floating
    (n, …) for targets. Without ``test``, 20 % of ``train`` become the test part, stratified by class and drawn with
    ``seed``, and ``split_note`` says so. ``Rows`` of at most ``memory`` bytes, or of any size with None, are read
    into memory. Raise InputError on whatever can't be trained or measured on.
    """
    if test is not None:
        train, test = _settled(train, memory), _settled(test, memory)
    x_train, y_train = _part(name, "train", train)
    has_classes = y_train.dtype == np.int64
    known = (len(labels) if labels else int(y_train.max()) + 1) if has_classes else 0
    if has_classes:
        check_labels(name, "y_train", y_train, known)
    if test is None:
        keep, held = stratified_split(y_train, seed)
        if not len(held):
            raise InputError(f"{name}: {len(keep)} samples are too few to hold some out; add samples or a test part")
        kind = "stratified split" if has_classes else "random split"
        note = f"{kind} with seed {seed}: {TEST_FRACTION:.0%} held out ({len(keep):,} / {len(held):,})"
        x_train, x_test = (picked(x_train, rows, memory) for rows in (keep, held))
        y_train, y_test = (picked(y_train, rows, memory) for rows in (keep, held))
        parts = x_train, y_train, x_test, y_test
        return Dataset(name, *parts, tuple(labels) if labels else None, licence, note)
    x_test, y_test = _part(name, "test", test)
    if x_train.shape[1:] != x_test.shape[1:]:
        raise InputError(f"{name}: x_train holds {x_train.shape[1:]}, x_test {x_test.shape[1:]}; they must be alike")
    if y_train.dtype.kind != y_test.dtype.kind or y_train.shape[1:] != y_test.shape[1:]:
        raise InputError(
            f"{name}: y_train is {y_train.dtype} {y_train.shape}, y_test {y_test.dtype} {y_test.shape}; "
            "make both class numbers or both targets of one shape"
        )
    if has_classes:
        check_labels(name, "y_test", y_test, known)
    parts = x_train, y_train, x_test, y_test
    return Dataset(name, *parts, tuple(labels) if labels else None, licence, split_note)


def _settled(pair: tuple[Array | Rows, Array | Rows], memory: int | None) -> tuple[Array, Array]:
    x, y = pair
    return settled(x, memory), settled(y, memory)


def _part(name: str, part: str, pair: tuple[Array | Rows, Array | Rows]) -> tuple[Array, Array]:
    x, given = pair
    check_inputs(name, f"x_{part}", x)
    y = clean_answers(name, f"y_{part}", given)
    check_rows(name, part, x, y)
    return cast(Array, x), cast(Array, y)

"""A data set: arrays with a named training and test part, checked once, where it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pennyweight.errors import InputError

from .checks import check_inputs, check_labels, check_rows, clean_answers
from .rows import picked, settled
from .split import TEST_FRACTION, stratified_split

Array = npt.NDArray[Any]
# One array, or of a model with several inputs or outputs a dictionary of arrays by name. A union would ask each of the
# many readers that know which it is to say so again.
Values = Any


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test part. ``make_dataset`` and ``load_data`` check it; nothing else should build one.

    ``x_train`` and ``x_test`` are (n, *shape) of one numeric dtype each, finite. ``y_train`` and ``y_test`` are (n,)
    int64 class numbers from 0, floating-point targets (n, …) for regression and autoencoders, or integers (n, …) for
    classes of each pixel and for several labels at once. ``labels`` names the
    classes in order, where names are known. ``split_note`` says where the test part comes from.

    For a model with several inputs x is a dictionary of such arrays by the inputs' names, and so is y for several
    outputs; all arrays of a part have as many rows.

    Where ``memory`` bounded what is read, inputs and targets larger than that are ``Rows``: they have an array's
    ``shape``, ``dtype``, ``len``, ``min``, ``max``, ``astype`` and ``reshape``, and ``x[start:stop]`` reads.
    """

    name: str
    x_train: Values
    y_train: Values
    x_test: Values
    y_test: Values
    labels: tuple[str, ...] | None
    licence: str
    split_note: str

    @property
    def classes(self) -> int | None:
        """The number of classes, or None where the answers are targets and no classes."""
        if not _are_classes(self.y_train):
            return None
        return len(self.labels) if self.labels else int(self.y_train.max()) + 1

    @property
    def train_rows(self) -> int:
        """The number of training samples."""
        return _rows(self.x_train)

    @property
    def test_rows(self) -> int:
        """The number of test samples."""
        return _rows(self.x_test)


def make_dataset(
    name: str,
    train: tuple[Values, Values],
    test: tuple[Values, Values] | None = None,
    *,
    labels: Sequence[str] | None = None,
    licence: str = "not stated",
    split_note: str = "the source's own test part",
    seed: int = 0,
    memory: int | None = None,
) -> Dataset:
    """Check arrays and make them a data set.

    ``train`` and ``test`` are (x, y) pairs; x is (n, *shape), y (n,) or (n, 1) integers for classes or any floating
    (n, …) for targets; either may be a mapping from name to such arrays. Without ``test``, 20 % of ``train`` become the
    test part, stratified by class and drawn with ``seed``, and ``split_note`` says so. ``Rows`` of at most ``memory``
    bytes, or of any size with None, are read into memory. Raise InputError on whatever can't be trained or measured on.
    """
    if test is not None:
        train, test = (
            tuple(_each(values, lambda array: settled(array, memory)) for values in pair) for pair in (train, test)
        )
    x_train, y_train = _part(name, "train", train)
    has_classes = _are_classes(y_train)
    known = (len(labels) if labels else int(y_train.max()) + 1) if has_classes else 0
    if has_classes:
        check_labels(name, "y_train", y_train, known)
    if test is None:
        keep, held = stratified_split(strata(y_train), seed)
        if not len(held):
            raise InputError(f"{name}: {len(keep)} samples are too few to hold some out; add samples or a test part")
        kind = "stratified split" if has_classes else "random split"
        note = f"{kind} with seed {seed}: {TEST_FRACTION:.0%} held out ({len(keep):,} / {len(held):,})"
        kept, held_out = ((take_rows(x_train, rows, memory), take_rows(y_train, rows, memory)) for rows in (keep, held))
        return Dataset(name, *kept, *held_out, tuple(labels) if labels else None, licence, note)
    x_test, y_test = _part(name, "test", test)
    for what, one, other in _pairs(name, "x", x_train, x_test):
        if one.shape[1:] != other.shape[1:]:
            raise InputError(
                f"{name}: {what[0]} holds {one.shape[1:]}, {what[1]} {other.shape[1:]}; they must be alike"
            )
    for what, one, other in _pairs(name, "y", y_train, y_test):
        if one.dtype.kind != other.dtype.kind or one.shape[1:] != other.shape[1:]:
            raise InputError(
                f"{name}: {what[0]} is {one.dtype} {one.shape}, {what[1]} {other.dtype} {other.shape}; "
                "make both class numbers or both targets of one shape"
            )
    if has_classes:
        check_labels(name, "y_test", y_test, known)
    parts = x_train, y_train, x_test, y_test
    return Dataset(name, *parts, tuple(labels) if labels else None, licence, split_note)


def take_rows(values: Values, rows: Any, memory: int | None = None) -> Values:
    """Give some rows of an array, or of each of a dictionary; more than ``memory`` bytes of ``Rows`` stay unread."""
    return _each(values, lambda array: picked(array, rows, memory))


def strata(answers: Values) -> Array:
    """Give what a stratified draw goes by: the class numbers, or of several outputs the first that has some."""
    if not isinstance(answers, Mapping):
        array: Array = answers
        return array
    arrays = list(answers.values())
    return next((array for array in arrays if array.ndim == 1 and array.dtype == np.int64), arrays[0])


def _each(values: Values, change: Callable[[Any], Array]) -> Values:
    return {key: change(array) for key, array in values.items()} if isinstance(values, Mapping) else change(values)


def _are_classes(answers: Values) -> bool:
    """Say whether answers are class numbers, one a sample."""
    return not isinstance(answers, Mapping) and answers.ndim == 1 and answers.dtype.kind in "iu"


def _rows(values: Values) -> int:
    return len(next(iter(values.values())) if isinstance(values, Mapping) else values)


def _named(what: str, values: Values) -> dict[str, Array]:
    """Give the arrays by what errors call them."""
    if not isinstance(values, Mapping):
        return {what: values}
    return {f"{what}/{key}": array for key, array in values.items()}


def _pairs(name: str, axis: str, train: Values, test: Values) -> list[tuple[tuple[str, str], Array, Array]]:
    ones, others = _named(f"{axis}_train", train), _named(f"{axis}_test", test)
    if isinstance(train, Mapping) != isinstance(test, Mapping) or (
        isinstance(train, Mapping) and train.keys() != test.keys()
    ):
        raise InputError(f"{name}: {', '.join(ones)} and {', '.join(others)} don't match; name them alike")
    # A part's arrays may come in any order.
    found = [key.replace(f"{axis}_train", f"{axis}_test", 1) for key in ones]
    return [((one, other), ones[one], others[other]) for one, other in zip(ones, found)]


def _part(name: str, part: str, pair: tuple[Values, Values]) -> tuple[Values, Values]:
    inputs, answers = _named(f"x_{part}", pair[0]), _named(f"y_{part}", pair[1])
    if not inputs or not answers:
        raise InputError(f"{name}: the {part} part has no {'answers' if inputs else 'inputs'}; give at least one array")
    for what, array in inputs.items():
        check_inputs(name, what, array)
    cleaned = {what: clean_answers(name, what, array) for what, array in answers.items()}
    check_rows(name, inputs, cleaned)
    return _like(pair[0], inputs), _like(pair[1], cleaned)


def _like(values: Values, arrays: Mapping[str, Any]) -> Values:
    return dict(zip(values, arrays.values())) if isinstance(values, Mapping) else next(iter(arrays.values()))

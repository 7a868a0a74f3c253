from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pennyweight.errors import InputError
from pennyweight_data import load_data, make_dataset

Array = npt.NDArray[Any]

X = np.arange(60, dtype=np.float32).reshape(20, 3)
Y = np.arange(20) % 4


def with_value(array: Array, index: tuple[int, ...], value: float) -> Array:
    changed = array.copy()
    changed[index] = value
    return changed


def test_labels_become_one_column_of_int64() -> None:
    for y in (Y.astype(np.uint8), Y.reshape(-1, 1), Y > 1):
        data = make_dataset("some", (X, y), (X, y))
        assert data.y_train.dtype == np.int64
        assert data.y_train.shape == (20,)
        assert np.array_equal(data.y_test, np.asarray(y).ravel())
    assert make_dataset("some", (X, Y)).classes == 4


def test_names_decide_the_number_of_classes() -> None:
    data = make_dataset("some", (X, Y), labels=["a", "b", "c", "d", "never seen"])
    assert data.classes == 5
    assert data.labels == ("a", "b", "c", "d", "never seen")


def test_targets_stay_as_they_are() -> None:
    data = make_dataset("some", (X, X), (X, X))
    assert data.classes is None
    assert np.array_equal(data.y_train, X)
    assert data.split_note == "the source's own test part"


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (X, Y[:19], "x_train has 20 rows, y_train 19"),
        (X[:0], Y[:0], "x_train is empty"),
        (X[:, 0], Y, "x_train has shape"),
        (X.astype(object), Y, "x_train is object"),
        (X.astype(str), Y, "x_train is <U"),
        (X * 1j, Y, "x_train is complex"),
        (with_value(X, (7, 2), np.nan), Y, r"x_train\[7, 2\] is nan"),
        (with_value(X, (19, 0), -np.inf), Y, r"x_train\[19, 0\] is -inf"),
        (X, with_value(Y.astype(float), (4,), np.inf), r"y_train\[4\] is inf"),
        (X, with_value(Y, (3,), -1), r"y_train\[3\] is -1"),
        (X, with_value(Y, (3,), 10**12), r"y_train\[3\] is 1000000000000; number the classes from 0"),
        (X, with_value(Y.astype(np.uint64), (3,), 2**63), r"y_train\[3\] is 9223372036854775808"),
        (X, Y.astype(str), "y_train is <U"),
        (X, np.eye(4, dtype=int)[Y], r"np\.argmax"),
    ],
)
def test_arrays_that_can_not_be_trained_on_are_refused(x: Array, y: Array, says: str) -> None:
    with pytest.raises(InputError, match=f"^mine: .*{says}"):
        make_dataset("mine", (x, y))


def test_a_value_far_down_is_found_where_it_is() -> None:
    x = with_value(np.zeros((10_000, 2)), (9_001, 1), np.nan)
    with pytest.raises(InputError, match=r"x_test\[9001, 1\] is nan"):
        make_dataset("mine", (X[:, :2], Y), (x, np.zeros(10_000, int)))


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (X[:, :2], Y, r"x_train holds \(3,\), x_test \(2,\)"),
        (X, Y.astype(float), "y_test float64"),
        (X, with_value(Y, (5,), 4), r"y_test\[5\] is 4; the classes are 0…3"),
        (X[:0], Y[:0], "x_test is empty"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(x: Array, y: Array, says: str) -> None:
    with pytest.raises(InputError, match=says):
        make_dataset("mine", (X, Y), (x, y))


def test_a_label_beyond_the_names_is_refused() -> None:
    with pytest.raises(InputError, match=r"y_train\[3\] is 3; the classes are 0…2"):
        make_dataset("mine", (X, Y), labels=["a", "b", "c"])


def test_the_embedded_names() -> None:
    digits, lab = load_data(), load_data("lab")
    assert digits.x_train.shape == (5000, 20, 20)
    assert lab.x_train.shape == (5000, 400)
    assert lab.x_test.shape == (10000, 400)
    assert lab.x_train.dtype == lab.x_test.dtype == np.float32
    assert digits.labels == lab.labels == tuple("0123456789")
    assert "CC BY-SA 3.0" in digits.licence
    assert "no test part" in lab.split_note
    assert np.array_equal(lab.y_test, digits.y_test)
    # The same pixels, one unrolled by columns in floats, the other upright and rounded to half a pixel step.
    upright = np.clip(lab.x_test[:100].reshape(-1, 20, 20).transpose(0, 2, 1) * 255, 0, 255)
    assert np.abs(upright - digits.x_test[:100]).max() <= 0.5 + 1e-4

"""Data sets for models with several inputs or outputs: dictionaries of arrays by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pennyweight.errors import InputError
from pennyweight_data import load_data, make_dataset


def arrays(rows: int, **changes: Any) -> dict[str, Any]:
    random = np.random.default_rng(rows)
    parts = {
        "x/picture": random.integers(0, 256, (rows, 4, 4)).astype(np.uint8),
        "x/facts": random.normal(size=(rows, 3)),
        "y/size": random.normal(size=(rows, 2)),
        "y/kind": np.arange(rows) % 2,
        **changes,
    }
    return {name: array for name, array in parts.items() if array is not None}


def saved(folder: Path, train: dict[str, Any], test: dict[str, Any] | None = None) -> Path:
    named = {name.replace("/", "_train/"): array for name, array in train.items()}
    named |= {name.replace("/", "_test/"): array for name, array in (test or {}).items()}
    np.savez(folder / "d.npz", **named)
    return folder / "d.npz"


def test_arrays_named_behind_a_slash_make_dictionaries(tmp_path: Path) -> None:
    train = arrays(20)
    data = load_data(saved(tmp_path, train, dict(reversed(arrays(8).items()))))
    assert (data.train_rows, data.test_rows, data.classes) == (20, 8, None)
    assert list(data.x_train) == ["picture", "facts"]
    np.testing.assert_array_equal(data.x_train["picture"], train["x/picture"])
    assert data.y_test["kind"].dtype == np.int64


def test_a_test_part_is_split_off_by_the_classes_of_an_output(tmp_path: Path) -> None:
    data = load_data(saved(tmp_path, arrays(20)))
    assert (data.train_rows, data.test_rows) == (16, 4)
    assert np.bincount(data.y_test["kind"]).tolist() == [2, 2]
    assert {len(array) for array in (*data.x_train.values(), *data.y_train.values())} == {16}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"x/facts": np.zeros((5, 3))}, "x_train/picture has 20 rows, x_train/facts 5"),
        ({"y/kind": np.zeros(19, int)}, "x_train/picture has 20 rows, y_train/kind 19"),
        ({"x/facts": np.full((20, 3), np.nan)}, r"x_train/facts\[0, 0\] is nan"),
        ({"y/kind": np.array(["a"] * 20)}, "y_train/kind is <U1"),
        ({"x/facts": np.zeros((20, 4))}, r"x_train/facts holds \(4,\), x_test/facts \(3,\)"),
        ({"x/facts": None}, "x_train/picture and x_test/picture, x_test/facts don't match"),
        ({"y/kind": np.zeros((20, 1))}, r"y_train/kind is float64 \(20, 1\), y_test/kind int64"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        load_data(saved(tmp_path, arrays(20, **changes), arrays(8)))


def test_a_part_without_arrays_is_refused() -> None:
    with pytest.raises(InputError, match="the train part has no inputs"):
        make_dataset("empty", ({}, np.zeros(3)))

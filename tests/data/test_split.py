from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pennyweight.errors import InputError, UsageError
from pennyweight_data import make_dataset, stratified_sample
from pennyweight_data.split import stratified_split


@given(st.lists(st.integers(0, 6), min_size=1, max_size=80), st.integers(0, 90), st.integers(0, 5))
def test_a_sample_has_n_different_rows_and_each_class_its_share(labels: list[int], n: int, seed: int) -> None:
    y = np.array(labels)
    rows = stratified_sample(y, n, seed)
    assert len(rows) == min(n, len(y))
    assert np.array_equal(rows, np.unique(rows))
    for label in np.unique(y):
        share = min(n, len(y)) * (y == label).sum() / len(y)
        # Largest remainder never gives away a whole row.
        assert abs((y[rows] == label).sum() - share) < 1


def test_a_sample_follows_its_seed() -> None:
    y = np.repeat(np.arange(10), 100)
    assert np.array_equal(stratified_sample(y, 50, 1), stratified_sample(y, 50, 1))
    assert not np.array_equal(stratified_sample(y, 50, 1), stratified_sample(y, 50, 2))


def test_this_sample_never_changes() -> None:
    # Bundles made by different versions must draw the same rows.
    y = np.arange(40) % 4
    assert stratified_sample(y, 8, seed=0).tolist() == [2, 3, 11, 13, 18, 20, 21, 32]


def test_a_sample_of_targets_is_drawn_over_all_rows() -> None:
    assert len(stratified_sample(np.linspace(0, 1, 30), 7)) == 7
    assert len(stratified_sample(np.zeros((30, 2)), 7)) == 7


def test_a_sample_of_less_than_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="-1 rows"):
        stratified_sample(np.arange(3), -1)
    with pytest.raises(UsageError, match="seed -1"):
        stratified_sample(np.arange(3), 1, seed=-1)


@given(st.lists(st.integers(0, 6), min_size=10, max_size=80))
def test_a_split_shares_no_row_and_keeps_every_class_for_training(labels: list[int]) -> None:
    y = np.array(labels)
    if max(np.bincount(y)) < 3:
        return
    keep, held = stratified_split(y)
    assert sorted([*keep, *held]) == list(range(len(y)))
    assert set(y[keep]) == set(y)
    for label in np.unique(y):
        # A fifth, rounded.
        assert abs((y[held] == label).sum() - 0.2 * (y == label).sum()) <= 0.5


def test_too_few_rows_to_split_are_refused() -> None:
    with pytest.raises(InputError, match="mine: 5 samples are too few"):
        make_dataset("mine", (np.zeros((5, 2)), np.arange(5)))


def test_a_split_is_said_and_repeatable() -> None:
    x, y = np.arange(100, dtype=np.float32).reshape(50, 2), np.arange(50) % 5
    one, two = (make_dataset("some", (x, y), seed=3) for _ in range(2))
    assert one.split_note == "stratified split with seed 3: 20% held out (40 / 10)"
    assert np.array_equal(one.x_test, two.x_test)
    assert not np.array_equal(one.x_test, make_dataset("some", (x, y), seed=4).x_test)
    assert np.bincount(one.y_test).tolist() == [2] * 5
    targets = make_dataset("some", (x, x))
    assert targets.split_note.startswith("random split with seed 0")
    assert targets.classes is None

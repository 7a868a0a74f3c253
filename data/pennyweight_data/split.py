"""Deterministic draws: a stratified sample, and a stratified split into training and test part."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pennyweight.errors import UsageError

TEST_FRACTION = 0.2

Indices = npt.NDArray[np.int64]


def stratified_sample(labels: npt.NDArray[Any], n: int, seed: int = 0) -> Indices:
    """Draw ``n`` rows so that each class has its share, and give their indices, ascending (n,) int64.

    ``labels`` is (rows,) integers; anything else (targets of a regression) counts as one class. Shares are rounded by
    largest remainder, ties to the lower class, so a class much rarer than 1 in ``n`` may be left out. The same
    arguments always give the same indices. With ``n`` at least the number of rows, all of them. Raise UsageError where
    ``n`` or ``seed`` is negative.
    """
    if n < 0:
        raise UsageError(f"a sample of {n} rows: ask for 0 or more")
    rows = len(labels)
    if n >= rows:
        return np.arange(rows)
    groups = _groups(labels)
    counts = np.bincount(groups)
    # In whole numbers, so that no rounding error decides a tie.
    shares, remainders = np.divmod(counts * n, rows)
    extra = np.argsort(-remainders, kind="stable")[: n - shares.sum()]
    shares[extra] += 1
    return np.flatnonzero(_places(groups, counts, seed) < shares[groups])


def stratified_split(labels: npt.NDArray[Any], seed: int = 0) -> tuple[Indices, Indices]:
    """Split rows into training and test indices, both ascending int64: a fifth of each class, rounded, is for test.

    ``labels`` as in ``stratified_sample``. A class with one row keeps it for training, so with few rows in every class
    the test part can be empty.
    """
    groups = _groups(labels)
    counts = np.bincount(groups)
    shares = np.minimum(np.floor(counts * TEST_FRACTION + 0.5).astype(np.int64), np.maximum(counts - 1, 0))
    held = _places(groups, counts, seed) < shares[groups]
    return np.flatnonzero(~held), np.flatnonzero(held)


def _groups(labels: npt.NDArray[Any]) -> Indices:
    """Number the classes that occur, from 0, and give each row its number."""
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        return np.zeros(len(labels), np.int64)
    groups: Indices = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    return groups


def _places(groups: Indices, counts: Indices, seed: int) -> Indices:
    """Give each row its place, from 0, in a shuffled order of its group."""
    if seed < 0:
        raise UsageError(f"seed {seed}: give a whole number from 0")
    keys = np.random.default_rng(seed).random(len(groups))
    order = np.lexsort((keys, groups))
    starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    places = np.empty(len(groups), np.int64)
    places[order] = np.arange(len(groups)) - starts[groups[order]]
    return places

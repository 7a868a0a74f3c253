"""Which samples calibrate, which evaluate, and which are golden; and that the first took no part in the others."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np

from pennyweight.errors import InputError, UsageError
from pennyweight.samples import Samples
from pennyweight_data import Dataset, strata, stratified_sample, take_rows

from .arrays import Array, Arrays
from .interface import Interface

GOLDEN_SAMPLES = 24
EVALUATION_BYTES = 50 * 10**6


class Calibration(NamedTuple):
    """The samples that quantisation ranges are drawn from, by the interface's inputs; their record, their classes."""

    inputs: Arrays
    record: dict[str, Any]
    labels: Array | None = None


def draw_calibration(data: Dataset, evaluation: Arrays, samples: int, seed: int) -> Calibration:
    """Draw a stratified sample of the training part, without any sample that also is in the evaluation inputs.

    ``data`` and ``evaluation`` are by the interface's names, as ``arrays.fit`` gives them.

    Raises:
        UsageError: fewer than one sample was asked for.
        InputError: every training sample is an evaluation sample too.
    """
    if samples < 1:
        raise UsageError(f"calibration with {samples} samples; ask for at least 1")
    held_out = set(digests(evaluation))
    free = np.array([digest not in held_out for digest in digests(data.x_train)])
    if not free.any():
        raise InputError("every training sample is a test sample too; give a test part that took no part in training")
    answers = strata(data.y_train)
    rows = np.flatnonzero(free)
    rows = rows[stratified_sample(answers[rows], samples, seed)]
    record = {
        "samples": len(rows),
        "seed": seed,
        "part": "x_train",
        "method": "stratified by class, minimum and maximum",
        "indices_sha256": hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest(),
        "left_out_as_in_evaluation": int((~free).sum()),
        "classes": len(np.unique(answers[rows])) if answers.dtype == np.int64 else None,
    }
    classes = answers[rows] if answers.ndim == 1 and answers.dtype == np.int64 else None
    return Calibration(take_rows(data.x_train, rows), record, classes)


def draw_others(
    data: Dataset, evaluation: Arrays, calibration: Arrays, samples: int, seed: int
) -> tuple[Arrays, Array | None]:
    """Draw further training samples that are in neither of the two, by content; none where there are no more.

    Returns:
        The inputs by the interface's names, in random order, and their class numbers where the answers are some.
    """
    free = np.flatnonzero(~np.isin(digests(data.x_train), [*digests(evaluation), *digests(calibration)]))
    answers = strata(data.y_train)
    rows = free[stratified_sample(answers[free], samples, seed)]
    rows = rows[np.random.default_rng(seed).permutation(len(rows))]
    classes = answers[rows] if answers.ndim == 1 and answers.dtype == np.int64 else None
    # Files that are read on demand are read forwards.
    order = np.argsort(rows)
    back = np.argsort(order)
    return {name: array[back] for name, array in take_rows(data.x_train, rows[order]).items()}, classes


def draw_evaluation(data: Dataset, interface: Interface, wanted: int | None, seed: int) -> tuple[Arrays, Arrays]:
    """Give inputs and answers of the test part: ``wanted`` of them stratified, or as many as 50 MB hold.

    ``data`` is by the interface's names, as ``arrays.fit`` gives it, and so are the samples.

    Raises:
        UsageError: fewer than one sample was asked for.
    """
    if wanted is not None and wanted < 1:
        raise UsageError(f"evaluation with {wanted} samples; ask for at least 1, or none")
    one = sum(array[:1].nbytes for array in (*data.x_test.values(), *data.y_test.values()))
    one += sum(4 * int(np.prod(output.spec.shape)) for output in interface.outputs)
    limit = max(1, EVALUATION_BYTES // one) if wanted is None else wanted
    rows = stratified_sample(strata(data.y_test), limit, seed)
    answers = take_rows(data.y_test, rows)
    return take_rows(data.x_test, rows), {
        name: array if array.dtype.kind == "i" else array.astype(np.float32) for name, array in answers.items()
    }


def draw_golden(evaluation: Samples, seed: int) -> Samples:
    """Draw the few samples of the self-test, stratified by class."""
    labels = np.zeros(evaluation.rows) if evaluation.labels is None else evaluation.labels
    rows = stratified_sample(labels, GOLDEN_SAMPLES, seed)
    return Samples(
        take_rows(evaluation.inputs, rows),
        take_rows(evaluation.outputs, rows),
        None if evaluation.labels is None else evaluation.labels[rows],
    )


def seen_by_layers(calibration: Arrays, interface: Interface) -> Arrays:
    """Give calibration inputs as ``Graph.inner`` takes them, pixels as float32 that span their whole range.

    Where no sample holds the darkest or brightest pixel, one corner of a copy is set to it: only so is the input's
    step exactly one pixel, and one corner hardly moves the ranges behind it.
    """
    return {
        entry.spec.name: calibration[entry.spec.name]
        if entry.takes == entry.spec.dtype
        else _seen(calibration[entry.spec.name], *entry.held)
        for entry in interface.inputs
    }


def _seen(samples: Array, scale: float, offset: float) -> Array:
    seen = samples.copy()
    for index, end in ((0, 0), (-1, 255)):
        if not (seen == end).any():
            seen[index].flat[index] = end
    return seen.astype(np.float32) * np.float32(scale) + np.float32(offset)


def digests(samples: Arrays) -> list[bytes]:
    """Give a digest of each sample's bytes, of all inputs together."""
    columns = [np.ascontiguousarray(array) for array in samples.values()]
    return [hashlib.blake2b(b"".join(row.tobytes() for row in rows), digest_size=16).digest() for rows in zip(*columns)]

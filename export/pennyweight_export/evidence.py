"""Which samples calibrate, which evaluate, and which are golden; and that the first took no part in the others."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np

from pennyweight.errors import InputError, UsageError
from pennyweight.samples import Samples
from pennyweight_data import Dataset, stratified_sample

from .arrays import Array
from .interface import Interface

GOLDEN_SAMPLES = 24
EVALUATION_BYTES = 50 * 10**6


class Calibration(NamedTuple):
    """The samples that quantisation ranges are drawn from, as the interface's input, and their record."""

    inputs: Array
    record: dict[str, Any]


def draw_calibration(data: Dataset, evaluation: Array, samples: int, seed: int) -> Calibration:
    """Draw a stratified sample of the training part, without any sample that also is in the evaluation inputs.

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
    rows = np.flatnonzero(free)
    rows = rows[stratified_sample(data.y_train[rows], samples, seed)]
    record = {
        "samples": len(rows),
        "seed": seed,
        "part": "x_train",
        "method": "stratified by class, minimum and maximum",
        "indices_sha256": hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest(),
        "left_out_as_in_evaluation": int((~free).sum()),
        "classes": len(np.unique(data.y_train[rows])) if data.y_train.dtype == np.int64 else None,
    }
    return Calibration(data.x_train[rows], record)


def draw_evaluation(data: Dataset, interface: Interface, wanted: int | None, seed: int) -> tuple[Array, Array]:
    """Give inputs and answers of the test part: ``wanted`` of them stratified, or as many as 50 MB hold.

    Raises:
        UsageError: fewer than one sample was asked for.
    """
    if wanted is not None and wanted < 1:
        raise UsageError(f"evaluation with {wanted} samples; ask for at least 1, or none")
    one = data.x_test[:1].nbytes + 4 * int(np.prod(interface.output.shape)) + 8
    limit = max(1, EVALUATION_BYTES // one) if wanted is None else wanted
    rows = stratified_sample(data.y_test, limit, seed)
    answers = data.y_test[rows]
    return data.x_test[rows], answers if answers.dtype == np.int64 else answers.astype(np.float32)


def draw_golden(evaluation: Samples, seed: int) -> Samples:
    """Draw the few samples of the self-test, stratified by class."""
    labels = np.zeros(evaluation.rows) if evaluation.labels is None else evaluation.labels
    rows = stratified_sample(labels, GOLDEN_SAMPLES, seed)
    return Samples(
        {name: array[rows] for name, array in evaluation.inputs.items()},
        {name: array[rows] for name, array in evaluation.outputs.items()},
        None if evaluation.labels is None else evaluation.labels[rows],
    )


def seen_by_layers(calibration: Array, interface: Interface) -> Array:
    """Give calibration inputs as the layers after rescaling see them, float32, spanning a pixel's whole range.

    Where no sample holds the darkest or brightest pixel, one corner of a copy is set to it: only so is the input's
    step exactly one pixel, and one corner hardly moves the ranges behind it.
    """
    if calibration.dtype != np.uint8:
        return calibration
    seen = calibration.copy()
    for index, end in ((0, 0), (-1, 255)):
        if not (seen == end).any():
            seen[index].flat[index] = end
    return seen.astype(np.float32) * np.float32(interface.inner_scale) + np.float32(interface.inner_offset)


def digests(samples: Array) -> list[bytes]:
    """Give a digest of each sample's bytes."""
    rows = np.ascontiguousarray(samples)
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]

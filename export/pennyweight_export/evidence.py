"""Which samples calibrate, which evaluate, and which are golden; and that the first took no part in the others."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from pennyweight.errors import InputError, UsageError
from pennyweight.samples import Samples
from pennyweight_data import Dataset, Rows, piece_rows, strata, stratified_sample, take_rows

from .arrays import MEMORY, Array, Arrays
from .interface import Interface

GOLDEN_SAMPLES = 24
# With ten the lab's digits lose little (its agreement is 99.4 %, of 99.7 % with thousands); below, ranges are a guess.
LEAST_CALIBRATION = 10
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
        UsageError: fewer than ``LEAST_CALIBRATION`` samples were asked for.
        InputError: there aren't as many that aren't evaluation samples too, or all drawn are the same.
    """
    if samples < LEAST_CALIBRATION:
        raise UsageError(f"calibration with {samples} samples; ask for at least {LEAST_CALIBRATION}")
    free = ~np.isin(digests(data.x_train), digests(evaluation))
    if not free.any():
        raise InputError("every training sample is a test sample too; give a test part that took no part in training")
    answers = strata(data.y_train)
    rows = np.flatnonzero(free)
    rows = rows[stratified_sample(_classes_of(answers, rows), samples, seed)]
    inputs = take_rows(data.x_train, rows)
    _require_differing(inputs)
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
    return Calibration(inputs, record, classes)


def draw_others(
    data: Dataset, evaluation: Arrays, calibration: Arrays, samples: int, seed: int
) -> tuple[Arrays, Array | None]:
    """Draw further training samples that are in neither of the two, by content; none where there are no more.

    Returns:
        The inputs by the interface's names, in random order, and their class numbers where the answers are some.
    """
    answers = strata(data.y_train)
    classes = answers if answers.ndim == 1 and answers.dtype == np.int64 else None
    # Only what is drawn is hashed: the training part may be larger than the memory.
    drawn = samples + len(next(iter(calibration.values())))
    rows = stratified_sample(np.zeros(len(answers), np.int64) if classes is None else classes, drawn, seed + 1)
    inputs = take_rows(data.x_train, rows)
    taken = np.concatenate([digests(evaluation), digests(calibration)])
    kept = np.flatnonzero(~np.isin(digests(inputs), taken))
    kept = np.random.default_rng(seed).permutation(kept)[:samples]
    return take_rows(inputs, kept), None if classes is None else classes[rows[kept]]


def _classes_of(answers: Array, rows: Array) -> Array:
    """Give what a draw from these rows is stratified by; targets are one class, and aren't read for that."""
    return answers[rows] if answers.dtype == np.int64 else np.zeros(len(rows))


def _require_differing(inputs: Arrays) -> None:
    """Raise InputError where there are too few calibration samples, or all are the same."""
    rows = len(next(iter(inputs.values())))
    if rows < LEAST_CALIBRATION:
        raise InputError(
            f"{rows} calibration samples, and quantisation ranges take at least {LEAST_CALIBRATION}; "
            "give more training samples that aren't in the test part too"
        )
    if all((array == array[:1]).all() for array in inputs.values()):
        raise InputError(
            f"the {rows:,} calibration samples drawn from x_train are all the same, so no ranges can be drawn from "
            "them; give the data that the model was trained on"
        )


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
    answers = take_rows(data.y_test, rows, MEMORY)
    return take_rows(data.x_test, rows, MEMORY), {
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
    step exactly one pixel, and one corner hardly moves the ranges behind it. Large ones are ``Rows``.
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
    scaled = _Scaled(seen, scale, offset)
    return np.asarray(scaled) if scaled.nbytes <= MEMORY else cast(Array, scaled)


class _Scaled(Rows):
    """Pixels as float32 of another scale, made when they are asked for: they take four times the memory."""

    def __init__(self, pixels: Array, scale: float, offset: float) -> None:
        super().__init__(pixels.shape, np.float32)
        self._pixels, self._scale, self._offset = pixels, np.float32(scale), np.float32(offset)

    def _read(self, start: int, stop: int) -> Array:
        return self._pixels[start:stop].astype(np.float32) * self._scale + self._offset


def digests(samples: Arrays) -> npt.NDArray[np.uint64]:
    """Give a digest of each sample's bytes, of all inputs together, reading them piece by piece.

    Of 64 bits: two samples of ten million that share one by chance happen once in 300,000 exports, and leave a sample
    too many out of the calibration.
    """
    rows = len(next(iter(samples.values())))
    step = min(piece_rows(array) for array in samples.values())
    found = []
    for start in range(0, rows, step):
        columns = [np.ascontiguousarray(array[start : start + step]) for array in samples.values()]
        joined = (b"".join(row.tobytes() for row in parts) for parts in zip(*columns))
        found.append(b"".join(hashlib.blake2b(sample, digest_size=8).digest() for sample in joined))
    return np.frombuffer(b"".join(found), np.uint64)

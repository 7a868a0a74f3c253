"""How far a quantised file is from its float one on held-out samples, and what would be good enough."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pennyweight.tallies import chosen_classes

from .arrays import Array
from .quantizer import given
from .quiet import quiet

ROWS = 256
# How much of the other sample a blend holds at most.
MOST_OF_OTHER = 0.5


class Gate(NamedTuple):
    """What an artifact may lose, as fractions; the same names as in the manifest's gate."""

    max_drop: float
    min_agreement: float | None = None
    max_relative_error: float = 0.05

    @property
    def disagreement(self) -> float:
        """The share of answers that may differ on held-out samples.

        Of the answers that rounding changes, those near a border, about half were right; so a drop is at most half of
        them, and seldom that.
        """
        allowed = 2 * self.max_drop
        return allowed if self.min_agreement is None else min(allowed, 1 - self.min_agreement)


class Quality(NamedTuple):
    """A file's distance from the float model on held-out samples.

    ``error`` is the RMS difference of its outputs over the standard deviation of the float model's, the worst output's
    where there are several. ``agreement`` is None for what is no classification, ``drop`` of the accuracy on those
    that have labels without labels too.
    """

    error: float
    agreement: float | None
    drop: float | None

    def holds(self, gate: Gate) -> bool:
        """Say whether it is good enough on held-out samples."""
        if self.agreement is None:
            return self.error <= gate.max_relative_error
        # Half of the drop: on training samples a model loses less than on new ones.
        return 1 - self.agreement <= gate.disagreement and (self.drop or 0.0) <= gate.max_drop / 2


def with_blends(inputs: Mapping[str, Array], labels: Array | None, seed: int) -> tuple[dict[str, Array], Array | None]:
    """Add to each sample a blend of it with another, (1 − a) × sample + a × other with a up to a half; mix them up.

    A model is sure of the samples that it was trained on, so quantisation flips hardly any of them. Blends lie between
    classes, where new samples lie that are hard; on the digit networks, samples and blends together put techniques in
    the order in which the test part puts them, and flip somewhat more. The blended are float32, or rounded to uint8.
    Whole numbers of other types name things (words, rows), and what lies between two of them means nothing.

    Returns:
        The samples, and their class numbers, −1 for blends.
    """
    random = np.random.default_rng(seed)
    rows = len(next(iter(inputs.values())))
    if any(array.dtype not in (np.float32, np.uint8) for array in inputs.values()):
        return dict(inputs), labels
    other, share, order = random.permutation(rows), random.uniform(0, MOST_OF_OTHER, rows), random.permutation(2 * rows)
    mixed = {
        name: np.concatenate([array, _blended(array, array[other], share)])[order] for name, array in inputs.items()
    }
    return mixed, None if labels is None else np.concatenate([labels, np.full(rows, -1)])[order]


def _blended(one: Array, other: Array, share: Array) -> Array:
    weight = share.reshape(-1, *[1] * (one.ndim - 1)).astype(np.float32)
    mixed: Array = one * (1 - weight) + other * weight
    return np.round(mixed).astype(np.uint8) if one.dtype == np.uint8 else mixed.astype(np.float32)


class HeldOut:
    """Held-out samples with the float model's answers: what files are measured on."""

    def __init__(
        self,
        content: bytes,
        inputs: Mapping[str, Array],
        labels: Array | None,
        classifier: bool,
        wanted: Sequence[Array] | None = None,
    ) -> None:
        """Answer ``inputs`` with the float file ``content``, or take its answers as ``wanted``.

        Args:
            content: the float file.
            inputs: samples by the input tensor's name, or under "" for the only one.
            labels: their class numbers, −1 where there is none.
            classifier: whether the only output names one class.
            wanted: the float file's outputs.
        """
        self.inputs = inputs
        self._content = content
        self._wanted = answers(content, inputs) if wanted is None else list(wanted)
        self._labels = labels if classifier else None
        self._chosen = chosen_classes(self._wanted[0]) if classifier else None

    @property
    def rows(self) -> int:
        """How many samples there are."""
        return len(next(iter(self.inputs.values())))

    def first(self, rows: int) -> HeldOut:
        """Give the first of them alone."""
        return HeldOut(
            self._content,
            {name: array[:rows] for name, array in self.inputs.items()},
            None if self._labels is None else self._labels[:rows],
            self._chosen is not None,
            [array[:rows] for array in self._wanted],
        )

    def measure(self, content: bytes) -> Quality:
        """Answer with a quantised file of the same inputs and outputs, and compare; one that can't run is all error."""
        try:
            got = answers(content, self.inputs)
        except (RuntimeError, ValueError):  # what the interpreter raises when it refuses a file
            return Quality(math.inf, None if self._chosen is None else 0.0, None)
        error = max(_relative(one, wanted) for one, wanted in zip(got, self._wanted, strict=True))
        if self._chosen is None:
            return Quality(error, None, None)
        chosen, drop = chosen_classes(got[0]), None
        if self._labels is not None and (self._labels >= 0).any():
            labelled = self._labels >= 0
            right, now_right = (np.mean(one[labelled] == self._labels[labelled]) for one in (self._chosen, chosen))
            drop = float(right - now_right)
        return Quality(error, float(np.mean(chosen == self._chosen)), drop)


def answers(content: bytes, inputs: Mapping[str, Array]) -> list[Array]:
    """Give a file's float32 outputs on samples by the input tensor's name, in the order of the file."""
    interpreter = _interpreter(content)
    parts: list[list[Array]] = []
    total = len(next(iter(inputs.values())))
    # A file with a loop takes one sample at a time.
    step = 1 if any(_fixed(entry) for entry in interpreter.get_input_details()) else ROWS
    for start in range(0, total, step):
        _feed(interpreter, {name: array[start : start + step] for name, array in inputs.items()})
        interpreter.invoke()
        parts.append([interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()])
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def _fixed(entry: Mapping[str, Any]) -> bool:
    signature = entry["shape_signature"]
    return bool(len(signature) and signature[0] == 1)


def microseconds(content: bytes, inputs: Mapping[str, Array], calls: int = 51) -> float:
    """Give the median time of one inference of one sample here, in µs: a hint, not a benchmark."""
    interpreter = _interpreter(content)
    _feed(interpreter, {name: array[:1] for name, array in inputs.items()})
    interpreter.invoke()
    times: list[int] = []
    end = time.perf_counter() + 1
    while len(times) < calls and (len(times) < 3 or time.perf_counter() < end):
        before = time.perf_counter_ns()
        interpreter.invoke()
        times.append(time.perf_counter_ns() - before)
    return float(np.median(times)) / 1000


def _interpreter(content: bytes) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    with quiet():
        return Interpreter(model_content=content)


def _feed(interpreter: Any, batch: Mapping[str, Array]) -> None:
    """Set the inputs by name, or the only one by whatever name."""
    entries = interpreter.get_input_details()
    shapes = {entry["index"]: given(batch, entry["name"]).shape for entry in entries}
    for entry in entries:
        if tuple(entry["shape"]) != shapes[entry["index"]]:
            interpreter.resize_tensor_input(entry["index"], shapes[entry["index"]])
    with quiet():
        interpreter.allocate_tensors()
    for entry in entries:
        interpreter.set_tensor(entry["index"], given(batch, entry["name"]))


def _relative(got: Array, wanted: Array) -> float:
    if not np.isfinite(got).all():
        return float("inf")
    spread = float(np.sqrt(np.mean((wanted - wanted.mean(axis=0)) ** 2, dtype=np.float64)))
    error = float(np.sqrt(np.mean((got - wanted) ** 2, dtype=np.float64)))
    return error / spread if spread else (float("inf") if error else 0.0)

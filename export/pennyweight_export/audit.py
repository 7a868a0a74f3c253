"""Whether calibration samples are fit for the ranges that are drawn from them; in figures, and in words where not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np

from pennyweight.errors import InputError

from .arrays import Array
from .quantizer import Operator, observe, operators

# Below this, one sample more or less moves the ranges of most networks by tenths.
FEW_SAMPLES = 100
FEWEST_PER_CLASS = 5
# Of a tensor's width. Ranges of least and greatest values always move; beyond this, steps are a tenth too wide, or
# values are cut that matter.
UNSTABLE = 0.25
CLIPPED = 0.001
# A range this many times as wide as what 99.9 % of the values need, or as channels' median range.
STRETCHED = 8.0
UNEVEN = 100.0
# Beyond these a tanh or sigmoid changes by less than an int8 step of its output, 1/128 and 1/256.
SATURATED = {"TANH": 3.0, "LOGISTIC": 6.0}
FIXED = {"SOFTMAX", "LOGISTIC", "TANH"}
RESAMPLES = 100
MOST_LISTED = 10


class Audit(NamedTuple):
    """What the manifest's calibration record holds of the audit, and what is wrong in words."""

    record: dict[str, Any]
    warnings: list[str]


class _Tensor(NamedTuple):
    """Of one tensor: the least and greatest value of each sample, the largest magnitude of each channel, quantiles."""

    lows: Array
    highs: Array
    channels: Array
    within: float

    @property
    def width(self) -> float:
        return float(self.highs.max() - self.lows.min())

    @property
    def constant(self) -> bool:
        # The same sums in another place of a batch may differ in their last bits.
        return self.width <= 1e-5 * float(self.channels.max())


def audit(
    content: bytes,
    samples: Mapping[str, Array],
    others: Mapping[str, Array],
    labels: Array | None = None,
    classes: Sequence[str] = (),
    seed: int = 0,
) -> Audit:
    """Judge calibration samples by the ranges that they give the float file's tensors.

    Args:
        content: the float file.
        samples: the calibration samples by the input tensor's name, or under "" for the only one.
        others: other training samples, to count what the ranges cut off; none at all where there are no more.
        labels: the class numbers of ``samples``, for a classifier.
        classes: the classes' names.
        seed: of the resampling.
    """
    every = operators(content)
    tensors = _tensors(content, samples)
    moving = {name: tensor for name, tensor in tensors.items() if not tensor.constant}
    halves, bootstrap = _stability(moving, seed)
    # What a softmax or sigmoid gives has the range that it has.
    given = {name for one in every if one.type in FIXED for name in one.outputs}
    clipped = _clipped(content, others, {name: one for name, one in moving.items() if name not in given})
    record: dict[str, Any] = {
        "tensors": len(tensors),
        "constant_tensors": len(tensors) - len(moving),
        "halves": _summary(halves),
        "bootstrap": _summary(bootstrap),
        "clipped": {_short(name): share for name, share in list(clipped.items())[:MOST_LISTED]},
        "compared_with": len(next(iter(others.values()))) if others else 0,
    }
    warnings = _about_samples(samples, tensors.keys() - moving.keys(), every)
    if labels is not None and classes:
        counts = np.bincount(labels, minlength=len(classes))
        record["fewest_of_a_class"] = int(counts.min())
        warnings += _about_classes(counts, classes)
    warnings += _about_ranges(halves, clipped) + _about_shapes(moving, every)
    record["warnings"] = warnings
    return Audit(record, warnings)


def require_disjoint(calibration: Array, evaluation: Array) -> None:
    """Hold calibration samples to being none of the evaluation samples, by the digests of their content.

    Raises:
        InputError: some are.
    """
    shared = int(np.isin(calibration, evaluation).sum())
    if shared:
        raise InputError(
            f"{shared:,} of {len(calibration):,} calibration samples are evaluation samples too, so that the figures "
            "would flatter; give a test part that took no part in training"
        )


def _tensors(content: bytes, samples: Mapping[str, Array]) -> dict[str, _Tensor]:
    parts: dict[str, list[tuple[Array, Array, Array, Array]]] = {}
    random = np.random.default_rng(0)
    for batch in observe(content, samples):
        for name, values in batch.items():
            if values.dtype == np.float32 and values.size:
                rows = values.reshape(len(values), -1)
                channels = np.abs(values.reshape(-1, values.shape[-1])).max(axis=0)
                drawn = random.choice(rows.reshape(-1), min(rows.size, 20_000), replace=False)
                parts.setdefault(name, []).append((rows.min(axis=1), rows.max(axis=1), channels, drawn))
    found = {}
    for name, batches in parts.items():
        lows, highs, channels, some = zip(*batches)
        low, high = np.quantile(np.concatenate(some), [0.0005, 0.9995])
        found[name] = _Tensor(np.concatenate(lows), np.concatenate(highs), np.max(channels, axis=0), float(high - low))
    return found


def _stability(tensors: Mapping[str, _Tensor], seed: int) -> tuple[dict[str, float], dict[str, float]]:
    """Give how far the ranges of two halves differ, and how wide 95 % of resampled ranges scatter, over the width."""
    random = np.random.default_rng(seed)
    halves, bootstrap = {}, {}
    for name, tensor in tensors.items():
        rows = len(tensor.lows)
        order = random.permutation(rows)
        one, two = order[: rows // 2], order[rows // 2 :]
        if len(one):
            apart = abs(tensor.highs[one].max() - tensor.highs[two].max())
            apart += abs(tensor.lows[one].min() - tensor.lows[two].min())
            halves[name] = float(apart) / tensor.width
        drawn = random.integers(0, rows, (RESAMPLES, rows))
        widths = tensor.highs[drawn].max(axis=1) - tensor.lows[drawn].min(axis=1)
        low, high = np.quantile(widths, [0.025, 0.975])
        bootstrap[name] = float(high - low) / tensor.width
    return halves, bootstrap


def _clipped(content: bytes, others: Mapping[str, Array], tensors: Mapping[str, _Tensor]) -> dict[str, float]:
    """Give the share of other samples' values outside the ranges, of the tensors where there are any, worst first."""
    outside: dict[str, int] = {}
    counts: dict[str, int] = {}
    for batch in observe(content, others) if others else ():
        for name in tensors.keys() & batch.keys():
            low, high = tensors[name].lows.min(), tensors[name].highs.max()
            values = batch[name]
            outside[name] = outside.get(name, 0) + int(((values < low) | (values > high)).sum())
            counts[name] = counts.get(name, 0) + values.size
    shares = {name: round(count / counts[name], 7) for name, count in outside.items() if count}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _summary(shares: Mapping[str, float]) -> dict[str, Any] | None:
    if not shares:
        return None
    worst = max(shares, key=lambda name: shares[name])
    return {
        "median": round(float(np.median(list(shares.values()))), 4),
        "worst": round(shares[worst], 4),
        "tensor": _short(worst),
    }


def _about_samples(samples: Mapping[str, Array], constant: Set[str], every: Sequence[Operator]) -> list[str]:
    rows, warnings = len(next(iter(samples.values()))), []
    if rows < FEW_SAMPLES:
        warnings.append(f"{rows} calibration samples are few; {FEW_SAMPLES} and more give steadier ranges")
    written = {name for one in every for name in one.outputs}
    inputs, dead = sorted(constant - written), sorted(constant & written)
    warnings += [f"the input {_short(name)} is constant in the calibration samples" for name in inputs]
    if dead and not inputs:
        warnings.append(f"{len(dead)} tensors are constant in the calibration samples, first {_short(dead[0])}")
    return warnings


def _about_classes(counts: Array, classes: Sequence[str]) -> list[str]:
    missing = [name for name, count in zip(classes, counts) if not count]
    few = [name for name, count in zip(classes, counts) if 0 < count < FEWEST_PER_CLASS]
    warnings = []
    if missing:
        warnings.append(f"no calibration sample is of class {_listed(missing)}")
    if few:
        warnings.append(f"fewer than {FEWEST_PER_CLASS} calibration samples are of class {_listed(few)}")
    return warnings


def _about_ranges(halves: Mapping[str, float], clipped: Mapping[str, float]) -> list[str]:
    warnings = []
    unstable = [name for name, share in halves.items() if share > UNSTABLE]
    if unstable:
        worst = max(unstable, key=lambda name: halves[name])
        warnings.append(
            f"the ranges of {len(unstable)} tensors depend on which samples are drawn: halves differ by "
            f"{halves[worst]:.0%} at {_short(worst)}; calibrate with more samples"
        )
    cut = [name for name, share in clipped.items() if share > CLIPPED]
    if cut:
        warnings.append(
            f"other training samples leave the ranges of {len(cut)} tensors, most at {_short(cut[0])} with "
            f"{clipped[cut[0]]:.2%} of the values; calibrate with more samples"
        )
    return warnings


def _about_shapes(tensors: Mapping[str, _Tensor], every: Sequence[Operator]) -> list[str]:
    warnings = []
    for one in every:
        tensor = tensors.get(one.inputs[0]) if one.inputs else None
        limit = SATURATED.get(one.type)
        if tensor is None or limit is None:
            continue
        reach = float(max(abs(tensor.lows.min()), abs(tensor.highs.max())))
        if reach > STRETCHED * limit:
            warnings.append(
                f"{_short(one.inputs[0])} reaches ±{reach:,.0f} before a {one.type.lower()}, which is saturated beyond "
                f"±{limit:g}: a step of int8 is {reach / 127:.2g} there"
            )
    stretched = [name for name, tensor in tensors.items() if tensor.width > STRETCHED * tensor.within > 0]
    if stretched:
        worst = max(stretched, key=lambda name: tensors[name].width / tensors[name].within)
        times = tensors[worst].width / tensors[worst].within
        warnings.append(f"few values stretch the ranges of {len(stretched)} tensors, {_short(worst)} {times:.0f}-fold")
    uneven = {name: _unevenness(tensor.channels) for name, tensor in tensors.items()}
    uneven = {name: ratio for name, ratio in uneven.items() if ratio > UNEVEN}
    if uneven:
        worst = max(uneven, key=lambda name: uneven[name])
        warnings.append(
            f"channels of {len(uneven)} tensors have ranges far apart, {_short(worst)} by {uneven[worst]:,.0f} times: "
            "one scale fits none of them"
        )
    return warnings


def _unevenness(channels: Array) -> float:
    """Give the ratio of the largest channel to the one that a tenth are smaller than, of those that hold anything."""
    alive = channels[channels > 0]
    return float(alive.max() / np.quantile(alive, 0.1)) if len(alive) > 1 else 1.0


def _short(name: str) -> str:
    return name.split(";")[0]


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more

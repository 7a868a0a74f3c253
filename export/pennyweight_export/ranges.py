"""The range of each tensor that quantisation keeps: what was seen, cut where cutting costs less than it wins."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from .arrays import Array
from .quantizer import Operator, Range, Ranges, observe

# Values kept of each tensor: enough that one in ten thousand is told from the largest.
KEPT = 50_000
SHARES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)
# These hand values on as they are, so that what they read and write shares one scale.
PASSING = {
    "RESHAPE", "MAX_POOL_2D", "REDUCE_MAX", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS", "SLICE", "STRIDED_SLICE", "GATHER",
    "PAD", "RESIZE_NEAREST_NEIGHBOR", "SPLIT", "UNPACK", "SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "REVERSE_V2",
}  # fmt: skip


class Spread(NamedTuple):
    """What a tensor held on the samples: its least and greatest value, and a sample of all of them, sorted."""

    low: float
    high: float
    values: Array


def spreads(content: bytes, inputs: Mapping[str, Array], seed: int = 0) -> dict[str, Spread]:
    """Give the spread of every float32 tensor of a float file, its inputs included."""
    random = np.random.default_rng(seed)
    total = len(next(iter(inputs.values())))
    seen: dict[str, list[Array]] = {}
    ends: Ranges = {}
    for batch in observe(content, inputs):
        for name, values in batch.items():
            if values.dtype == np.float32 and values.size:
                low, high = ends.get(name, (np.inf, -np.inf))
                ends[name] = min(low, float(values.min())), max(high, float(values.max()))
                seen.setdefault(name, []).append(_some(values, total, random))
    return {name: Spread(*ends[name], np.sort(np.concatenate(parts))) for name, parts in seen.items()}


def whole(found: Mapping[str, Spread]) -> Ranges:
    """Give the ranges from the least to the greatest value."""
    return {name: (spread.low, spread.high) for name, spread in found.items()}


def percentile(found: Mapping[str, Spread], share: float, fixed: Iterable[str] = ()) -> Ranges:
    """Give the ranges that hold ``share`` of the values, half of the rest cut on either side; ``fixed`` keep all."""
    kept, cut = set(fixed), (1 - share) / 2
    return {
        name: (spread.low, spread.high) if name in kept else _quantiles(spread.values, cut)
        for name, spread in found.items()
    }


def least_error(found: Mapping[str, Spread], bits: int = 8, fixed: Iterable[str] = ()) -> Ranges:
    """Give the ranges of least mean squared error of rounding and clipping together; ``fixed`` keep all."""
    kept = set(fixed)
    return {
        name: (spread.low, spread.high) if name in kept else _least_error(spread, 2**bits - 1)
        for name, spread in found.items()
    }


def clipped_below(ranges: Ranges, name: str, share: float) -> Ranges:
    """Give the ranges with a share of one tensor's cut off at its low end: the logits far below the best."""
    low, high = ranges[name]
    return {**ranges, name: (low + share * (high - low), high)}


def clipped_at(ranges: Ranges, name: str, limit: float) -> Ranges:
    """Give the ranges with one tensor's cut off beyond ±``limit``."""
    low, high = ranges[name]
    return {**ranges, name: (max(low, -limit), min(high, limit))}


def groups(operators: Iterable[Operator], joining: Container[str] = PASSING) -> list[set[str]]:
    """Give the sets of tensors that operators of the types ``joining`` join.

    By default these hand values on as they are, so that a set shares one scale.
    """
    found: dict[str, set[str]] = {}
    for operator in operators:
        names = (*operator.inputs, *operator.outputs)
        for name in names:
            found.setdefault(name, {name})
        if operator.type in joining:
            together = set().union(*(found[name] for name in names))
            for name in together:
                found[name] = together
    return list({id(group): group for group in found.values()}.values())


def shared(ranges: Ranges, operators: Iterable[Operator]) -> Ranges:
    """Give every tensor of a group the range that holds each one's."""
    result = dict(ranges)
    for group in groups(operators):
        known = [ranges[name] for name in group if name in ranges]
        if len(known) > 1:
            together = min(low for low, _ in known), max(high for _, high in known)
            result |= dict.fromkeys(group & ranges.keys(), together)
    return result


def _some(values: Array, total: int, random: np.random.Generator) -> Array:
    flat = values.reshape(-1)
    wanted = max(1, KEPT * len(values) // total)
    return flat.copy() if wanted >= flat.size else random.choice(flat, wanted)


def _quantiles(values: Array, cut: float) -> Range:
    low, high = np.quantile(values, [cut, 1 - cut])
    return float(low), float(high)


def _least_error(spread: Spread, levels: int) -> Range:
    low, high = spread.low, spread.high
    # Each end in turn, twice: the best place of one hardly depends on the other's.
    for _ in range(2):
        high = min((_error(spread.values, low, share * spread.high, levels), share * spread.high) for share in SHARES)[
            1
        ]
        low = min((_error(spread.values, share * spread.low, high, levels), share * spread.low) for share in SHARES)[1]
    return low, high


def _error(values: Array, low: float, high: float, levels: int) -> float:
    # Zero is always a step of the grid.
    low, high = min(low, 0.0), max(high, 0.0)
    step = (high - low) / levels or 1.0
    grid = np.clip(np.round(values / step), np.round(low / step), np.round(high / step)) * step
    return float(np.mean((values - grid) ** 2))

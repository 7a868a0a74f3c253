"""Repair of a full-int8 file that lost too much: step by step, each one kept only if it helps on held-out samples.

First what costs nothing on the device: equalised channels, better ranges, compensated rounding of the weights. Then the
operators that cost most are kept in int16 or float, as few as will do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from .arrays import Array
from .audit import SATURATED
from .equalise import equalised
from .quality import Gate, HeldOut, Quality
from .quantizer import Operator, Ranges
from .ranges import clipped_at, clipped_below, least_error, percentile, spreads, whole
from .rounding import compensated
from .search import WORTH, Plan, Search
from .widening import widen

BUDGET_S = 100.0
SHARES = (1.0, 0.5)
PERCENTILES = (0.9999, 0.999, 0.99)
LOW_SIDES = (0.1, 0.2, 0.3, 0.4, 0.5)


class Repaired(NamedTuple):
    """The best plan, whether it is good enough on held-out samples, and the log: one dictionary per step."""

    plan: Plan
    quality: Quality
    holds: bool
    log: list[dict[str, Any]]


def repair(
    content: bytes,
    samples: Mapping[str, Array],
    held_out: HeldOut,
    gate: Gate,
    notice: Callable[[str], None] = lambda text: None,
    best: bool = False,
    budget: float = BUDGET_S,
    more: Mapping[str, Array] | None = None,
) -> Repaired:
    """Search for a quantisation that keeps the gate on held-out samples.

    Args:
        content: the float file, whose inputs are what its layers see.
        samples: calibration samples by the input tensor's name, or under "" for the only one.
        held_out: other samples, to choose by. Neither they nor ``samples`` are ever evaluation samples.
        gate: what may be lost.
        notice: told of each step.
        best: go on after the gate holds, as long as widening helps.
        budget: seconds after which the best so far is taken.
        more: further calibration samples, tried where ``samples`` alone don't do.

    Raises:
        PennyweightError: not even plain int8 can be made of the file.
    """
    search = Search(content, samples, held_out, gate, notice, best, budget)
    if more and not search.done:
        _more_samples(search, more)
    for step in (_equalise, _cut_ranges, _round, widen):
        if not search.done:
            step(search)
    return Repaired(search.plan, search.quality, search.holds, search.log)


def _more_samples(search: Search, more: Mapping[str, Array]) -> None:
    started = time.monotonic()
    search.samples = {name: np.concatenate([array, more[name]]) for name, array in search.samples.items()}
    found = spreads(search.plan.content, search.samples)
    rows = len(next(iter(search.samples.values())))
    plan = search.plan._replace(ranges=whole(found), uncut=whole(found))
    if search.consider(f"ranges of {rows:,} samples", plan, started):
        search.found = found


def _equalise(search: Search) -> None:
    for share in SHARES:
        started = time.monotonic()
        content, tensors = equalised(search.plan.content, search.samples, share)
        if not tensors:
            return
        found = spreads(content, search.samples)
        plan = search.plan._replace(content=content, ranges=whole(found), uncut=whole(found))
        if search.consider(f"channels of {tensors} tensors equalised (share {share:g})", plan, started):
            search.found = found
            return


def _cut_ranges(search: Search) -> None:
    """Cut each tensor's range where that brings less error than it takes away, each one judged alone."""
    started, ranges, cut = time.monotonic(), search.plan.ranges, []
    inputs = _inputs(search)
    for group in search.groups:
        if search.late or group & inputs:
            continue
        least, name = WORTH * search.alone(group, search.plan), ""
        for words, idea in _ideas(search, group):
            candidate = {**ranges, **{tensor: idea[tensor] for tensor in group & idea.keys()}}
            error = search.alone(group, search.plan._replace(ranges=candidate))
            if error < least:
                least, name, chosen = error, words, candidate
        if name:
            ranges = chosen
            cut.append(name)
    if cut:
        words = ", ".join(f"{cut.count(name)} by {name}" for name in dict.fromkeys(cut))
        plan = search.plan._replace(ranges=ranges)
        search.consider(f"ranges of {len(cut)} tensors cut ({words})", plan, started)


def _ideas(search: Search, group: set[str]) -> Iterator[tuple[str, Ranges]]:
    found = {name: search.found[name] for name in group & search.found.keys()}
    if not found:
        return
    yield "least squared error", least_error(found)
    for share in PERCENTILES:
        yield f"{share:.2%} of the values", percentile(found, share)
    for one in search.operators:
        name = one.inputs[0] if one.inputs else ""
        if name in found and one.type in SATURATED:
            yield "where it saturates", clipped_at(whole(found), name, SATURATED[one.type])
        if name in found and one.type == "SOFTMAX":
            for share in LOW_SIDES:
                yield "the logits' low side", clipped_below(whole(found), name, share)


def _round(search: Search) -> None:
    started = time.monotonic()
    rounded = compensated(search.plan.content, search.samples)
    if rounded:
        plan = search.plan._replace(rounded=rounded)
        words = f"weights of {len(rounded)} layers rounded with compensation, biases corrected"
        search.consider(words, plan, started)


def _inputs(search: Search) -> set[str]:
    """Give the model's inputs, whose step is a pixel's."""
    operators: tuple[Operator, ...] = search.operators
    written = {name for one in operators for name in one.outputs}
    return {name for one in operators for name in one.inputs} - written

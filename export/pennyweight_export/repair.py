"""Repair of a full-int8 file that lost too much: step by step, each one kept only if it helps on held-out samples.

First what costs nothing on the device: equalised channels, better ranges, compensated rounding of the weights. Then the
tensors that cost most are kept in int16, or their operators in float, as few as will do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from pennyweight.errors import PennyweightError

from .arrays import Array
from .equalise import equalised
from .quality import Gate, HeldOut, Quality, microseconds
from .quantizer import Kind, Operator, Ranges, operators, quantise
from .ranges import Spread, clipped_below, groups, least_error, percentile, shared, spreads, whole
from .rounding import compensated

BUDGET_S = 100.0
# An error must shrink by this much for a step to be kept: less is the luck of the held-out samples.
WORTH = 0.98
# Where the best is asked for, widening goes on as long as a step takes off this much.
WORTH_WIDENING = 0.95
SHARES = (0.5, 1.0)
PERCENTILES = (0.9999, 0.999)
LOW_SIDES = (0.1, 0.2, 0.3, 0.4)


class Plan(NamedTuple):
    """All that makes a quantised file: the float file with its edits, and how each part of it is quantised."""

    content: bytes
    ranges: Ranges
    bounds: Mapping[str, Array]
    kinds: Mapping[str, Kind]

    def build(self, wire: Kind = "float") -> bytes:
        """Quantise; ``wire`` is the input's kind."""
        return quantise(self.content, self.ranges, "int8", self.kinds, wire, self.bounds)


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

    Raises:
        PennyweightError: not even plain int8 can be made of the file.
    """
    search = _Search(content, samples, held_out, gate, notice, best, budget)
    search.run()
    return Repaired(search.plan, search.quality, search.quality.holds(gate), search.log)


class _Search:
    def __init__(
        self,
        content: bytes,
        samples: Mapping[str, Array],
        held_out: HeldOut,
        gate: Gate,
        notice: Callable[[str], None],
        best: bool,
        budget: float,
    ) -> None:
        self._samples, self._held_out, self._gate, self._notice, self._best = samples, held_out, gate, notice, best
        self._end = time.monotonic() + budget
        self._operators = operators(content)
        self._inputs = _inputs(self._operators)
        self.log: list[dict[str, Any]] = []
        self._found = spreads(content, samples)
        self.plan = Plan(content, self._shared(whole(self._found)), {}, {})
        started = time.monotonic()
        built = self.plan.build()
        self.quality = held_out.measure(built)
        self._record("plain int8", built, self.quality, time.monotonic() - started, kept=True)

    def run(self) -> None:
        for step in (self._equalise, self._better_ranges, self._round, self._widen):
            if self._done():
                return
            step()
        if not self._best:
            self._narrow()

    def _done(self) -> bool:
        return (self.quality.holds(self._gate) and not self._best) or time.monotonic() > self._end

    def _equalise(self) -> None:
        for share in SHARES:
            started = time.monotonic()
            content, pairs = equalised(self.plan.content, self._samples, share)
            if pairs:
                found = spreads(content, self._samples)
                plan = self.plan._replace(content=content, ranges=self._shared(whole(found)))
                if self._try(f"channels of {pairs} tensors equalised (share {share:g})", plan, started):
                    self._found = found
                    return

    def _better_ranges(self) -> None:
        for name, ranges in self._range_ideas(self._found):
            if self._done():
                return
            self._try(name, self.plan._replace(ranges=self._shared(ranges)), time.monotonic())
        for tensor in self._before_softmax():
            for share in LOW_SIDES:
                started, whole_range = time.monotonic(), whole(self._found)[tensor]
                ranges = clipped_below({**self.plan.ranges, tensor: whole_range}, tensor, share)
                plan = self.plan._replace(ranges=self._shared(ranges))
                self._try(f"logits' low side clipped by {share:.0%}", plan, started)

    def _range_ideas(self, found: Mapping[str, Spread]) -> Iterator[tuple[str, Ranges]]:
        yield "ranges of least squared error", least_error(found, fixed=self._inputs)
        for share in PERCENTILES:
            yield f"ranges that hold {share:.2%} of the values", percentile(found, share, self._inputs)

    def _round(self) -> None:
        started = time.monotonic()
        rounded = compensated(self.plan.content, self._samples)
        if rounded.layers:
            plan = self.plan._replace(content=rounded.content, bounds=rounded.bounds)
            self._try(f"weights of {len(rounded.layers)} layers rounded with compensation", plan, started)

    def _widen(self) -> None:
        while not self._done():
            started, tried = time.monotonic(), []
            for name, kinds in self._wider():
                plan = self.plan._replace(kinds={**self.plan.kinds, **kinds})
                built = self._built(plan)
                if built is not None:
                    tried.append((self._held_out.measure(built), len(kinds), name, plan, built))
                if time.monotonic() > self._end:
                    break
            enough = [one for one in tried if one[0].holds(self._gate)] if not self._best else []
            # The cheapest that is enough, else the one that wins most.
            chosen = min(enough, key=lambda one: (one[1], one[0].error), default=None)
            chosen = chosen or min(tried, key=lambda one: one[0].error, default=None)
            if chosen is None:
                return
            quality, _, name, plan, built = chosen
            kept = quality.error < (WORTH_WIDENING if self._best else WORTH) * self.quality.error
            self._record(f"{name} (the best of {len(tried)})", built, quality, time.monotonic() - started, kept)
            if not kept:
                return
            self.plan, self.quality = plan, quality

    def _wider(self) -> Iterator[tuple[str, dict[str, Kind]]]:
        """Give what could be widened next, in words and as kinds by operator."""
        kinds = self.plan.kinds
        for group in groups(self._operators):
            around = [one for one in self._operators if group & {*one.inputs, *one.outputs}]
            fresh: dict[str, Kind] = {one.scope: "int16" for one in around if one.scope not in kinds}
            if fresh:
                yield f"{_title(around[0])} and what reads it in int16", fresh
        # Float is what the head can always afford, and everything else only where the gate demands it.
        last = self._operators[-2:]
        for one in self._operators:
            if kinds.get(one.scope) != "float" and (not self._best or one in last):
                yield f"{_title(one)} in float", {one.scope: "float"}

    def _narrow(self) -> None:
        """Put back to int8 whatever isn't needed."""
        for scope in list(self.plan.kinds):
            if time.monotonic() > self._end or not self.quality.holds(self._gate):
                return
            started = time.monotonic()
            plan = self.plan._replace(kinds={name: kind for name, kind in self.plan.kinds.items() if name != scope})
            built = self._built(plan)
            quality = self._held_out.measure(built) if built else None
            if built and quality and quality.holds(self._gate):
                self._record(f"{scope.rstrip(';')} back in int8", built, quality, time.monotonic() - started, True)
                self.plan, self.quality = plan, quality

    def _try(self, name: str, plan: Plan, started: float) -> bool:
        built = self._built(plan)
        if built is None:
            return False
        quality = self._held_out.measure(built)
        kept = quality.error < WORTH * self.quality.error
        self._record(name, built, quality, time.monotonic() - started, kept)
        if kept:
            self.plan, self.quality = plan, quality
        return kept

    def _built(self, plan: Plan) -> bytes | None:
        try:
            return plan.build()
        except PennyweightError:
            return None  # one idea that the library can't write doesn't end the search

    def _record(self, name: str, built: bytes, quality: Quality, seconds: float, kept: bool) -> None:
        entry = {
            "step": name,
            "kept": kept,
            "bytes": len(built),
            "microseconds": round(microseconds(built, self._held_out.inputs), 2),
            "seconds": round(seconds, 2),
            "error": round(quality.error, 6),
            "agreement": quality.agreement,
            "accuracy": quality.accuracy,
        }
        self.log.append(entry)
        self._notice(log_line(entry))

    def _shared(self, ranges: Ranges) -> Ranges:
        return shared(ranges, self._operators)

    def _before_softmax(self) -> list[str]:
        return [one.inputs[0] for one in self._operators if one.type == "SOFTMAX"]


def log_line(entry: Mapping[str, Any]) -> str:
    """Say in one line what a step brought."""
    agreement = "" if entry["agreement"] is None else f", agreement {entry['agreement']:.2%}"
    return (
        f"{entry['step']}: error {entry['error']:.4f}{agreement}, {entry['bytes']:,} bytes, "
        f"{entry['microseconds']:.1f} µs, in {entry['seconds']:.1f} s{'' if entry['kept'] else '; not kept'}"
    )


def _inputs(every: tuple[Operator, ...]) -> set[str]:
    """Give the model's inputs, and the tensors that hold the same values: their step is a pixel's."""
    written = {name for one in every for name in one.outputs}
    entries = {name for one in every for name in one.inputs} - written
    return set().union(*(group for group in groups(every) if group & entries))


def _title(operator: Operator) -> str:
    return f"{operator.type} {operator.scope.rstrip(';').split(';')[0]}"

"""What the steps of a repair share: the best plan so far, how plans are measured and compared, and the log."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pennyweight.errors import PennyweightError

from .arrays import Array
from .layers import layer_names
from .quality import Gate, HeldOut, Quality, microseconds
from .quantizer import Kind, Operator, Ranges, operators, quantise
from .ranges import groups, spreads, whole
from .rounding import Rounded
from .weights import with_constants

# An error must shrink by this much for a step to be kept: less is the luck of the held-out samples.
WORTH = 0.98
# Beyond this error nothing of the model is left, and what a step mends is hidden by what it doesn't: then steps are
# compared by the errors that each tensor brings alone.
HOPELESS = 0.5
# A measurement takes at most about this long: int16 convolutions are slow.
SECONDS_EACH = 1.0
FEWEST_ROWS = 400


class Plan(NamedTuple):
    """All that makes a quantised file.

    ``content`` is the float file, ``ranges`` are its tensors', ``uncut`` the whole ones, for tensors that no int8
    operator reads or writes; ``rounded`` are the constants of operators that aren't in float, ``kinds`` how operators
    compute that aren't in int8.
    """

    content: bytes
    ranges: Ranges
    uncut: Ranges
    rounded: Mapping[str, Rounded]
    kinds: Mapping[str, Kind]

    def build(self, wire: Kind = "float", kind: Kind = "int8") -> bytes:
        """Quantise; ``wire`` is the input's kind, ``kind`` that of the operators which ``kinds`` doesn't name."""
        used = [one for scope, one in self.rounded.items() if self.kinds.get(scope, kind) != "float"]
        constants = {name: values for one in used for name, values in one.constants.items()}
        bounds = {one.weights: one.bound for one in used}
        narrow = {
            name
            for one in operators(self.content)
            if self.kinds.get(one.scope, kind) == "int8"
            for name in (*one.inputs, *one.outputs)
        }
        ranges = self.uncut | {name: self.ranges[name] for name in narrow & self.ranges.keys()}
        return quantise(with_constants(self.content, constants), ranges, kind, self.kinds, wire, bounds)


class Search:
    """The best plan so far, measured on held-out samples, and the log of what was tried."""

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
        self.samples, self.gate, self.best = samples, gate, best
        self.log: list[dict[str, Any]] = []
        self.operators = operators(content)
        self.names = layer_names(self.operators)
        self.groups = groups(self.operators)
        self.found = spreads(content, samples)
        self._notice = notice
        self._end = time.monotonic() + budget
        self._alone: dict[int, tuple[Plan, float]] = {}
        started = time.monotonic()
        self.plan = Plan(content, whole(self.found), whole(self.found), {}, {})
        built = self.plan.build()
        self.held_out = affordable(held_out, built)
        self.quality = self.held_out.measure(built)
        self.record("plain int8", built, self.quality, started, kept=True)

    @property
    def holds(self) -> bool:
        """Whether the best so far is good enough on held-out samples."""
        return self.quality.holds(self.gate)

    @property
    def late(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self._end

    @property
    def done(self) -> bool:
        """Whether to stop."""
        return self.late or (self.holds and not self.best)

    def consider(self, name: str, plan: Plan, started: float) -> bool:
        """Measure a plan; make it the best so far where it is worth it, and say whether it is."""
        built = self.built(plan)
        if built is None:
            return False
        quality = self.held_out.measure(built)
        kept = quality.error < WORTH * self.quality.error
        if not kept and self.quality.error > HOPELESS:
            kept = self.predicted(plan) < WORTH * self.predicted(self.plan)
        self.record(name, built, quality, started, kept)
        if kept:
            self.plan, self.quality = plan, quality
        return kept

    def built(self, plan: Plan, kind: Kind = "int8") -> bytes | None:
        """Build a plan, or give None: one idea that the library can't write doesn't end the search."""
        try:
            return plan.build(kind=kind)
        except PennyweightError:
            return None

    def around(self, group: set[str]) -> list[Operator]:
        """Give the operators that write or read one of a group's tensors."""
        return [one for one in self.operators if group & {*one.inputs, *one.outputs}]

    def alone(self, group: set[str], plan: Plan) -> float:
        """Give the error that a group's tensors bring when all else stays in float."""
        only: dict[str, Kind] = {one.scope: "int8" for one in self.around(group)}
        built = self.built(plan._replace(kinds=only), "float")
        return math.inf if built is None else self.held_out.measure(built).error

    def predicted(self, plan: Plan) -> float:
        """Give the error that a plan's tensors bring together if each one's is independent of the others'."""
        known = self._alone.get(id(plan))
        if known is None or known[0] is not plan:
            errors = [math.inf if self.late else self.alone(group, plan) for group in self.groups]
            known = plan, math.sqrt(sum(error**2 for error in errors))
            self._alone[id(plan)] = known
        return known[1]

    def record(self, name: str, built: bytes, quality: Quality, started: float, kept: bool) -> None:
        """Note a step and say it."""
        runs = math.isfinite(quality.error)
        entry = {
            "step": name,
            "kept": kept,
            "bytes": len(built),
            "microseconds": round(microseconds(built, self.held_out.inputs), 1)
            if math.isfinite(quality.error)
            else None,
            "seconds": round(time.monotonic() - started, 1),
            "error": round(quality.error, 6) if runs else None,
            "agreement": quality.agreement,
            "drop": quality.drop,
        }
        self.log.append(entry)
        self._notice(log_line(entry))


def affordable(held_out: HeldOut, content: bytes) -> HeldOut:
    """Give as many of the held-out samples as a file like this answers in a second: it is measured often."""
    few = held_out.first(FEWEST_ROWS)
    started = time.monotonic()
    few.measure(content)
    rows = int(SECONDS_EACH / max(time.monotonic() - started, 1e-3) * few.rows)
    return held_out.first(max(FEWEST_ROWS, rows))


def log_line(entry: Mapping[str, Any]) -> str:
    """Say in one line what a step brought."""
    agreement = "" if entry["agreement"] is None else f", agreement {entry['agreement']:.2%}"
    if entry["error"] is None:
        return f"{entry['step']}: doesn't run, in {entry['seconds']:.1f} s; not kept"
    return (
        f"{entry['step']}: error {entry['error']:.4f}{agreement}, {entry['bytes']:,} bytes, "
        f"{entry['microseconds']:.1f} µs, in {entry['seconds']:.1f} s{'' if entry['kept'] else '; not kept'}"
    )

"""The last resort of a repair: operators that compute in int16 or float, as few as will do.

The search goes backwards, from a file in which all are wide: whether one may be narrow shows only where no other's
error hides it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from .quality import HeldOut, Quality, microseconds
from .quantizer import Kind, Operator
from .ranges import PASSING
from .search import Plan, Search, affordable

# How much faster float must be than int16 to be worth four times the bytes of its weights.
FASTER = 0.8
# Where the best is asked for, how much error an operator may cost that goes back to int8.
COSTS_NOTHING = 1.01


def widen(search: Search) -> None:
    """Make the operators wide that must be, and no others; note what each one costs and wins."""
    started = time.monotonic()
    units = _units(search.operators)
    start = _start(search, units)
    if start is None:
        return
    built = search.built(_plan(search.plan, units, start))
    held_out = affordable(search.held_out, built) if built else search.held_out
    kinds = _narrowed(search, held_out, units, start)
    if set(kinds.values()) == {"float"}:
        return  # that would be float32 once more
    if not search.best:
        kinds = _faster(search, held_out, units, kinds)
    _replay(search, units, kinds, started)


def _units(operators: tuple[Operator, ...]) -> dict[str, list[Operator]]:
    """Give, by scope, the operators that compute, each with those that only hand on what it gives (or first reads)."""
    units: dict[str, list[Operator]] = {}
    writer: dict[str, str] = {}
    waiting: list[Operator] = []
    for one in operators:
        before = next((writer[name] for name in one.inputs if name in writer), None)
        if one.type in PASSING and before is None:
            waiting.append(one)
            continue
        if one.type in PASSING and before is not None:
            units[before].append(one)
        else:
            units[one.scope] = [*waiting, one]
            waiting = []
        for name in one.outputs:
            writer[name] = before if one.type in PASSING and before is not None else one.scope
    return units


def _start(search: Search, units: Mapping[str, list[Operator]]) -> dict[str, Kind] | None:
    """Give the kinds by unit to begin from: all int16, with the head in float where that is better, or all float."""
    everything: dict[str, Kind] = dict.fromkeys(units, "int16")
    ideas = [everything]
    # The head is what comes after the last weights, and these: few weights, and the logits' ties gone.
    scopes = list(units)
    ideas += [{**everything, **dict.fromkeys(scopes[-count:], "float")} for count in (1, 2) if count < len(scopes)]
    measured = []
    for kinds in ideas:
        built = search.built(_plan(search.plan, units, kinds))
        if built is not None:
            measured.append((search.held_out.measure(built), kinds))
            if not search.best and measured[-1][0].holds(search.gate):
                return kinds
    if search.best:
        return min(measured, key=lambda one: one[0].error, default=(None, None))[1]
    return dict.fromkeys(units, "float")


def _narrowed(
    search: Search, held_out: HeldOut, units: Mapping[str, list[Operator]], start: Mapping[str, Kind]
) -> dict[str, Kind]:
    """Put operators back to int8, or from float to int16, the cheapest first, as long as the gate holds."""
    costs = {}
    for scope in units:
        if search.late:
            return dict(start)
        built = search.built(_plan(search.plan, units, {**start, scope: "int8"}))
        if built is not None:
            costs[scope] = held_out.measure(built).error
    kinds = dict(start)
    base = search.built(_plan(search.plan, units, kinds))
    error = held_out.measure(base).error if base else 0.0
    for scope in sorted(costs, key=lambda scope: costs[scope]):
        narrower: list[Kind] = ["int8", "int16"] if kinds[scope] == "float" else ["int8"]
        for kind in narrower:
            if search.late:
                return kinds
            built = search.built(_plan(search.plan, units, {**kinds, scope: kind}))
            quality = held_out.measure(built) if built else None
            if quality is None:
                continue
            if quality.error <= COSTS_NOTHING * error if search.best else quality.holds(search.gate):
                kinds[scope] = kind
                break
    return kinds


def _faster(
    search: Search, held_out: HeldOut, units: Mapping[str, list[Operator]], kinds: dict[str, Kind]
) -> dict[str, Kind]:
    """Take float for operators in int16 where that is much faster, and good enough."""
    chosen = dict(kinds)
    built = search.built(_plan(search.plan, units, chosen))
    time_now = microseconds(built, held_out.inputs) if built else 0.0
    for scope in [scope for scope, kind in kinds.items() if kind == "int16"]:
        other: dict[str, Kind] = {**chosen, scope: "float"}
        built = (
            None if search.late or set(other.values()) == {"float"} else search.built(_plan(search.plan, units, other))
        )
        if built is None or not held_out.measure(built).holds(search.gate):
            continue
        then = microseconds(built, held_out.inputs)
        if then < FASTER * time_now:
            chosen, time_now = other, then
    return chosen


def _replay(search: Search, units: Mapping[str, list[Operator]], kinds: Mapping[str, Kind], started: float) -> None:
    """Widen one operator after the other on the best plan, the one that wins most first, and note each."""
    left = {scope: kind for scope, kind in kinds.items() if kind != "int8"}
    plan, seconds = search.plan, started
    done: dict[str, Kind] = {}
    while left:
        tried: list[tuple[Quality, str, Plan, bytes]] = []
        for scope, kind in left.items():
            candidate = _plan(plan, units, {**done, scope: kind})
            built = search.built(candidate)
            if built is not None and (not tried or not search.late):
                tried.append((search.held_out.measure(built), scope, candidate, built))
        if not tried:
            return
        quality, scope, candidate, built = min(tried, key=lambda one: one[0].error)
        done[scope] = left.pop(scope)
        search.record(
            f"{search.names[scope]} ({_type(units[scope])}) in {done[scope]}", built, quality, seconds, kept=True
        )
        search.plan, search.quality, seconds = candidate, quality, time.monotonic()


def _plan(plan: Plan, units: Mapping[str, list[Operator]], kinds: Mapping[str, Kind]) -> Plan:
    by_operator = {one.scope: kinds[scope] for scope, unit in units.items() if scope in kinds for one in unit}
    return plan._replace(kinds=by_operator)


def _type(unit: list[Operator]) -> str:
    return next((one for one in unit if one.type not in PASSING), unit[0]).type

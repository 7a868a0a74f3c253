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
from .weights import CHANNEL_AXIS

# Where the best is asked for, how much error an operator may cost that goes back to int8.
COSTS_NOTHING = 1.01


def widen(search: Search) -> None:
    """Make the operators wide that must be, and no others; note what each one costs and wins."""
    started = time.monotonic()
    units = _units(search.operators)
    found: list[tuple[int, float, dict[str, Kind]]] = []
    for start in _starts(search, units, search.best):
        built = search.built(_plan(search.plan, units, start))
        if built is None or (found and search.late):
            continue
        held_out = affordable(search.held_out, built)
        kinds = _narrowed(search, held_out, units, start, "int8")
        if not _has_integer_weights(units, kinds):
            kinds = _narrowed(search, held_out, units, start, "int16")
        built = search.built(_plan(search.plan, units, kinds))
        # All weights in float would be float32 once more.
        if built is not None and _has_integer_weights(units, kinds):
            wide = sum(kind != "int8" for kind in kinds.values())
            found.append((wide, microseconds(built, held_out.inputs), kinds))
    # Where nothing is good enough, the best that int8 weights can give.
    chosen = [kinds for *_, kinds in sorted(found, key=lambda one: one[:2])] or _starts(search, units, best=True)
    if chosen:
        _replay(search, units, chosen[0], started)


def _has_integer_weights(units: Mapping[str, list[Operator]], kinds: Mapping[str, Kind]) -> bool:
    return any(
        kinds[scope] != "float" for scope, unit in units.items() if any(one.type in CHANNEL_AXIS for one in unit)
    )


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


def _starts(search: Search, units: Mapping[str, list[Operator]], best: bool) -> list[dict[str, Kind]]:
    """Give the kinds by unit to begin from.

    All float, and all int16 where that is good enough. For the best, int16 alone, with the head in float
    if that is better.
    """
    everything: dict[str, Kind] = dict.fromkeys(units, "int16")
    ideas = [everything]
    # The head is what comes after the last weights, and these: few weights, and the logits' ties gone.
    scopes = list(units)
    ideas += [{**everything, **dict.fromkeys(scopes[-count:], "float")} for count in (1, 2) if count < len(scopes)]
    measured = []
    for kinds in ideas if best else ideas[:1]:
        built = search.built(_plan(search.plan, units, kinds))
        if built is not None:
            measured.append((search.held_out.measure(built), kinds))
    if best:
        return [kinds for _, kinds in sorted(measured, key=lambda one: one[0].error)[:1]]
    return [dict.fromkeys(units, "float"), *(kinds for quality, kinds in measured if quality.holds(search.gate))]


def _narrowed(
    search: Search, held_out: HeldOut, units: Mapping[str, list[Operator]], start: Mapping[str, Kind], kind: Kind
) -> dict[str, Kind]:
    """Put operators back to ``kind``, the cheapest first, as long as the gate holds."""
    costs = {}
    for scope in units:
        if search.late:
            return dict(start)
        built = search.built(_plan(search.plan, units, {**start, scope: kind}))
        if built is not None:
            costs[scope] = held_out.measure(built).error
    kinds = dict(start)
    base = search.built(_plan(search.plan, units, kinds))
    error = held_out.measure(base).error if base else 0.0
    # Once more at the end: what couldn't go back beside others may be able to without them.
    for scope in 2 * sorted(costs, key=lambda scope: costs[scope]):
        if search.late:
            return kinds
        if kinds[scope] == kind:
            continue
        built = search.built(_plan(search.plan, units, {**kinds, scope: kind}))
        quality = held_out.measure(built) if built else None
        if quality is None:
            continue
        if quality.error <= COSTS_NOTHING * error if search.best else quality.holds(search.gate):
            kinds[scope] = kind
    return kinds


def _replay(search: Search, units: Mapping[str, list[Operator]], kinds: Mapping[str, Kind], started: float) -> None:
    """Widen one operator after the other on the best plan, the one that wins most first, and note each."""
    left = {scope: kind for scope, kind in kinds.items() if kind != "int8"}
    plan, seconds = search.plan, started
    done: dict[str, Kind] = {}
    while left and not search.late:
        tried: list[tuple[Quality, str, Plan, bytes]] = []
        for scope, kind in left.items():
            candidate = _plan(plan, units, {**done, scope: kind})
            built = search.built(candidate)
            if built is not None:
                tried.append((search.held_out.measure(built), scope, candidate, built))
        if not tried:
            return
        quality, scope, candidate, built = min(tried, key=lambda one: one[0].error)
        done[scope] = left.pop(scope)
        words = f"{search.names[scope]} ({_type(units[scope])}) in {done[scope]}"
        search.record(words, built, quality, seconds, kept=True)
        search.plan, search.quality, seconds = candidate, quality, time.monotonic()
    if left:  # the time is up: the rest follows at once
        search.plan = _plan(plan, units, {**done, **left})
        built = search.plan.build()
        search.quality = search.held_out.measure(built)
        names = ", ".join(search.names[scope] for scope in left)
        search.record(
            f"{names} in {' or '.join(sorted(set(left.values())))}", built, search.quality, seconds, kept=True
        )


def _plan(plan: Plan, units: Mapping[str, list[Operator]], kinds: Mapping[str, Kind]) -> Plan:
    by_operator = {one.scope: kinds[scope] for scope, unit in units.items() if scope in kinds for one in unit}
    return plan._replace(kinds=by_operator)


def _type(unit: list[Operator]) -> str:
    return next((one for one in unit if one.type not in PASSING), unit[0]).type

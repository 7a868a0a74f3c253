"""Two runs compared: ratios of latency with intervals, verdicts before and after, and never two machines in silence.

A ratio is B's figure over A's. Its interval is at a level that makes all the rows' claims together wrong at most 5 % of
the time (C. E. Bonferroni, 1936), so that a comparison of many rows doesn't find a difference by their number. It knows
what differs from process to process within each run, not what changed between the runs: that is what is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from pennyweight.bench import NO_DIFFERENCE, digits, microseconds
from pennyweight.errors import InputError
from pennyweight.machine import UNKNOWN
from pennyweight.statistics import ratio_interval
from pennyweight.tables import text_table

from .documents import VERSION, Document, JsonObject
from .runs import CONDITIONS, Run, is_original, make_runs, row_figures, row_key, row_name, same_machine

FORMAT = "pennyweight-comparison"
CONFIDENCE = 0.95
BETTER, WORSE, LOST, UNDECIDED = "better", "worse", "not comparable", "one round: no interval"
RANKS = {"pass": 0, "inconclusive": 1, "fail": 2}
HEADER = ["row", "A µs", "B µs", "B / A", "interval", "latency", "cold start B / A", "verdict A → B"]


class Ratio(NamedTuple):
    """B's figure over A's, its interval (None for a single round), and what it says."""

    a: float
    b: float
    ratio: float
    interval: tuple[float, float] | None
    claim: str


def compare(first: Sequence[Document], second: Sequence[Document], other_machine: bool = False) -> JsonObject:
    """Compare the run in ``second`` with the one in ``first``.

    Args:
        first: the results of A: a bench, a demo's results, or parity.
        second: those of B.
        other_machine: compare even runs of different machines; the result says that they are.

    Returns:
        JSON: "rows" with "latency", "cold_start" (``Ratio`` or None) and "verdict" ("a", "b", "claim"); "worse" and
        "undecided" name the rows for a gate; "notes" are what has to be known.

    Raises:
        InputError: runs of different machines, several runs in one, or no row in common.
    """
    a, b = _only_run(first), _only_run(second)
    difference = same_machine(a.machine, b.machine)
    if difference and not other_machine:
        raise InputError(
            f"{a.file} and {b.file} are not of one machine ({difference}); "
            "measure both on one, or say --allow-different-machines"
        )
    before, after = ({row_key(row): row for row in run.rows} for run in (a, b))
    keys = [*before, *(key for key in after if key not in before)]
    timed = sum(bool(before[key]["rounds"] and after[key]["rounds"]) for key in before if key in after)
    level = 1 - (1 - CONFIDENCE) / max(timed, 1)
    rows = [_row(before.get(key), after.get(key), level) for key in keys]
    if not any(row["latency"] or (row["verdict"]["a"] and row["verdict"]["b"]) for row in rows):
        raise InputError(f"{a.file} and {b.file} have no measured row in common, so nothing to compare")
    return {
        "format": FORMAT,
        "version": VERSION,
        "confidence": CONFIDENCE,
        "row_confidence": level,
        "machines_differ": difference,
        "runs": [_about(run) for run in (a, b)],
        "rows": rows,
        "worse": [row["row"] for row in rows if WORSE in (row["claim"], row["verdict"]["claim"])],
        "undecided": [row["row"] for row in rows if row["claim"] in (LOST, UNDECIDED)],
        "notes": _notes(a, b, difference),
    }


def comparison_text(result: JsonObject) -> str:
    """Lay a comparison out for a terminal."""
    names = [f"{letter}: {run['file']}, {run['device']}, {run['created']}" for letter, run in zip("AB", result["runs"])]
    cells = [_cells(row) for row in result["rows"]]
    lines = [*names, "", text_table(HEADER, cells, 1), ""]
    lines += [f"{row['row']}: {row['reason']}" for row in result["rows"] if row["reason"]]
    lines += result["notes"]
    claims = [row["claim"] for row in result["rows"] if row["latency"]]
    same = sum(claim == NO_DIFFERENCE for claim in claims)
    lines.append(
        f"latency: {claims.count(BETTER)} better, {claims.count(WORSE)} worse, {same} without measurable difference; "
        f"all claims together at {100 * result['confidence']:g} % confidence"
    )
    return "\n".join(lines)


def _only_run(documents: Sequence[Document]) -> Run:
    runs = make_runs(documents)
    if not runs:
        raise InputError(f"{documents[0].file}: holds neither a bench nor parity, so nothing to compare")
    if len(runs) > 1:
        raise InputError(f"{documents[0].file}: holds {len(runs)} runs; compare takes one on each side")
    return runs[0]


def _row(a: JsonObject | None, b: JsonObject | None, level: float) -> JsonObject:
    known = a or b or {}
    row: JsonObject = {"row": row_name(known), "latency": None, "cold_start": None, "claim": "", "reason": ""}
    row["verdict"] = _verdict(a, b)
    if a is None or b is None:
        row["reason"] = f"only in {'B' if a is None else 'A'}"
        # What was measured before and is gone can't be said to be no worse.
        row["claim"] = LOST if a is not None and a["rounds"] else ""
        return row
    if a["rounds"] and b["rounds"]:
        medians = [[one["quantiles"]["p50"] for one in run["rounds"]] for run in (a, b)]
        ratio = _ratio(medians[0], medians[1], level)
        row["latency"], row["claim"] = ratio._asdict(), ratio.claim
        starts = [[one["answered_ns"] for one in run["cold_starts"]] for run in (a, b)]
        row["cold_start"] = _ratio(starts[0], starts[1], level)._asdict() if all(starts) else None
    elif a["rounds"]:
        row["reason"] = f"measured in A; in B {b['status']}: {b['reason']}"
        row["claim"] = WORSE if b["status"] == "failed" else LOST
    elif b["rounds"]:
        row["reason"] = f"measured in B; in A {a['status']}: {a['reason']}"
    return row


def _ratio(a: Sequence[float], b: Sequence[float], level: float) -> Ratio:
    interval = ratio_interval(b, a, level)
    claim = UNDECIDED
    if interval:
        claim = WORSE if interval[0] > 1 else BETTER if interval[1] < 1 else NO_DIFFERENCE
    return Ratio(median(a), median(b), median(b) / median(a), interval, claim)


def _verdict(a: JsonObject | None, b: JsonObject | None) -> JsonObject:
    words = [row["parity"]["status"] if row is not None and not is_original(row) else "" for row in (a, b)]
    ranks = [RANKS.get(word) for word in words]
    claim = ""
    if ranks[0] is not None and ranks[1] is not None:
        claim = WORSE if ranks[1] > ranks[0] else BETTER if ranks[1] < ranks[0] else "same"
    accuracies = [None if row is None else row_figures(row, None)["accuracy"] for row in (a, b)]
    return {"a": words[0], "b": words[1], "claim": claim, "accuracy_a": accuracies[0], "accuracy_b": accuracies[1]}


def _about(run: Run) -> JsonObject:
    names = ("file", "device", "bundle", "created", "machine", "taints")
    return {name: getattr(run, name) for name in names}


def _notes(a: Run, b: Run, difference: str) -> list[str]:
    notes = []
    if difference:
        notes.append(f"DIFFERENT MACHINES ({difference}): what differs may be the machine and nothing else")
    if a.bundle != b.bundle:
        notes.append(f"A is of the bundle {a.bundle}, B of {b.bundle}")
    for name in CONDITIONS:
        values = [run.machine.get(name, UNKNOWN) for run in (a, b)]
        if values[0] != values[1]:
            notes.append(f"{name.replace('_', ' ')}: A {values[0]}, B {values[1]}")
    after = {row_key(row): row for row in b.rows}
    for row in a.rows:
        other = after.get(row_key(row))
        versions = [one["engine_version"] for one in (row, other) if one and one["engine_version"]]
        if len(set(versions)) > 1:
            notes.append(f"{row_name(row)}: engine {versions[0]} in A, {versions[1]} in B")
    for letter, run in (("A", a), ("B", b)):
        notes += [f"{letter} is tainted: {taint['cause']}; {taint['remedy']}" for taint in run.taints]
    return notes


def _cells(row: JsonObject) -> list[str]:
    verdict = row["verdict"]
    change = f"{verdict['a'] or '–'} → {verdict['b'] or '–'}" if verdict["a"] or verdict["b"] else ""
    if verdict["claim"] in (BETTER, WORSE):
        change += f" ({verdict['claim']})"
    if row["latency"] is None:
        return [row["row"], *[""] * 4, row["claim"], "", change]
    latency, start = row["latency"], row["cold_start"]
    return [
        row["row"],
        microseconds(latency["a"]),
        microseconds(latency["b"]),
        f"×{_fine(latency['ratio'])}",
        _interval(latency["interval"]),
        latency["claim"],
        "" if start is None else f"×{_fine(start['ratio'])} {_interval(start['interval'])}".strip(),
        change,
    ]


def _interval(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"{_fine(interval[0])}–{_fine(interval[1])}"


def _fine(ratio: float) -> str:
    """Write a ratio; near 1 the third decimal tells on which side it lies."""
    return f"{ratio:.3f}" if 0.9 < ratio < 1.1 else digits(ratio)

"""Two counts compared: exactly, as they repeat exactly, and only where both are of the same engines and packages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pennyweight.errors import InputError
from pennyweight.tables import text_table
from pennyweight_benchmarks.documents import INSTRUCTIONS, VERSION, Document

from .figures import MEANING, TOTAL, row_counts, row_title

JsonObject = dict[str, Any]

FORMAT = "pennyweight-instructions-comparison"
# How much more may be executed before it counts as a regression. On one machine counts repeat exactly.
TOLERANCE = 0.02
# They run nothing of ours, and show how deep a machine's temporary folder lies: up to 4 % of the interpreter's.
UNGUARDED = (f"{TOTAL}: interpreter", f"{TOTAL}: numpy")
SAME, FEWER, MORE, WORSE, OTHER, LOST = "same", "fewer", "more", "worse", "not comparable", "not counted"
HEADER = ["row", "figure", "A", "B", "B / A", "claim"]
ROW_PINS = ("engine_version", "numpy", "python")


def counts_of(first: Sequence[Document], second: Sequence[Document]) -> tuple[Document, Document] | None:
    """Give the two documents of counts, or None where neither side is one; raise InputError where only one is."""
    sides = [side[0] if [one.kind for one in side] == [INSTRUCTIONS] else None for side in (first, second)]
    a, b = sides
    if a is None and b is None:
        return None
    if a is None or b is None:
        held, other = (second, first) if a is None else (first, second)
        raise InputError(f"{held[0].file} holds instructions and {other[0].file} doesn't; compare like with like")
    return a, b


def compare_instructions(a: Document, b: Document, tolerance: float = TOLERANCE) -> JsonObject:
    """Compare the counts in ``b`` with those in ``a``.

    Args:
        a: before, a document of ``measure_instructions``.
        b: after.
        tolerance: the growth from which on a figure is worse; 0.02 is 2 %.

    Returns:
        JSON: "rows" by target, artifact and engine with "figures" (each "a", "b", "ratio", "claim"), or a "reason" why
        they aren't compared; "worse" and "undecided" name the rows for a gate.

    Raises:
        InputError: no row in common.
    """
    before, after = ({_key(row): row for row in one.content["rows"]} for one in (a, b))
    keys = [*before, *(key for key in after if key not in before)]
    if not any(key in after for key in before):
        raise InputError(f"{a.file} and {b.file} have no row in common, so nothing to compare")
    targets = a.content["targets"], b.content["targets"]
    rows = [_row(before.get(key), after.get(key), targets, tolerance) for key in keys]
    return {
        "format": FORMAT,
        "version": VERSION,
        "tolerance": tolerance,
        "runs": [
            {name: one.content.get(name) for name in ("bundle", "created")} | {"file": one.file} for one in (a, b)
        ],
        "rows": rows,
        "worse": [row["row"] for row in rows if row["claim"] == WORSE],
        "undecided": [row["row"] for row in rows if row["claim"] in (OTHER, LOST)],
        "notes": _notes(a.content, b.content),
    }


def counts_text(result: JsonObject) -> str:
    """Lay a comparison out for a terminal: the figures that changed, and what couldn't be compared."""
    lines = [f"{letter}: {run['file']}, {run['bundle']}, {run['created']}" for letter, run in zip("AB", result["runs"])]
    changed = [
        [row["row"], name, f"{one['a']:,}", f"{one['b']:,}", f"×{one['ratio']:.5f}", one["claim"]]
        for row in result["rows"]
        for name, one in row["figures"].items()
        if one["claim"] != SAME
    ]
    lines += ["", text_table(HEADER, changed, 2), ""] if changed else [""]
    return "\n".join([*lines, *remarks(result), MEANING])


def remarks(result: JsonObject) -> list[str]:
    """Say what couldn't be compared and why, and how many figures changed."""
    lines = [f"{row['row']}: {row['claim'] or 'no counts'}: {row['reason']}" for row in result["rows"] if row["reason"]]
    figures = [one["claim"] for row in result["rows"] for one in row["figures"].values()]
    counts = ", ".join(f"{figures.count(claim)} {claim}" for claim in (SAME, FEWER, MORE, WORSE))
    return [*lines, *result["notes"], f"instructions: {counts}; worse is over {100 * result['tolerance']:g} % more"]


def _key(row: JsonObject) -> tuple[str, str, str]:
    return row["target"], row["artifact"], row["engine"]


def _row(
    a: JsonObject | None, b: JsonObject | None, targets: tuple[JsonObject, JsonObject], tolerance: float
) -> JsonObject:
    row: JsonObject = {"row": row_title(a or b or {}), "figures": {}, "claim": "", "reason": ""}
    if a is None or b is None:
        # What was counted before and is gone can't be said to be no worse.
        row.update(reason=f"only in {'B' if a is None else 'A'}", claim=LOST if a and a["rounds"] else "")
    elif not a["rounds"] and not b["rounds"]:
        pass  # a target that has no such engine
    elif not a["rounds"] or not b["rounds"]:
        said = "; ".join(
            f"{letter} {one['status']}: {one['reason']}" for letter, one in (("A", a), ("B", b)) if one["reason"]
        )
        row.update(reason=said, claim=LOST if a["rounds"] else "")
    else:
        differ = _pins_differ(a, b, *(one[a["target"]] for one in targets))
        if differ:
            row.update(reason=differ, claim=OTHER)
        else:
            row["figures"] = _figures(row_counts(a), row_counts(b), tolerance)
            row["claim"] = _worst([one["claim"] for one in row["figures"].values()])
    return row


def _figures(a: dict[str, int], b: dict[str, int], tolerance: float) -> JsonObject:
    found = {}
    for name in a:
        if name in b:
            claim = SAME if b[name] == a[name] else FEWER if b[name] < a[name] else MORE
            if b[name] > a[name] * (1 + tolerance) and name not in UNGUARDED:
                claim = WORSE
            found[name] = {"a": a[name], "b": b[name], "ratio": b[name] / max(a[name], 1), "claim": claim}
    return found


def _worst(claims: list[str]) -> str:
    return next(claim for claim in (WORSE, MORE, FEWER, SAME) if claim in claims)


def _pins_differ(a: JsonObject, b: JsonObject, first: JsonObject, second: JsonObject) -> str:
    """Give which versions differ between A and B; empty where none does."""
    pairs = [(name.replace("_", " "), a.get(name), b.get(name)) for name in ROW_PINS]
    pairs.append(("core", first.get("core"), second.get("core")))
    names = sorted({*first["packages"], *second["packages"]})
    pairs += [(name, first["packages"].get(name), second["packages"].get(name)) for name in names]
    said = [f"{name} {one or 'none'} in A, {other or 'none'} in B" for name, one, other in pairs if one != other]
    return "; ".join(said[:4]) + (f"; and {len(said) - 4} more" if len(said) > 4 else "")


def _notes(first: JsonObject, second: JsonObject) -> list[str]:
    if first["bundle_sha256"] == second["bundle_sha256"]:
        return []
    names = [f"{one['bundle']} ({one['bundle_sha256'][:8]})" for one in (first, second)]
    return [f"DIFFERENT BUNDLES: A is of {names[0]}, B of {names[1]}"]

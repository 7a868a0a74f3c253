"""Figures, words and tables of counted instructions, made from the document that ``measure_instructions`` gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median_low
from typing import Any

from pennyweight.bench import COLD_PARTS
from pennyweight.tables import markdown_table, text_table
from pennyweight_benchmarks.documents import INSTRUCTIONS, Document

JsonObject = dict[str, Any]

CLASSIFY, BARE, TOTAL = "classify", "bare calls", "start"
START = tuple(COLD_PARTS)
CALLS_HEADER = ["target", "artifact", "engine", CLASSIFY, BARE, "ratio"]
START_HEADER = ["target", "artifact", "engine", *START, "all"]
STARTS = "Millions of instructions of a start"
# What a reader has to know before believing anything of it.
MEANING = (
    "Instructions that a core executes, counted in an emulator. They are no time: not cycles, and without waits for "
    "caches and memory; an instruction on 16 bytes counts as one on 4 does. They compare versions of one program on "
    "one core; another core may order engines otherwise."
)


def row_counts(row: Mapping[str, Any]) -> dict[str, int]:
    """Give a row's figures by name: one image's, then the parts of a start, then all of it; empty without counts.

    A figure is the lower median of the processes' ones, so it is always one that was counted.
    """
    rounds = row["rounds"]
    if not rounds:
        return {}
    found = {CLASSIFY: [one["classify"]["instructions"] for one in rounds]}
    if all(one.get("bare") for one in rounds):
        found[BARE] = [one["bare"]["instructions"] for one in rounds]
    for name in START:
        found[f"{TOTAL}: {name}"] = [one["start"][name] for one in rounds]
    found[TOTAL] = [sum(one["start"][name] for name in START) for one in rounds]
    return {name: median_low(values) for name, values in found.items()}


def spreads(row: Mapping[str, Any]) -> tuple[int, int]:
    """Give how far the processes' medians of single calls lie apart, and their whole starts."""
    rounds = row["rounds"]
    calls = [[one[name]["instructions"] for one in rounds] for name in ("classify", "bare") if rounds[0].get(name)]
    starts = [sum(one["start"].values()) for one in rounds]
    return max(max(values) - min(values) for values in calls), max(starts) - min(starts)


def row_title(row: Mapping[str, Any]) -> str:
    """Name a row in words."""
    return f"{row['target']}: {row['artifact']} on {row['engine']}"


def engine_name(row: Mapping[str, Any]) -> str:
    """Name a row's engine with its version."""
    return f"{row['engine']} {row['engine_version'] or ''}".strip()


def calls_cells(row: JsonObject) -> list[str]:
    """Give a row of the table of one image; one without counts says its status, and ``remarks`` why."""
    counts = row_counts(row)
    one, bare = counts.get(CLASSIFY), counts.get(BARE)
    ratio = f"{one / bare:.2f}" if one and bare else ""
    figures = ["" if value is None else f"{value:,}" for value in (one, bare)] if counts else [row["status"], ""]
    return [row["target"], row["artifact"], engine_name(row), *figures, ratio]


def start_cells(row: JsonObject) -> list[str]:
    """Give a row of the table of a start, in millions."""
    counts = row_counts(row)
    values = [counts.get(f"{TOTAL}: {name}") for name in START]
    names = [row["target"], row["artifact"], engine_name(row)]
    return [*names, *("" if value is None else f"{value / 1e6:,.2f}" for value in [*values, counts.get(TOTAL)])]


def instructions_text(document: JsonObject) -> str:
    """Lay the document out for a terminal."""
    rows = document["rows"]
    counted = [row for row in rows if row["rounds"]]
    lines = [f"{document['bundle']}: instructions of one image ({document['emulation']})", ""]
    lines += [text_table(CALLS_HEADER, [calls_cells(row) for row in rows], 3), ""]
    if counted:
        lines += [STARTS, ""]
        lines += [text_table(START_HEADER, [start_cells(row) for row in counted], 3), ""]
    return "\n".join([*lines, *remarks(document), MEANING])


def counted_documents(documents: Sequence[Document]) -> list[Document]:
    """Give those of the documents that hold counted instructions."""
    return [document for document in documents if document.kind == INSTRUCTIONS]


def caption(content: JsonObject) -> str:
    """Say what the table of one image shows."""
    return f"Instructions for one image, counted in {content.get('emulation', 'an emulator')}"


def target_lines(content: JsonObject) -> list[str]:
    """Say what each target is; the JSON has all the packages that its counts hold for."""
    said = []
    for name, about in content["targets"].items():
        own = [row for row in content["rows"] if row["target"] == name and row["rounds"]]
        versions = {f"{what} {row[what]}" for row in own for what in ("python", "numpy") if row.get(what)}
        emulator = [f"{package} {version}" for package, version in about["packages"].items() if "qemu" in package]
        facts = [str(about.get(key, "unknown")) for key in ("board", "core")]
        said.append(f"{name}: {', '.join([*facts, *sorted(versions, reverse=True), *emulator])}")
    return said


def instructions_markdown(documents: Sequence[Document], plain: Callable[[str], str]) -> list[str]:
    """Give the documents as lines of Markdown; ``plain`` keeps a text from being any."""
    lines: list[str] = []
    for document in counted_documents(documents):
        content = document.content
        lines += [f"## Instructions: {plain(content['bundle'])}", "", plain(MEANING), ""]
        tables = [(caption(content), CALLS_HEADER, [calls_cells(row) for row in content["rows"]])]
        tables.append((STARTS, START_HEADER, [start_cells(row) for row in content["rows"] if row["rounds"]]))
        for title, header, rows in tables:
            cells = [[plain(cell) for cell in row] for row in rows]
            lines += [f"{plain(title)}:", "", markdown_table(header, cells, 3), ""] if cells else []
        lines += [f"- {plain(text)}" for text in [*remarks(content), *target_lines(content)]]
        lines.append("")
    return lines


def remarks(document: JsonObject) -> list[str]:
    """Say what is missing and why, and how exactly the counts repeat."""
    lines = []
    for row in document["rows"]:
        if row["status"] == "absent":
            lines.append(f"{row['target']}: {row['reason']}")
        elif row["reason"]:
            lines.append(f"{row_title(row)}: {row['status']}: {row['reason']}")
        elif row.get("no_bare"):
            lines.append(f"{row_title(row)}: no {BARE}: {row['no_bare']}")
        if row.get("threads", 1) > 1:
            lines.append(f"{row_title(row)}: {row['threads']} threads took part, so counts may differ between runs")
    several = [row for row in document["rows"] if len(row["rounds"]) > 1]
    if several:
        lines += _repeated(several)
    return list(dict.fromkeys(lines))


def _repeated(rows: list[JsonObject]) -> list[str]:
    processes = len(rows[0]["rounds"])
    said = []
    for index, what in enumerate(("one image's counts", "a start's counts")):
        apart = [(spreads(row)[index], row) for row in rows]
        worst, row = max(apart, key=lambda pair: pair[0])
        if worst == 0:
            said.append(f"{what} are the same in {processes} processes, in every row")
        else:
            different = sum(spread > 0 for spread, _ in apart)
            said.append(
                f"{what} differ between {processes} processes in {different} of {len(rows)} rows, "
                f"by at most {worst:,} ({row_title(row)})"
            )
    return said

"""Counted instructions on the report's page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pennyweight_benchmarks import charts
from pennyweight_benchmarks.documents import Document
from pennyweight_benchmarks.html import Content, Html, element, table
from pennyweight_benchmarks.sections import chart, section

from .figures import (
    BARE,
    CALLS_HEADER,
    CLASSIFY,
    MEANING,
    START_HEADER,
    STARTS,
    calls_cells,
    caption,
    counted_documents,
    remarks,
    row_counts,
    start_cells,
    target_lines,
)

JsonObject = dict[str, Any]


def instructions_section(documents: Sequence[Document]) -> Html:
    """Show what one image costs on each target, as bars and as a table, and what a start costs."""
    parts: list[Content] = []
    for index, document in enumerate(counted_documents(documents)):
        content = document.content
        name = content["bundle"]
        drawn = [_bars(content, target, f"instructions{index}-{k}") for k, target in enumerate(content["targets"])]
        parts.append(element("div", *drawn, class_="charts"))
        parts.append(table(CALLS_HEADER, map(calls_cells, content["rows"]), 3, caption=f"{name}: {caption(content)}"))
        counted = [row for row in content["rows"] if row["rounds"]]
        if counted:
            parts.append(table(START_HEADER, map(start_cells, counted), 3, caption=f"{name}: {STARTS.lower()}"))
        said = [element("li", text) for text in [*remarks(content), *target_lines(content)]]
        parts.append(element("ul", *said, class_="note"))
    return section("Instructions", *parts, note=MEANING)


def _bars(content: JsonObject, target: str, identifier: str) -> Html:
    rows = [row for row in content["rows"] if row["target"] == target and row["rounds"]]
    if not rows:
        return Html()
    drawn = [charts.Bar(f"{row['artifact']} on {row['engine']}", *_parts(row_counts(row))) for row in rows]
    title = f"Instructions for one image: {target}"
    text = f"{title}; " + "; ".join(f"{bar.name} {bar.total}" for bar in drawn)
    with charts.drawing():
        figure = charts.svg(charts.bars(drawn, "thousands of instructions"), identifier, text)
    return chart(figure, title, table(CALLS_HEADER, map(calls_cells, rows), 3, caption=title))


def _parts(counts: dict[str, int]) -> tuple[list[tuple[str, float]], str]:
    """Give a bar's parts in thousands, and its end's text."""
    whole, bare = counts[CLASSIFY], counts.get(BARE)
    if bare is None or bare > whole:
        return [(CLASSIFY, whole / 1000)], f"{whole:,}"
    return [("the engine's bare calls", bare / 1000), ("around them", (whole - bare) / 1000)], f"{whole:,}"

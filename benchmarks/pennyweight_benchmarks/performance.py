"""The report's charts of speed: distributions of latency, cold starts, memory, throughput, and answering for long."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pennyweight.bench import (
    cold_parts,
    digits,
    memory,
    microseconds,
    paced,
    quantile,
    quantile_interval,
    step_medians,
    throughput,
)
from pennyweight.latency import QUANTILES

from . import charts
from .documents import JsonObject
from .html import Html, element, table
from .runs import Run, is_original, row_figures, row_name
from .sections import chart, section, titled
from .summary import table_cells

QUANTILE_HEADER = ["model", "engine", *QUANTILES, "calls"]


def speed_section(runs: Sequence[Run]) -> Html:
    """Draw how each row's latencies are distributed, its cold start by parts, and its memory."""
    note = "In the distributions the coloured mark is the median; the dark ones are p90, p99 and p99.9 as far as known."
    drawn = [*_latencies(runs), *_starts(runs), *_throughputs(runs), *_sustained(runs), *_paced(runs)]
    return section("Speed and memory", *drawn, note=note, class_="charts")


def _latencies(runs: Sequence[Run]) -> list[Html]:
    drawn = []
    for index, run in enumerate(runs):
        rows = [row for row in run.timed if not is_original(row)] or run.timed
        if not rows:
            continue
        title = titled("How latency is distributed", run, len(runs) > 1)
        with charts.drawing():
            figure = charts.svg(charts.ridges([_ridge(row) for row in rows]), f"ridge{index}", _ridges_text(rows))
        cells = [[*table_cells(run, row)[:2], *_quantile_cells(row)] for row in rows]
        drawn.append(chart(figure, title, table(QUANTILE_HEADER, cells, 2, caption=f"{title}, µs with 95 % intervals")))
    return drawn


def _starts(runs: Sequence[Run]) -> list[Html]:
    drawn: list[Html] = []
    for index, run in enumerate(runs):
        # The original's bars are twenty times as long: beside them nothing else could be seen. The table has them.
        shown = [row for row in run.rows if not is_original(row)] or run.rows
        several, rows = len(runs) > 1, [(row_name(row), row) for row in shown]
        starts = [charts.Bar(name, _start_parts(row), _milliseconds(row)) for name, row in rows if row["cold_starts"]]
        title = titled("Cold start: from process start to the first label", run, several)
        drawn += _bar_chart(starts, "ms", title, f"start{index}")
        steps = [
            charts.Bar(name, parts, f"{sum(value for _, value in parts):.3g} µs")
            for name, row in rows
            if (parts := [(step, value / 1000) for step, value in step_medians(row).items()])
        ]
        drawn += _bar_chart(steps, "µs", titled("Where one answer's time goes", run, several), f"steps{index}")
        sizes = [
            charts.Bar(name, parts, f"{sum(value for _, value in parts):,.0f} MB")
            for name, row in rows
            if (parts := _memory_parts(row))
        ]
        drawn += _bar_chart(sizes, "MB", titled("Memory of the process", run, several), f"memory{index}")
    return drawn


def _throughputs(runs: Sequence[Run]) -> list[Html]:
    """Draw images per second against the size of the batch."""
    drawn = []
    for index, run in enumerate(runs):
        found = [(row_name(row), rates) for row in run.timed if len(rates := throughput(row)) > 1]
        series = [
            charts.Series(name, list(rates), [rate for rate, _ in rates.values()], colour)
            for colour, (name, rates) in enumerate(found)
        ]
        if not series:
            continue
        title = titled("Throughput by size of batch", run, len(runs) > 1)
        cells = [
            [name, str(size), digits(rate), "" if ends is None else f"{digits(ends[0])}–{digits(ends[1])}"]
            for name, rates in found
            for size, (rate, ends) in rates.items()
        ]
        header = ["row", "batch", "images per second", "95 % interval"]
        text = f"{title}: " + "; ".join(f"{name} {digits(max(rates.values())[0])} at most" for name, rates in found)
        with charts.drawing():
            lines = charts.lines(series, "images in a batch", "images per second", ("x", "y"))
            figure = charts.svg(lines, f"throughput{index}", text)
        drawn.append(chart(figure, title, table(header, cells, caption=title)))
    return drawn


def _sustained(runs: Sequence[Run]) -> list[Html]:
    """Draw p50 and p99 while a device is kept busy, to see it heat up."""
    drawn = []
    for index, run in enumerate(runs):
        rows = [row for row in run.timed if row.get("sustained")]
        series = [
            charts.Series(f"{row_name(row)}, {name}", *places, colour, dashed=name == "p99")
            for colour, row in enumerate(rows)
            for name in ("p50", "p99")
            if (places := _spans(row, name))
        ]
        if not series:
            continue
        title = titled("Sustained: latency while it keeps on answering", run, len(runs) > 1)
        cells = [[row.name, f"{x:.0f}", f"{y:.3g}"] for row in series for x, y in zip(row.x, row.y, strict=True)]
        whole = table(["row", "from s", "µs"], cells, caption=title)
        if max(len(row.x) for row in series) < 2:
            drawn.append(element("figure", element("figcaption", title), whole))
            continue
        text = f"{title}: " + "; ".join(f"{row.name} from {row.y[0]:.3g} to {row.y[-1]:.3g} µs" for row in series)
        with charts.drawing():
            figure = charts.svg(charts.lines(series, "seconds", "latency, µs", ("y",)), f"sustained{index}", text)
        drawn.append(chart(figure, title, whole))
    return drawn


def _spans(row: JsonObject, name: str) -> tuple[list[float], list[float]] | None:
    """Give the seconds and the µs of the spans that have this quantile, or None."""
    found = [(one["start_s"], one["quantiles"][name]) for one in row["sustained"] if one["quantiles"].get(name)]
    return ([start for start, _ in found], [value / 1000 for _, value in found]) if found else None


def _paced(runs: Sequence[Run]) -> list[Html]:
    """Give latencies of calls paced as a camera paces them."""
    drawn = []
    for run in runs:
        rows = [(row, other) for row in run.timed if (other := paced(row))]
        cells = [
            [*table_cells(run, row)[:2], *_quantile_cells(other), f"{sum(one['late'] for one in other['rounds']):,}"]
            for row, other in rows
        ]
        if cells:
            title = titled("Latency at the camera's pace", run, len(runs) > 1)
            whole = table([*QUANTILE_HEADER, "late"], cells, 2, caption=f"{title}, µs")
            drawn.append(element("figure", element("figcaption", title), whole, class_="wide"))
    return drawn


def _ridge(row: JsonObject) -> charts.Ridge:
    samples = [np.maximum(np.asarray(one["samples"], float), 1.0) / 1000 for one in row["rounds"]]
    weights = [np.full(len(one["samples"]), float(one["every"])) for one in row["rounds"]]
    figures = row_figures(row, None)
    quantiles = {name: figures[name] / 1000 for name in ("p50", "p90", "p99", "p99.9") if figures[name] is not None}
    return charts.Ridge(row_name(row), row["engine"], np.concatenate(samples), np.concatenate(weights), quantiles)


def _ridges_text(rows: Sequence[JsonObject]) -> str:
    medians = "; ".join(f"{row_name(row)} median {microseconds(row_figures(row, None)['p50'])} µs" for row in rows)
    return f"Distributions of the latency of one image: {medians}"


def _quantile_cells(row: JsonObject) -> list[str]:
    cells = []
    for name in QUANTILES:
        text, ends = microseconds(quantile(row, name)), quantile_interval(row, name)
        cells.append(f"{text} ({microseconds(ends[0])}–{microseconds(ends[1])})" if text and ends else text)
    return [*cells, f"{sum(one['calls'] for one in row['rounds']):,}"]


def _start_parts(row: JsonObject) -> list[tuple[str, float]]:
    return [(name, value / 1e6) for name, value in cold_parts(row).items() if name != "total"]


def _milliseconds(row: JsonObject) -> str:
    return f"{cold_parts(row)['total'] / 1e6:,.0f} ms"


def _memory_parts(row: JsonObject) -> list[tuple[str, float]]:
    found = memory(row)
    peak, steady = found.get("peak"), found.get("steady")
    if peak is None or steady is None or steady > peak:
        return [(name, value / 1e6) for name, value in found.items()][-1:]
    return [("steady", steady / 1e6), ("more at the peak", (peak - steady) / 1e6)]


def _bar_chart(rows: Sequence[charts.Bar], unit: str, title: str, identifier: str) -> list[Html]:
    if not rows:
        return []
    names = list(dict.fromkeys(name for row in rows for name, _ in row.parts))
    text = f"{title}: " + "; ".join(f"{row.name} {row.total}" for row in rows)
    with charts.drawing():
        figure = charts.svg(charts.bars(rows, unit), identifier, text)
    cells = [
        [row.name, *(f"{dict(row.parts)[name]:,.1f}" if name in dict(row.parts) else "" for name in names), row.total]
        for row in rows
    ]
    return [chart(figure, title, table(["row", *(f"{name}, {unit}" for name in names), "all"], cells, caption=title))]

"""The report's sections of measurements: verdicts, the table, the charts of accuracy, latency, starts and memory."""

from __future__ import annotations

from collections.abc import Sequence

from pennyweight.bench import (
    microseconds,
)

from . import charts
from .documents import JsonObject, number
from .html import Content, Html, element, joined, table
from .runs import Run, is_original, row_figures, row_key, row_name
from .summary import (
    COLUMNS,
    MARKS,
    baseline_name,
    conditions,
    gaps,
    table_cells,
    table_header,
    taint_lines,
)


def section(title: str, *content: Content, note: str | None = None, class_: str | None = None) -> Html:
    """Give a section with its heading; nothing where there is no content."""
    if not any(content):
        return Html()
    said = element("p", note, class_="note") if note else None
    return element("section", element("h2", title), said, element("div", *content, class_=class_))


def chart(figure: Html, title: str, figures: Html) -> Html:
    """Give a chart with its title and, to unfold, the same as a table."""
    unfold = element("details", element("summary", "as a table"), figures)
    return element("figure", element("figcaption", title), figure, unfold)


def verdict_section(runs: Sequence[Run]) -> Html:
    """Say first what was decided, per artifact and engine, and what spoils it."""
    parts: list[Content] = []
    for run in runs:
        if len(runs) > 1:
            parts.append(element("h3", run.device))
        if run.taints:
            lines = [element("li", element("strong", taint["cause"]), f": {taint['remedy']}") for taint in run.taints]
            words = "This run is tainted: its latencies say less than they seem to."
            parts.append(element("div", element("p", words), element("ul", *lines), class_="taint", role="note"))
        shown = [row for row in run.rows if not is_original(row) and row["status"] != "absent"]
        parts.append(element("ul", *(_card(run, row) for row in shown), class_="cards"))
        away = [row for row in run.rows if row["status"] == "absent"]
        if away:
            words = "; ".join(f"{row_name(row)}: {row['reason']}" for row in away)
            parts.append(element("p", f"Not here: {words}.", class_="note"))
    return section("Verdicts", *parts)


def table_section(runs: Sequence[Run]) -> Html:
    """Give the table of all rows, one per device, and why a cell is empty."""
    parts: list[Content] = []
    for run in runs:
        rows = [_table_row(run, row) for row in run.rows]
        caption = f"{run.device}; {baseline_name(run)}" if run.timed else run.device
        parts.append(table(table_header(), rows, 2, caption=caption, class_="figures"))
        said = gaps(run)
        if said:
            parts.append(element("details", element("summary", f"Empty cells ({len(said)})"), _list(said)))
    note = (
        "Latency of one image, from array to label, in µs; intervals at 95 %. "
        "Flips: right answers lost, won, and changed from one wrong answer to another."
    )
    return section("All figures", *parts, note=note)


def trade_off_section(runs: Sequence[Run]) -> Html:
    """Draw accuracy against latency against size, with the Pareto front, per device."""
    drawn = [_trade_off(run, f"trade{index}", len(runs) > 1) for index, run in enumerate(runs)]
    note = (
        "Up and left is better, and smaller. An outlined point is on the Pareto front: no other that passed is as "
        "accurate, as fast and as small. The dashed line is the front of accuracy and latency alone; both are of the "
        "measured figures, and points whose intervals overlap may change places."
    )
    return section("Accuracy, latency, size", *drawn, note=note, class_="charts")


def devices_section(runs: Sequence[Run]) -> Html:
    """Set devices side by side: the median of each row on each."""
    timed = [run for run in runs if run.timed]
    if len(timed) < 2:
        return Html()
    keys = list(dict.fromkeys(row_key(row) for run in timed for row in run.timed if not is_original(row)))
    names = {row_key(row): row_name(row) for run in timed for row in run.timed}
    columns = []
    for run in timed:
        rows = {row_key(row): row_figures(row, None) for row in run.timed}
        columns.append((run.device, [_spread(rows.get(key)) for key in keys]))
    if not keys:
        return Html()
    title = "The same artifacts on each device"
    text = f"Median latency of {len(keys)} rows on {', '.join(run.device for run in timed)}; the table has the figures"
    with charts.drawing():
        figure = charts.svg(charts.dots([names[key] for key in keys], columns), "devices", text)
    cells = [[names[key], *(_spread_text(one[k]) for _, one in columns)] for k, key in enumerate(keys)]
    whole = table(["row", *(f"{name}, µs" for name, _ in columns)], cells, caption=title)
    return section("Devices side by side", chart(figure, title, whole), class_="charts")


def environment_section(runs: Sequence[Run]) -> Html:
    """Say what everything was measured on."""
    parts = []
    for run in runs:
        facts = [joined(element("dt", name), element("dd", value)) for name, value in conditions(run)]
        spoilt = [f"tainted: {line}" for line in taint_lines(run)]
        parts.append(
            element("div", element("h3", run.device), element("dl", *facts), _list(spoilt) if spoilt else None)
        )
    return section("Environment", *parts, class_="environment")


def _card(run: Run, row: JsonObject) -> Html:
    status = row["parity"]["status"] if row["status"] != "failed" else "failed"
    badge = element(
        "span", f"{MARKS.get(status, '–')} {status or 'no verdict'}", class_=f"badge {_badge_class(status)}"
    )
    figures = row_figures(row, run.baseline)
    facts = []
    if figures["accuracy"] is not None:
        facts.append(f"{100 * figures['accuracy']:.2f} % right")
    if figures["p50"] is not None:
        facts.append(f"{microseconds(figures['p50'])} µs")
    if figures["bytes"]:
        facts.append(f"{figures['bytes'] / 1000:,.1f} kB")
    reason = row["reason"] if status == "failed" else row["parity"]["reason"]
    return element(
        "li",
        badge,
        element("strong", row["artifact"]),
        element("span", f" on {row_name(row).partition(' on ')[2]}", class_="engine"),
        element("p", *(element("span", fact) for fact in facts), class_="facts") if facts else None,
        element("p", reason, class_="reason") if reason else None,
        class_=f"card {_badge_class(status)}",
    )


def _badge_class(status: str) -> str:
    return {"pass": "good", "fail": "bad", "failed": "bad", "inconclusive": "open"}.get(status, "none")


def _table_row(run: Run, row: JsonObject) -> list[Content]:
    missing = row_figures(row, run.baseline)["missing"]
    artifact, engine, *cells, verdict = table_cells(run, row)
    keys = [key for _, key in COLUMNS]
    shown: list[Content] = [
        cell if cell else element("span", "–", class_="empty", title=missing.get(key, ""))
        for key, cell in zip(keys, cells, strict=True)
    ]
    return [artifact, engine, *shown, element("span", verdict, class_=f"verdict {_badge_class(verdict)}")]


def _trade_off(run: Run, identifier: str, several: bool) -> Html:
    points = _points(run)
    if not points:
        return Html()
    title = titled("Accuracy against latency against size", run, several)
    text = f"{len(points)} points of accuracy against median latency, the area of each its file's size: "
    rows = {point.number: row for point, row in points}
    text += "; ".join(
        f"{point.number} {row_name(row)} {point.accuracy:.2f} %, {point.microseconds:.3g} µs" for point, row in points
    )
    with charts.drawing():
        figure = charts.svg(charts.trade_off([point for point, _ in points]), identifier, text)
    cells = [
        [
            str(point.number),
            row_name(rows[point.number]),
            f"{point.accuracy:.2f} ({point.low:.2f}–{point.high:.2f})",
            microseconds(1000 * point.microseconds),
            "" if point.size is None else f"{point.size / 1000:,.1f}",
            "yes" if point.best else "" if point.allowed else "failed parity",
        ]
        for point, _ in points
    ]
    legend = table(["", "row", "accuracy %", "µs", "kB", "front"], cells, 2, caption="the points, by latency")
    return element("figure", element("figcaption", title), element("div", figure, legend, class_="beside"))


def _points(run: Run) -> list[tuple[charts.Point, JsonObject]]:
    found = []
    for row in run.timed:
        figures = row_figures(row, None)
        if figures["accuracy"] is None:
            continue
        low, high = figures["accuracy_interval"] or [figures["accuracy"]] * 2
        point = charts.Point(
            number=0,
            microseconds=figures["p50"] / 1000,
            accuracy=100 * figures["accuracy"],
            low=100 * min(low, figures["accuracy"]),
            high=100 * max(high, figures["accuracy"]),
            size=number(figures["bytes"]),
            engine=row["engine"],
            allowed=row["parity"]["status"] != "fail",
            best=False,
        )
        found.append((point, row))
    found.sort(key=lambda pair: pair[0].microseconds)
    allowed = [point for point, _ in found if point.allowed]
    return [
        (point._replace(number=k + 1, best=point.allowed and not any(beats(one, point) for one in allowed)), row)
        for k, (point, row) in enumerate(found)
    ]


def beats(one: charts.Point, other: charts.Point) -> bool:
    """Whether ``one`` is as accurate, as fast and as small as ``other``, and better in one of them."""
    first, second = (
        (-point.accuracy, point.microseconds, float("inf") if point.size is None else point.size)
        for point in (one, other)
    )
    return all(a <= b for a, b in zip(first, second, strict=True)) and first != second


def _spread(figures: JsonObject | None) -> tuple[float, float, float] | None:
    if figures is None:
        return None
    low, high = figures["median_interval"] or (figures["p50"], figures["p50"])
    return figures["p50"] / 1000, low / 1000, high / 1000


def _spread_text(spread: tuple[float, float, float] | None) -> str:
    if spread is None:
        return ""
    value, low, high = (microseconds(1000 * one) for one in spread)
    return f"{value} ({low}–{high})"


def titled(title: str, run: Run, several: bool) -> str:
    """Name the device in a title where there are several."""
    return f"{title}: {run.device}" if several else title


def _list(lines: Sequence[str]) -> Html:
    return element("ul", *(element("li", line) for line in lines))

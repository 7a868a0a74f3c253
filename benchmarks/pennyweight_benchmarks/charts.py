"""The report's charts: matplotlib's SVG, made to stand inside a page and to follow its colours, light and dark."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from .html import Html, cleaned, element

# Colours that no chart uses otherwise stand for the page's own, which differ between light and dark.
THEME = {
    "#010001": "var(--ink)",
    "#010002": "var(--muted)",
    "#010003": "var(--line)",
    "#010004": "var(--paper)",
    "#010011": "var(--blue)",
    "#010012": "var(--green)",
    "#010013": "var(--purple)",
    "#010014": "var(--amber)",
    "#010015": "var(--red)",
    "#010016": "var(--teal)",
    "#010017": "var(--pink)",
}
INK, MUTED, GRID, PAPER, BLUE, GREEN, PURPLE, AMBER, RED, TEAL, PINK = THEME
ENGINE_COLOURS = {"ai-edge-litert": BLUE, "tflite-runtime": GREEN, "onnxruntime": PURPLE}
SERIES = (BLUE, AMBER, GREEN, PURPLE, TEAL, PINK, RED)
# Drawn for a phone's width in its own text size; a wide screen puts two side by side.
WIDTH = 4.7
LONGEST_NAME = 44
STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "pennyweight",
    # Names are anybody's: a dollar sign isn't a formula.
    "text.parse_math": False,
}
_METADATA = re.compile(r"<metadata>.*?</metadata>|<style type=\"text/css\">.*?</style>", re.DOTALL)
_FONT = re.compile(r"font: (\d[\d.]*)px [^;\"]*")
_IDENTIFIER = re.compile(r'(\bid="|url\(#|href="#)')
_UNUSED = re.compile(
    r' id="(?:figure|axes|patch|text|line2d|xtick|ytick|matplotlib\.axis|PathCollection|FillBetween)[^"]*"'
)


class Point(NamedTuple):
    """One row in accuracy against latency against size: µs, %, its interval, bytes; whether it may be on the front."""

    number: int
    microseconds: float
    accuracy: float
    low: float
    high: float
    size: float | None
    engine: str
    allowed: bool
    best: bool


class Ridge(NamedTuple):
    """One row's latencies in µs with weights, and its quantiles."""

    name: str
    engine: str
    samples: Any
    weights: Any
    quantiles: dict[str, float]


class Bar(NamedTuple):
    """A bar of named parts, or one part."""

    name: str
    parts: list[tuple[str, float]]
    total: str


class Series(NamedTuple):
    """A named line; lines of one ``colour`` belong together, and the dashed one is the second of them."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int = 0
    dashed: bool = False


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Set the style; and let names in any script pass, as the page's fonts and not matplotlib's will show them."""
    with warnings.catch_warnings(), matplotlib.rc_context(STYLE):
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from", category=UserWarning)
        warnings.filterwarnings("ignore", message=r"Matplotlib currently does not support", category=UserWarning)
        yield


def svg(figure: Figure, identifier: str, text: str) -> Html:
    """Give a figure as an inline SVG with ``text`` as its alternative; ``identifier`` keeps its names apart."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    drawn = _METADATA.sub("", cleaned(buffer.getvalue()))
    inner = drawn[drawn.index(">", drawn.index("<svg")) + 1 : drawn.rindex("</svg>")]
    for colour, name in THEME.items():
        inner = inner.replace(colour, name)
    inner = _FONT.sub(r"font-size: \1px", _UNUSED.sub("", inner))
    inner = _IDENTIFIER.sub(lambda match: f"{match[1]}{identifier}-", inner).replace("xlink:href", "href")
    width, height = (72 * float(inches) for inches in figure.get_size_inches())
    return element("svg", Html(inner), viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=text, class_="chart")


def short(name: str) -> str:
    """Cut a name to what a chart has room for."""
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def engine_colour(engine: str) -> str:
    """Give an engine's colour, the same in every chart."""
    return ENGINE_COLOURS.get(engine, AMBER)


def trade_off(points: Sequence[Point]) -> Figure:
    """Draw accuracy with its interval against latency; area is size, the line the front, numbers name the points."""
    figure = Figure(figsize=(WIDTH, 3.6))
    axes = figure.add_axes((0.125, 0.13, 0.845, 0.74))
    ordered = sorted(points, key=lambda point: (point.microseconds, -point.accuracy))
    biggest = max((point.size or 0 for point in ordered), default=0) or 1
    for point in ordered:
        colour = engine_colour(point.engine)
        ends = [[point.accuracy - point.low], [point.high - point.accuracy]]
        axes.errorbar(point.microseconds, point.accuracy, yerr=ends, fmt="none", ecolor=colour, alpha=0.45, capsize=3)
        area = 40 + 260 * (point.size or 0) / biggest
        axes.scatter(
            point.microseconds,
            point.accuracy,
            s=area,
            marker="o" if point.allowed else "X",
            color=colour,
            alpha=0.75 if point.best else 0.35,
            edgecolors=INK if point.best else colour,
            linewidths=1.4 if point.best else 0.6,
            zorder=3,
        )
    axes.set(ylabel="accuracy, %")
    axes.margins(y=0.12)
    axes.set_ylim(axes.get_ylim())
    _microseconds(axes, *_widened([point.microseconds for point in ordered]))
    front = _front_line(ordered)
    if front:
        # Behind the last point nothing is better, so the line goes on to the edge.
        x, y = zip(*[(front[0][0], axes.get_ylim()[0]), *front, (axes.get_xlim()[1], front[-1][1])], strict=True)
        axes.step(x, y, where="post", color=INK, linewidth=1.1, linestyle=(0, (4, 3)), zorder=2)
    axes.grid(visible=True, which="major", axis="y")
    _number_points(figure, axes, ordered)
    return figure


def ridges(rows: Sequence[Ridge]) -> Figure:
    """Draw each row's latencies as a histogram on one logarithmic axis, with p50 and the others as marks."""
    height = 0.52 * len(rows) + 0.62
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((0.03, 0.5 / height, 0.94, 1 - 0.62 / height))
    low = min(min(row.quantiles.values()) for row in rows) / 1.6
    low = min([low, *(float(np.min(row.samples)) / 1.15 for row in rows if len(row.samples))])
    high = max(max(row.quantiles.values()) for row in rows) * 1.3
    edges = np.geomspace(low, high, 181)
    for index, row in enumerate(rows):
        base, colour = len(rows) - 1 - index, engine_colour(row.engine)
        axes.axhline(base, color=GRID, linewidth=0.8)
        if len(row.samples):
            counts, _ = np.histogram(row.samples, edges, weights=row.weights)
            axes.stairs(base + 0.52 * counts / counts.max(), edges, baseline=base, fill=True, color=colour, alpha=0.45)
        for name, value in row.quantiles.items():
            middle = name == "p50"
            axes.plot([value] * 2, [base, base + (0.6 if middle else 0.22)], color=colour if middle else INK, lw=1.6)
        axes.text(low, base + 0.66, short(row.name), va="bottom", fontsize=8.6)
    _microseconds(axes, low, high)
    axes.set(xlabel="latency of one image, µs (logarithmic)", ylim=(-0.08, len(rows)), yticks=[])
    axes.spines["left"].set_visible(False)
    return figure


def bars(rows: Sequence[Bar], unit: str) -> Figure:
    """Draw horizontal bars, stacked where they have parts; names stand above them, so that a phone has room."""
    names = list(dict.fromkeys(part for row in rows for part, _ in row.parts))
    legend = 0.3 * -(-len(names) // 3) if len(names) > 1 else 0.0
    height = 0.46 * len(rows) + 0.6 + legend
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((0.03, 0.5 / height, 0.94, 1 - (0.6 + legend) / height))
    widest = max(sum(value for _, value in row.parts) for row in rows)
    unnamed = set(names)
    for index, row in enumerate(rows):
        base, left = len(rows) - 1 - index, 0.0
        for part, value in row.parts:
            look: Any = {"color": SERIES[names.index(part) % len(SERIES)], "alpha": 0.85, "edgecolor": PAPER}
            label = part if part in unnamed else None
            axes.barh(base, value, 0.36, left=left, label=label, linewidth=0.6, **look)
            unnamed.discard(part)
            left += value
        axes.text(0, base + 0.24, short(row.name), va="bottom", fontsize=8.6)
        axes.text(left + 0.012 * widest, base, row.total, va="center", fontsize=8.6, color=MUTED)
    axes.set(xlim=(0, 1.16 * widest), ylim=(-0.35, len(rows) - 0.2), yticks=[], xlabel=unit)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=True, axis="x")
    if len(names) > 1:
        figure.legend(loc="upper left", bbox_to_anchor=(0.02, 1.0), ncols=3, frameon=False, fontsize=8.6)
    return figure


def lines(rows: Sequence[Series], x: str, y: str, logarithmic: Sequence[str] = ()) -> Figure:
    """Draw lines over one axis; ``logarithmic`` names "x", "y", both or none."""
    legend = 0.2 * len(rows) + 0.05 if len(rows) > 1 else 0.0
    height = 3.1 + legend
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((0.135, 0.5 / height, 0.835, 2.3 / height))
    for row in rows:
        mark, dash = "o" if len(row.x) < 12 else None, "--" if row.dashed else "-"
        colour = SERIES[row.colour % len(SERIES)]
        axes.plot(row.x, row.y, dash, color=colour, linewidth=1.8, marker=mark, ms=4, label=short(row.name))
    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        if name in logarithmic and all(value > 0 for row in rows for value in (row.x if name == "x" else row.y)):
            axes.set(**{f"{name}scale": "log"})
            low, high = axis.get_view_interval()
            axis.set_major_locator(_logarithmic(low, high))
            axis.set_major_formatter(_short_number)
            axis.set_minor_formatter(NullFormatter())
    if "x" in logarithmic:
        axes.set_xticks(sorted({value for row in rows for value in row.x}))
    # Above the axis and lying, it takes no width from a phone.
    axes.set(xlabel=x)
    axes.set_title(y, loc="left", fontsize=9.5, color=MUTED)
    axes.grid(visible=True)
    if legend:
        figure.legend(loc="upper left", bbox_to_anchor=(0.02, 1.0), ncols=1, frameon=False, fontsize=8.6)
    return figure


def dots(rows: Sequence[str], series: Sequence[tuple[str, Sequence[tuple[float, float, float] | None]]]) -> Figure:
    """Draw one dot with its interval per series (device) and row, on one logarithmic axis of µs."""
    height = 0.5 * len(rows) + 0.6 + 0.26 * len(series)
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((0.03, 0.5 / height, 0.94, 1 - (0.6 + 0.26 * len(series)) / height))
    values = [value for _, column in series for one in column if one for value in one]
    for number, (name, column) in enumerate(series):
        colour, label = SERIES[number % len(SERIES)], short(name)
        shift = 0.11 * (number - (len(series) - 1) / 2)
        for index, one in enumerate(column):
            if one is None:
                continue
            value, low, high = one
            place, ends = len(rows) - 1 - index - shift, [[max(value - low, 0)], [max(high - value, 0)]]
            axes.errorbar(value, place, xerr=ends, fmt="o", color=colour, ms=6, capsize=3, label=label)
            label = "_nolegend_"
    for index, name in enumerate(rows):
        axes.text(0, len(rows) - 1 - index + 0.28, short(name), fontsize=8.6, transform=axes.get_yaxis_transform())
        axes.axhline(len(rows) - 1.5 - index, color=GRID, linewidth=0.8)
    _microseconds(axes, min(values) / 1.4, max(values) * 1.4)
    axes.set(ylim=(-0.5, len(rows) - 0.35), yticks=[])
    axes.spines["left"].set_visible(False)
    figure.legend(loc="upper left", bbox_to_anchor=(0.02, 1.0), ncols=1, frameon=False, fontsize=8.6)
    return figure


def _front_line(points: Sequence[Point]) -> list[tuple[float, float]]:
    """Give the front in accuracy and latency alone: points that no faster one equals or beats; by latency."""
    front: list[tuple[float, float]] = []
    for point in points:
        if point.allowed and (not front or point.accuracy > front[-1][1]):
            front.append((point.microseconds, point.accuracy))
    return front


def _widened(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = max((high / low) ** 0.08, 1.25)
    return low / room, high * room


def _microseconds(axes: Axes, low: float, high: float) -> None:
    """Give the axes a logarithmic scale of µs, with as many numbers as it has room for."""
    axes.set(xscale="log", xlim=(low, high), xlabel="median latency of one image, µs (logarithmic)")
    axes.xaxis.set_major_locator(_logarithmic(low, high))
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(visible=True, axis="x", which="major")


def _logarithmic(low: float, high: float) -> LogLocator:
    return LogLocator(subs=(1, 2, 5) if np.log10(high / low) < 2.2 else (1,), numticks=40)


def _short_number(value: float, _: Any = None) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g} M"
    return f"{value / 1e3:g} k" if value >= 1e4 else f"{value:g}"


def _number_points(figure: Figure, axes: Axes, points: Sequence[Point]) -> None:
    """Put each point's number above the axes, evenly apart where they crowd, with a line down to it."""
    places = [float(axes.transData.transform((point.microseconds, 0))[0]) for point in points]
    gap = 13.0 * figure.dpi / 72
    spread = list(places)
    for _ in range(200):
        for index in range(1, len(spread)):
            lack = gap - (spread[index] - spread[index - 1])
            if lack > 0:
                spread[index - 1] -= lack / 2
                spread[index] += lack / 2
    left, right = axes.bbox.x0, axes.bbox.x1
    shift = max(left - spread[0], 0) if spread else 0
    shift = min(shift, right - spread[-1]) if spread and spread[-1] + shift > right else shift
    for point, place in zip(points, spread, strict=True):
        where = ((place + shift - left) / (right - left), 1.08)
        colour = engine_colour(point.engine)
        axes.annotate(
            str(point.number),
            (point.microseconds, point.high),
            where,
            textcoords="axes fraction",
            ha="center",
            va="center",
            color=colour,
            weight="bold",
            arrowprops={"arrowstyle": "-", "color": colour, "alpha": 0.5, "shrinkA": 7, "shrinkB": 1},
        )

"""A demo run's pictures: digits with predictions, the loss curve, errors, confusion, accuracy against latency."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pennyweight.tallies import chosen_classes

Array = npt.NDArray[Any]
JsonObject = dict[str, Any]

INK, MUTED, GRID = "#1c2733", "#66727f", "#dde3e9"
GOOD, BAD, LINE = "#1a7f5a", "#c0392b", "#2463a8"
# Colour tells the engine, shape the precision; the same in every picture of a run.
ENGINE_COLOURS = {"ai-edge-litert": "#2463a8", "tflite-runtime": "#1a7f5a", "onnxruntime": "#8e44ad"}
ORIGINAL_COLOUR = "#b9770e"
STYLE: Any = {
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titleweight": "bold",
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "figure.dpi": 110,
    "savefig.facecolor": "white",
}
MOST_ERRORS = 100
LABEL_SIZE, LABEL_INCHES, AXES_INCHES = 8.5, 0.52, 3.7


def digits_picture(
    path: Path, images: Array, truth: Array, probabilities: Array, labels: Sequence[str], seed: int = 0
) -> None:
    """Draw 64 random images (n, height, width[, 1 or 3]) with label → prediction; wrong ones stand out."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(images))[:64])
    predicted = chosen_classes(probabilities)
    captions = [f"{labels[truth[index]]} → {labels[predicted[index]]}" for index in chosen]
    right = predicted[chosen] == truth[chosen]
    title = f"{len(chosen)} random test images: label → prediction ({int((~right).sum())} wrong)"
    _gallery(path, title, images[chosen], captions, [GOOD if one else BAD for one in right], 8)


def errors_picture(path: Path, images: Array, truth: Array, probabilities: Array, labels: Sequence[str]) -> None:
    """Draw the wrongly classified images, the most confident first, up to 100, and say how many there are."""
    predicted = chosen_classes(probabilities)
    confidence = _confidence(probabilities)
    wrong = np.flatnonzero(predicted != truth)
    shown = wrong[np.argsort(-confidence[wrong], kind="stable")][:MOST_ERRORS]
    captions = [
        f"{labels[truth[index]]} → {labels[predicted[index]]}  {100 * confidence[index]:.0f} %" for index in shown
    ]
    share = f"{len(wrong):,} of {len(truth):,} test images ({100 * len(wrong) / len(truth):.2f} %) are wrong"
    some = f"the {len(shown)} most confident" if len(shown) < len(wrong) else "all of them"
    title = f"{share}\n{some}: label → prediction, probability" if len(wrong) else share
    _gallery(path, title, images[shown], captions, [BAD] * len(shown), 10)


def loss_picture(path: Path, losses: Sequence[float]) -> None:
    """Draw the loss of each epoch on a logarithmic axis."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.subplots()
        epochs = np.arange(1, len(losses) + 1)
        axes.plot(epochs, losses, color=LINE, linewidth=2)
        for epoch, shift in ((1, (8, 2)), (len(losses), (8, 0))):
            place = (epoch, losses[epoch - 1])
            axes.annotate(f"{losses[epoch - 1]:.4f}", place, shift, textcoords="offset points", va="center", color=LINE)
        axes.set(yscale="log", xlabel="epoch", ylabel="loss (cross-entropy)", title="Loss while training")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.margins(x=0.1)
        axes.set_xlim(left=0)
        axes.grid(color=GRID, which="both", linewidth=0.6)
        axes.set_axisbelow(True)
        figure.savefig(path)


def confusion_picture(path: Path, truth: Array, probabilities: Array, labels: Sequence[str], title: str) -> None:
    """Draw how often each label was taken for each: shares of the row as colour, counts as numbers."""
    classes = len(labels)
    predicted = chosen_classes(probabilities)
    counts = np.bincount(truth * classes + predicted, minlength=classes * classes).reshape(classes, classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # Errors are rare: on the colours of the whole they would all look white.
    errors = shares - np.diag(np.diag(shares))
    with matplotlib.rc_context({**STYLE, "axes.spines.left": False, "axes.spines.bottom": False}):
        side = min(16.0, 2.2 + 0.58 * classes)
        figure = Figure(figsize=(side, side), layout="constrained")
        axes = figure.subplots()
        axes.imshow(errors, cmap="Reds", vmin=0, vmax=max(1.3 * float(errors.max()), 1e-9))
        axes.imshow(np.where(np.eye(classes, dtype=bool), shares, np.nan), cmap="Greens", vmin=0, vmax=1.6)
        for row in range(classes):
            for column in range(classes):
                if counts[row, column]:
                    dark = row != column and errors[row, column] > 0.6 * errors.max()
                    colour = "white" if dark else INK
                    axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", fontsize=9, color=colour)
        axes.set(xlabel="prediction", ylabel="label", title=title)
        axes.set_xticks(range(classes), labels)
        axes.set_yticks(range(classes), labels)
        axes.tick_params(length=0)
        figure.savefig(path)


def trade_off_picture(path: Path, results: JsonObject) -> None:
    """Draw accuracy, with its interval, against the median latency of every row that has both."""
    with matplotlib.rc_context(STYLE):
        trade_off_figure(results).savefig(path)


def trade_off_figure(results: JsonObject) -> Figure:
    """Give the figure of ``trade_off_picture``: the points, and each one's name above the axes with a line down."""
    rows = [row for row in results["rows"] if row["accuracy"] is not None and row["median_ns"]]
    rows.sort(key=lambda row: row["median_ns"])
    figure = Figure(figsize=(11, 6))
    axes = figure.subplots()
    figure.subplots_adjust(left=0.07, right=0.93)
    for row in rows:
        accuracy, low, high = (100 * value for value in (row["accuracy"], *row["accuracy_interval"]))
        marker = "o" if row["artifact"].startswith(("float", "model")) else "s"
        ends = [[accuracy - low], [high - accuracy]]
        place, colour = row["median_ns"] / 1000, _colour(row)
        axes.errorbar(place, accuracy, yerr=ends, fmt=marker, color=colour, capsize=4, ms=7, clip_on=False)
    axes.set(xscale="log", xlabel="median latency of one image, µs", ylabel="accuracy %, with its 95 % interval")
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.margins(x=0.04, y=0.12)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    names = [f"{row['artifact']}\n{row['engine']}\n{_time(row['median_ns'] / 1000)}" for row in rows]
    levels = _levels(figure, axes, [row["median_ns"] / 1000 for row in rows], names)
    height = AXES_INCHES + LABEL_INCHES * (max(levels, default=0) + 1) + 1.1
    figure.set_figheight(height)
    figure.subplots_adjust(bottom=0.65 / height, top=(0.65 + AXES_INCHES) / height)
    for row, name, level in zip(rows, names, levels, strict=True):
        axes.annotate(
            name,
            (row["median_ns"] / 1000, 100 * row["accuracy"]),
            (row["median_ns"] / 1000, 1.02 + level * LABEL_INCHES / AXES_INCHES),
            textcoords=("data", "axes fraction"),
            color=_colour(row),
            fontsize=LABEL_SIZE,
            linespacing=1.1,
            arrowprops={"arrowstyle": "-", "color": _colour(row), "alpha": 0.5, "relpos": (0, 0), "shrinkA": 0},
        )
    figure.suptitle("Accuracy against latency: up and left is better", x=0.07, ha="left", weight="bold")
    return figure


def _levels(figure: Figure, axes: Axes, places: Sequence[float], names: Sequence[str]) -> list[int]:
    """Give the level above the axes for each name, which starts at its place and runs to the right.

    ``places`` ascend. Of names that would overlap, the one further left stands higher: so no line down from a name to
    its point meets another name.
    """
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    levels: list[int] = []
    taken: list[tuple[float, int]] = []
    for place, name in reversed(list(zip(places, names, strict=True))):
        start = axes.transData.transform((place, 0))[0]
        probe = axes.text(0, 0, name, fontsize=LABEL_SIZE)
        width = probe.get_window_extent(renderer).width
        probe.remove()
        level = max((below + 1 for other, below in taken if other < start + width + 8), default=0)
        taken.append((start, level))
        levels.insert(0, level)
    return levels


def _colour(row: JsonObject) -> str:
    return ENGINE_COLOURS.get(row["engine"], ORIGINAL_COLOUR)


def _gallery(
    path: Path, title: str, images: Array, captions: Sequence[str], colours: Sequence[str], columns: int
) -> None:
    """Draw images in a grid, each with a caption above it; one array and one axes, as a hundred axes take seconds."""
    lines = max(1, -(-len(images) // columns))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(columns * 1.0 + 0.2, lines * 1.18 + 0.75))
        head = 0.75 / figure.get_figheight()
        axes = figure.add_axes((0.01, 0.005, 0.98, 1 - head))
        axes.set_axis_off()
        axes.set(xlim=(0, columns), ylim=(lines * 1.18, 0))
        for index, image in enumerate(images):
            left, top = index % columns, 1.18 * (index // columns)
            extent = (left + 0.08, left + 0.92, top + 1.12, top + 0.28)
            axes.imshow(np.squeeze(image), cmap="gray_r", extent=extent, aspect="auto")
            axes.text(left + 0.5, top + 0.2, captions[index], ha="center", fontsize=8.5, color=colours[index])
        figure.text(0.5, 1 - 0.5 * head, title, ha="center", va="center", weight="bold", fontsize=12)
        figure.savefig(path)


def _confidence(probabilities: Array) -> Array:
    if probabilities.shape[-1] == 1:
        return np.maximum(probabilities[:, 0], 1 - probabilities[:, 0])
    highest: Array = probabilities.max(axis=-1)
    return highest


def _time(value: float) -> str:
    return f"{value:.3g} µs" if value < 1000 else f"{value / 1000:.3g} ms"

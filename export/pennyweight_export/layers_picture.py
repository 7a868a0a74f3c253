"""The picture of ``layers``: each layer's error alone, and what has come together up to it."""

from __future__ import annotations

import io
from typing import Any

import matplotlib
from matplotlib.figure import Figure

INK, MUTED, GRID, ALONE, TOGETHER = "#1c2733", "#66727f", "#dde3e9", "#2463a8", "#b9770e"
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
    "ytick.color": INK,
    "ytick.left": False,
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
    # Names are anybody's: a dollar sign isn't a formula.
    "text.parse_math": False,
}
LONGEST_NAME = 40
ROW_INCHES, MOST_INCHES = 0.46, 40.0


def layers_picture(result: dict[str, Any], suffix: str) -> bytes:
    """Draw what ``layers_command.measure_layers`` gives, worst first; ``suffix`` is ".png", ".svg" or ".pdf"."""
    rows = result["rows"]
    with matplotlib.rc_context(STYLE):
        height = min(MOST_INCHES, 1.9 + ROW_INCHES * len(rows))
        figure = Figure(figsize=(9, height), dpi=110, layout="constrained")
        axes = figure.subplots()
        places = range(len(rows))
        alone = [100 * row["relative_error"] for row in rows]
        axes.barh(places, alone, height=0.44, color=ALONE, label="this layer alone, at the model's output")
        # Below the bar, so that no point covers its number.
        known = [(place + 0.34, 100 * row["accumulated_error"]) for place, row in zip(places, rows) if _known(row)]
        if known:
            ys, xs = zip(*known)
            label = "everything up to it, at this layer's output"
            axes.plot(xs, ys, "D", color=TOGETHER, markersize=5, label=label, clip_on=False)
        for place, value in zip(places, alone):
            axes.annotate(f"{value:.2f}", (value, place), (4, 0), textcoords="offset points", va="center", fontsize=8.5)
        axes.set_yticks(list(places), [_label(row) for row in rows])
        axes.invert_yaxis()
        axes.set_xlim(left=0)
        axes.margins(x=0.08)
        axes.set_xlabel("error, % of the standard deviation of the float model's values")
        axes.set_title(f"{result['artifact']} of {result['bundle']}: error that quantisation brings", pad=12)
        axes.grid(axis="x", color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        figure.legend(frameon=False, loc="outside lower center", ncols=2)
        picture = io.BytesIO()
        figure.savefig(picture, format=suffix[1:])
    return picture.getvalue()


def _known(row: dict[str, Any]) -> bool:
    return row["accumulated_error"] is not None


def _label(row: dict[str, Any]) -> str:
    name = row["layer"] if len(row["layer"]) <= LONGEST_NAME else f"{row['layer'][: LONGEST_NAME - 1]}…"
    return f"{name}  ({row['operator'].lower().replace('_', ' ')})"

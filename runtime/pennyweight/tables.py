"""Tables of text, for a terminal and for Markdown."""

from __future__ import annotations

import html
from collections.abc import Sequence


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Lay cells out in columns: the first ``left`` columns flush left, the others flush right."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [_line(cells, widths, left) for cells in [header, ["-" * width for width in widths], *rows]]
    return "\n".join(lines)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Write a Markdown table; pipes inside cells are escaped."""
    marks = ["---" if column < left else "---:" for column in range(len(header))]
    lines = [[cell.replace("|", "\\|") for cell in row] for row in [header, marks, *rows]]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1, caption: str = "") -> str:
    """Write an HTML table, every text escaped; the first ``left`` columns are flush left, the others right."""
    sides = ["left" if column < left else "right" for column in range(len(header))]
    lines = []
    for tag, cells in [("th", header), *(("td", row) for row in rows)]:
        made = [f'<{tag} style="text-align:{side}">{html.escape(cell)}</{tag}>' for side, cell in zip(sides, cells)]
        lines.append(f"<tr>{''.join(made)}</tr>")
    title = f'<caption style="text-align:left">{html.escape(caption)}</caption>' if caption else ""
    return f"<table>{title}<thead>{lines[0]}</thead><tbody>{''.join(lines[1:])}</tbody></table>"


def brief(reason: str, name: str, notes: list[str]) -> str:
    """Give a reason that fits a cell; a longer one goes whole into ``notes``, which stand below the table."""
    if len(reason) <= 60:
        return reason
    notes.append(f"{name}: {reason}")
    return "see below"


def _line(cells: Sequence[str], widths: Sequence[int], left: int) -> str:
    padded = [
        cell.ljust(width) if column < left else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths))
    ]
    return "  ".join(padded).rstrip()

"""What a report says in words and in its table, for the page and for Markdown alike."""

from __future__ import annotations

from collections.abc import Sequence

from pennyweight.bench import claim, microseconds
from pennyweight.tables import markdown_table

from .documents import HISTORY, INSTRUCTIONS, LAYERS, Document, JsonObject
from .html import cleaned
from .instructions.figures import instructions_markdown
from .runs import NO_PARITY, Run, is_original, make_runs, row_figures, row_name

VERDICTS = ("pass", "fail", "inconclusive")
MARKS = {"pass": "✓", "fail": "✗", "failed": "✗", "inconclusive": "?", "original": "●"}
COLUMNS = (
    ("kB", "bytes"),
    ("accuracy %", "accuracy"),
    ("agreement %", "agreement"),
    ("flips −/+/±", "flips"),
    ("median µs", "p50"),
    ("95 % interval", "median_interval"),
    ("p90", "p90"),
    ("p99", "p99"),
    ("p99.9", "p99.9"),
    ("speed-up", "speed_up"),
    ("cold start ms", "cold_start"),
    ("peak MB", "peak_bytes"),
)


def headline(runs: Sequence[Run], documents: Sequence[Document]) -> list[str]:
    """Say the result in a few sentences."""
    said = []
    for run in runs:
        where = f" on {run.device}" if len(runs) > 1 else ""
        judged = [row for row in run.rows if row["parity"]["status"] in VERDICTS]
        if judged:
            passed = sum(row["parity"]["status"] == "pass" for row in judged)
            pairs = "artifact × engine pair" + ("s" if len(judged) != 1 else "")
            said.append(f"{passed} of {len(judged)} {pairs} passed parity with the original{where}{_gate(judged)}.")
        elif run.rows:
            said.append(f"Parity: not measured{where}, so this is latency only.")
        best = fastest(run)
        if best is not None:
            said.append(_speed(run, best, where))
    said += [_trained(document.content) for document in documents if document.kind == HISTORY]
    if not runs:
        kinds = {HISTORY: "a training", LAYERS: "errors per layer", INSTRUCTIONS: "a count of instructions"}
        held = ", ".join(dict.fromkeys(kinds.get(document.kind, document.kind) for document in documents))
        said.append(f"Here is {held}; no bench and no parity was given.")
    return said


def fastest(run: Run) -> JsonObject | None:
    """Give the row of lowest median that passed parity; where none was judged, of all artifacts."""
    timed = [row for row in run.timed if not is_original(row)]
    judged = any(row["parity"]["status"] in VERDICTS for row in run.rows)
    wanted = [row for row in timed if row["parity"]["status"] == "pass"] if judged else timed
    return min(wanted, key=lambda row: float(row_figures(row, None)["p50"]), default=None)


def baseline_name(run: Run) -> str:
    """Say what speed-ups are over; empty where nothing was timed."""
    row = run.baseline
    if row is None:
        return ""
    return f"speed-up over {row['engine'] if is_original(row) else row_name(row)}"


def table_header() -> list[str]:
    """Give the table's header."""
    return ["model", "engine", *(name for name, _ in COLUMNS), "parity"]


def table_cells(run: Run, row: JsonObject) -> list[str]:
    """Give a row's cells as texts; empty where there is no figure."""
    figures = row_figures(row, run.baseline)
    engine = f"{row['engine']} {row['engine_version'] or ''}".strip()
    if (row["threads"] or 1) > 1:
        engine += f", {row['threads']} threads"
    cells = [cell_text(key, figures) for _, key in COLUMNS]
    if row is run.baseline:
        cells[[key for _, key in COLUMNS].index("speed_up")] = "baseline"
    return [row["artifact"], engine, *cells, row["parity"]["status"] or "not measured"]


def cell_text(key: str, figures: JsonObject) -> str:
    """Write one figure of a row; empty for None."""
    value = figures[key]
    if value is None:
        return ""
    if key == "bytes":
        return f"{value / 1000:,.1f}"
    if key in ("accuracy", "agreement"):
        return f"{100 * value:.2f}"
    if key == "flips":
        return "/".join(str(int(count)) for count in value)
    if key == "median_interval":
        return f"{microseconds(value[0])}–{microseconds(value[1])}"
    if key == "speed_up":
        return claim(value)
    if key in ("cold_start", "peak_bytes"):
        return f"{value / 1e6:,.0f}"
    return microseconds(value)


def gaps(run: Run) -> list[str]:
    """Say for each row which figures are missing, and why."""
    said = []
    for row in run.rows:
        missing = row_figures(row, run.baseline)["missing"]
        shown = {key: name for name, key in COLUMNS}
        for reason in dict.fromkeys(missing[key] for key in missing if key in shown):
            # It is said once for the whole run, and the baseline's own cell isn't empty.
            if reason == NO_PARITY or (row is run.baseline and reason == "it is the baseline"):
                continue
            names = [shown[key] for key in missing if key in shown and missing[key] == reason]
            said.append(f"{row_name(row)}: no {', '.join(names)}: {reason}")
    if any(row["parity"]["reason"] == NO_PARITY for row in run.rows):
        said.append("no accuracy and no verdict: parity wasn't measured (`pennyweight parity BUNDLE -o parity.json`)")
    return said


def taint_lines(run: Run) -> list[str]:
    """Say what spoilt a run's latencies, and what helps."""
    return [f"{taint['cause']}; {taint['remedy']}" for taint in run.taints]


def conditions(run: Run) -> list[tuple[str, str]]:
    """Give the environment as names and values; what isn't known says so."""
    facts = [(name.replace("_", " "), str(value)) for name, value in run.machine.items()]
    for name in ("frequency_mhz", "temperature_c", "throttled", "load"):
        seen = [str(state[name]) for state in run.states if state.get(name) is not None]
        if seen:
            text = seen[0] if len(set(seen)) == 1 else f"{seen[0]} at the start, {seen[-1]} at the end"
            numbers = [float(one) for one in seen if _is_number(one)]
            if len(set(seen)) > 1 and len(numbers) == len(seen):
                text += f", highest {max(numbers):g}"
            facts.append((name.replace("_", " "), text))
    versions = {f"{row['engine']} {row['engine_version']}" for row in run.rows if row["engine_version"]}
    facts += [("engines", ", ".join(sorted(versions)))] if versions else []
    facts += [("measured", run.created)] if run.created else []
    return [*facts, ("from the file", run.file.replace("\\", "/").rpartition("/")[2])]


def report_markdown(documents: Sequence[Document]) -> str:
    """Write the verdicts, the table and the environment as Markdown, for a README or a pull request."""
    runs = make_runs(documents)
    lines = [
        f"# {_plain(report_title(runs))}",
        "",
        *(f"{_plain(sentence)}  " for sentence in headline(runs, documents)),
        "",
    ]
    for run in runs:
        lines += [f"## {_plain(run.device)}", ""]
        lines += [f"> **Tainted:** {_plain(taint)}" for taint in taint_lines(run)]
        lines += [""] if run.taints else []
        rows = [[_plain(cell) for cell in table_cells(run, row)] for row in run.rows]
        lines += [markdown_table([_plain(name) for name in table_header()], rows, 2), ""]
        lines += [f"- {_plain(baseline_name(run))}"] if run.timed else []
        reasons = [f"{row_name(row)}: {row['parity']['reason']}" for row in run.rows if _is_judged(row)]
        lines += [f"- {_plain(text)}" for text in [*reasons, *gaps(run)]]
        facts = ", ".join(f"{name} {value}" for name, value in conditions(run))
        lines += ["", f"Measured on: {_plain(facts)}", ""]
    lines += instructions_markdown(documents, _plain)
    return "\n".join(lines)


def report_title(runs: Sequence[Run]) -> str:
    """Give the report's title: the bundles' names."""
    names = list(dict.fromkeys(run.bundle for run in runs))
    return f"{', '.join(names)} beside the original" if names else "Pennyweight report"


def _is_judged(row: JsonObject) -> bool:
    return row["parity"]["status"] in VERDICTS and bool(row["parity"]["reason"])


def _gate(judged: Sequence[JsonObject]) -> str:
    figures = [row["parity"]["figures"] for row in judged if row["parity"]["figures"]]
    margins = {figure.get("max_drop") for figure in figures} - {None}
    levels = {figure.get("confidence") for figure in figures} - {None}
    if len(margins) != 1 or len(levels) != 1:
        return ""
    margin, level = margins.pop(), levels.pop()
    return f" (at most {100 * float(margin):g} points of accuracy lost, at {100 * float(level):g} % confidence)"


def _speed(run: Run, best: JsonObject, where: str) -> str:
    figures = row_figures(best, run.baseline)
    passed = " among those that passed" if best["parity"]["status"] == "pass" else ""
    text = f"Lowest median latency{passed}{where}: {row_name(best)}, {microseconds(figures['p50'])} µs for one image"
    if figures["speed_up"] is None:
        return f"{text}."
    return f"{text}; {baseline_name(run)}: {claim(figures['speed_up'])}."


def _trained(history: JsonObject) -> str:
    losses = history["loss"]
    text = f"Trained for {len(losses)} epochs, loss {losses[0]:.4f} → {losses[-1]:.4f}"
    errors, samples = history.get("test_errors"), history.get("test_samples")
    if isinstance(errors, int) and isinstance(samples, int) and samples > 0:
        text += f"; the original makes {errors:,} errors on {samples:,} held-out samples"
    return f"{text}."


def _plain(text: str) -> str:
    """Keep a text from being Markdown or HTML: names are anybody's."""
    text = cleaned(text)
    for character in "\\`*_<>[]#":
        text = text.replace(character, f"\\{character}" if character not in "<>" else f"&{'lg'[character == '>']}t;")
    return " ".join(text.split())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

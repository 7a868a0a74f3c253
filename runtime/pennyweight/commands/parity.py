"""``parity``: accuracy and agreement with the original, per artifact and engine, with a verdict."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pennyweight.bundle import Bundle, open_bundle
from pennyweight.engines import absence, adapter_module, is_installed
from pennyweight.errors import CheckFailedError, EngineMissingError, PennyweightError, UsageError
from pennyweight.isolation import Outcome, run_each, run_isolated
from pennyweight.manifest import plain_json
from pennyweight.output import emit, progress
from pennyweight.parity import add_tallies, sample_file, tally_from
from pennyweight.tables import text_table
from pennyweight.verdicts import CONFIDENCE, MAX_DROP, MAX_RELATIVE_ERROR, Gates, judge

from ._arguments import add_bundle, add_choice, add_threads
from .verify import on_each, pairs

HELP = "accuracy and agreement with the original model, with a verdict"
EXTENSIBLE = True
TIMEOUT = 600.0
EXIT_CODES = {"pass": 0, "absent": 0, "fail": 1, "inconclusive": 3}
HEADER = [
    "artifact",
    "engine",
    "accuracy",
    "agreement",
    "flips −/+/±",
    "margin",
    "ties",
    "McNemar p",
    "drop, points",
    "verdict",
]
JsonObject = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_bundle(parser)
    add_choice(parser)
    add_threads(parser)
    parser.add_argument(
        "--max-drop",
        type=percentage_points,
        default=MAX_DROP,
        metavar="POINTS",
        help=f"accuracy that may be lost, in percentage points, such as 0.5pt (default {100 * MAX_DROP:g}pt)",
    )
    parser.add_argument(
        "--confidence",
        type=_confidence,
        default=CONFIDENCE,
        metavar="C",
        help=f"of the two-sided intervals, of which the verdict takes an end (default {CONFIDENCE:g})",
    )

    parser.add_argument(
        "--max-relative-error",
        type=float,
        default=MAX_RELATIVE_ERROR,
        metavar="R",
        help=f"of outputs without classes: RMS error over the original's spread (default {MAX_RELATIVE_ERROR:g})",
    )
    parser.add_argument("--max-difference", type=float, metavar="D", help="of the same: the largest difference allowed")
    parser.add_argument(
        "--data",
        metavar="FILE.npz",
        help="samples to measure on: inputs/NAME, outputs/NAME (the original's answers), labels, as evaluation.npz",
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes for each pair (default 1)")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when every pair passed, 1 when one failed, 3 when one is inconclusive and none failed."""
    if not 1 <= args.workers <= 256:
        raise UsageError(f"--workers {args.workers} isn't between 1 and 256")
    if not args.max_relative_error >= 0 or (args.max_difference is not None and not args.max_difference >= 0):
        raise UsageError("--max-relative-error and --max-difference take numbers from 0 on")
    bundle = open_bundle(args.bundle)
    sample_file(bundle, args.data).close()
    tried = pairs(bundle, args.artifact, args.engine)
    if args.engine and not is_installed(args.engine):
        raise EngineMissingError(f"{args.engine} isn't here: {absence(args.engine)}")
    rows = measure_rows(
        bundle,
        tried,
        args.max_drop,
        args.confidence,
        args.threads,
        progress=lambda text: progress(args, text),
        workers=args.workers,
        more={name: getattr(args, name) for name in ("max_relative_error", "max_difference", "data")},
    )
    result = {"bundle": bundle.manifest.name, "max_drop": args.max_drop, "confidence": args.confidence, "rows": rows}
    result["data"] = args.data
    emit(args, result, parity_text(result))
    if all(row["status"] == "absent" for row in rows):
        raise CheckFailedError(f"{bundle.path}: no engine that reads its artifacts is installed here")
    codes = {EXIT_CODES[row["status"]] for row in rows}
    return 1 if 1 in codes else max(codes)


def measure_rows(
    bundle: Bundle,
    tried: Sequence[tuple[str, str]],
    max_drop: float = MAX_DROP,
    confidence: float = CONFIDENCE,
    threads: int = 1,
    progress: Callable[[str], None] = lambda text: None,
    workers: int = 1,
    more: JsonObject | None = None,
) -> list[JsonObject]:
    """Measure pairs of artifact and engine, each in ``workers`` child processes; give one row per pair.

    ``more`` are further arguments of ``pennyweight.parity.parity_task``. The figures are the same to the last digit
    whatever the number of processes.

    A row's "status" is the verdict, or "absent" for an engine that isn't installed; "figures" is the ``Parity`` as
    JSON or None, and "reason" says why. An engine that crashes or refuses the model fails its row.
    """
    common: JsonObject = {"bundle": str(bundle.path), "threads": threads, "max_drop": max_drop}
    common.update(confidence=confidence, **(more or {}))

    def run(engine: str, artifacts: list[str]) -> Iterator[Outcome]:
        each = [{**common, "artifact": artifact, "engine": engine} for artifact in artifacts]
        outcomes = _outcomes(each, adapter_module(engine), bundle, workers)
        for artifact in artifacts:
            progress(f"parity: {artifact} on {engine}")
            yield next(outcomes)

    rows = []
    for (artifact, engine), outcome in on_each(tried, run).items():
        row: JsonObject = {"artifact": artifact, "engine": engine, "engine_version": None, "figures": None}
        rows.append({**row, **_figures(outcome, engine)})
    return rows


def percentage_points(text: str) -> float:
    """Read "0.5pt" or "0.5", percentage points, as a fraction; raise UsageError."""
    try:
        points = float(text[:-2] if text.endswith("pt") else text)
    except ValueError:
        points = -1.0
    if not 0 <= points <= 100:
        raise UsageError(f"--max-drop {text!r} is no number of percentage points from 0 to 100, such as 0.5pt")
    return points / 100


def parity_text(result: JsonObject) -> str:
    """Lay the rows out for a terminal."""
    rows = result["rows"]
    measured = [row["figures"] for row in rows if row["figures"]]
    if measured and measured[0]["kind"] == "numbers":
        header, cells = _number_cells(rows)
    else:
        header, cells = HEADER, [_class_cells(row) for row in rows]
    lines = [_title(result, measured), "", text_table(header, cells, 2), ""]
    lines += [f"{row['artifact']} on {row['engine']}: {row['status']}: {row['reason']}" for row in rows]
    return "\n".join(lines)


def _confidence(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.5 <= value < 1:
        raise UsageError(f"--confidence {text!r} is no number from 0.5 to below 1, such as 0.95")
    return value


def _figures(outcome: Outcome | None, engine: str) -> JsonObject:
    if outcome is None:
        return {"status": "absent", "reason": absence(engine)}
    if isinstance(outcome, PennyweightError):
        return {"status": "fail", "reason": str(outcome)}
    version = outcome.pop("engine_version")
    return {"status": outcome["verdict"], "reason": outcome["reason"], "engine_version": version, "figures": outcome}


def _outcomes(each: list[JsonObject], module: str, bundle: Bundle, workers: int) -> Iterator[Outcome]:
    if workers == 1:
        yield from run_each("pennyweight.parity:parity_task", each, TIMEOUT, module)
        return
    for arguments in each:
        try:
            yield _shared(arguments, bundle, workers)
        except PennyweightError as error:
            yield error


def _shared(arguments: JsonObject, bundle: Bundle, workers: int) -> JsonObject:
    """Have several children count a part of the pieces each, and add their tallies up."""
    with sample_file(bundle, arguments.get("data")) as file:
        pieces = file.pieces
    workers = min(workers, pieces)
    ends = [pieces * part // workers for part in range(workers + 1)]
    parts = [{**arguments, "first": first, "stop": stop} for first, stop in zip(ends, ends[1:])]
    with ThreadPoolExecutor(workers) as pool:
        answers = list(pool.map(lambda part: run_isolated("pennyweight.parity:tally_task", part, TIMEOUT), parts))
    tally = functools.reduce(add_tallies, map(tally_from, answers))
    gates = Gates(**{name: arguments[name] for name in Gates._fields})
    peak = max((answer["peak_bytes"] for answer in answers if answer["peak_bytes"]), default=None)
    about = {name: answers[0][name] for name in ("engine_version", "machine")}
    return {**plain_json(judge(tally, bundle.manifest, answers[0]["labelled"], gates)), **about, "peak_bytes": peak}


def _title(result: JsonObject, measured: list[JsonObject]) -> str:
    title = str(result["bundle"])
    if not measured:
        return title
    figures = measured[0]
    if figures["kind"] == "numbers":
        return f"{title}: {figures['samples']:,} samples"
    if figures["reference"] == "original":
        return f"{title}: {figures['samples']:,} samples without labels; the original's answers count as right"
    low, high = figures["original_interval"]
    original = f"the original has {_percent(figures['original_accuracy'])} ({_percent(low)} to {_percent(high)})"
    return f"{title}: {figures['samples']:,} labelled samples; {original}; intervals at {result['confidence']:g}"


def _class_cells(row: JsonObject) -> list[str]:
    figures, engine = row["figures"], f"{row['engine']} {row['engine_version'] or ''}".strip()
    if figures is None:
        return [row["artifact"], engine, *[""] * (len(HEADER) - 3), row["status"]]
    accuracy, low_high = figures["accuracy"], figures["accuracy_interval"]
    low, high = figures["drop_interval"]
    return [
        row["artifact"],
        engine,
        "" if accuracy is None else f"{_percent(accuracy)} ({_percent(low_high[0])} to {_percent(low_high[1])})",
        _percent(figures["agreement"]),
        f"{figures['flips_lost']}/{figures['flips_won']}/{figures['flips_other']}",
        _margin(figures),
        str(figures["ties"]),
        "" if figures["mcnemar_p"] is None else f"{figures['mcnemar_p']:.2g}",
        f"{100 * figures['drop']:.2f} ({100 * low:.2f} to {100 * high:.2f})",
        row["status"],
    ]


def _margin(figures: JsonObject) -> str:
    """Say how sure the original was where the answers flipped: the median and the largest margin."""
    median, largest = figures["flip_margin_median"], figures["flip_margin_largest"]
    return "" if median is None else f"{median:.3f}, at most {largest:.3f}"


def _number_cells(rows: list[JsonObject]) -> tuple[list[str], list[list[str]]]:
    header = ["artifact", "engine", "output", "relative error", "SNR, dB", "cosine", "largest", "verdict"]
    cells = []
    for row in rows:
        outputs = row["figures"]["outputs"] if row["figures"] else [{}]
        engine = f"{row['engine']} {row['engine_version'] or ''}".strip()
        for output in outputs:
            numbers = [output.get(name) for name in ("relative_error", "snr_db", "cosine", "largest")]
            texts = ["" if number is None else f"{number:.4g}" for number in numbers]
            cells.append([row["artifact"], engine, output.get("name", ""), *texts, row["status"]])
    return header, cells


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"

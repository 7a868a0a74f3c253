"""The verb ``export``."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Literal

from pennyweight.bundle import Bundle
from pennyweight.errors import InputError, UsageError
from pennyweight.manifest import ArtifactSpec, EngineRecord, plain_json
from pennyweight.output import emit, notice
from pennyweight.parity import MAX_DROP
from pennyweight.tables import text_table
from pennyweight.verdicts import MAX_RELATIVE_ERROR

from .card import NUMBERS, names_one_class, number_cells
from .exporter import CALIBRATION_SAMPLES, export
from .recipes import choose_recipes

HELP = "turn a Keras model into a bundle, and prove each artifact on each engine"
OWN_OUTPUT = True
REPAIRED_BY = {"int8.tflite": ("int8-repaired.tflite",)}
HEADER = ["artifact", "engine", "bytes", "operators"]
CLASSES = ["accuracy", "agreement"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("model", metavar="MODEL", help="a .keras or .h5 file, or a SavedModel folder")
    parser.add_argument("--data", required=True, metavar="DATA", help="the data set: digits, lab, a file or a folder")
    parser.add_argument(
        "-o", "--output", dest="bundle", required=True, metavar="BUNDLE", help="a folder, or one file NAME.pennyweight"
    )
    parser.add_argument("--force", action="store_true", help="replace an older bundle")
    parser.add_argument("--labels", metavar="A,B,…|FILE", help="the classes' names, or a file with one on each line")
    parser.add_argument("--scale", metavar="S[,S,S]", help="training fed the model S × pixel + O (one per channel)")
    parser.add_argument("--offset", metavar="O[,O,O]", help="see --scale; write --offset=-1 for a negative one")
    parser.add_argument("--preprocess", metavar="keras:NAME", help="training used keras.applications.NAME's own")
    parser.add_argument(
        "--calibration", type=int, default=CALIBRATION_SAMPLES, metavar="N", help="samples for int8 (%(default)s)"
    )
    parser.add_argument("--evaluation", metavar="N|all|none", help="test samples in the bundle (at most 50 MB)")
    parser.add_argument(
        "--precision",
        metavar="A,B,…",
        help="float32, float16, int16x8, dynamic-int8, int8, int4, one artifact such as int8.onnx, or all "
        f"(default: {', '.join(recipe.name for recipe in choose_recipes())})",
    )
    parser.add_argument(
        "--max-drop",
        type=drop_allowed,
        default=MAX_DROP,
        metavar="D",
        help=f"accuracy that an artifact may lose: 0.5pt, 0.5%% or 0.005 (default {100 * MAX_DROP:g}pt)",
    )
    parser.add_argument(
        "--min-agreement", type=agreement_asked, metavar="A", help="share of answers that must stay: 99.8%% or 0.998"
    )
    repair = parser.add_mutually_exclusive_group()
    repair.add_argument(
        "--repair",
        action="store_true",
        default=None,
        help="make int8-repaired.tflite even where int8 keeps the gate, for the best agreement",
    )
    repair.add_argument(
        "--no-repair", dest="repair", action="store_false", help="don't make it where int8 breaches the gate"
    )
    parser.add_argument("--name", help="the bundle's name (default: that of BUNDLE)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of every draw (default 0)")
    parser.add_argument(
        "--max-relative-error",
        type=float,
        default=MAX_RELATIVE_ERROR,
        metavar="E",
        help="parity's gate for outputs that name no single class (%(default)s)",
    )
    parser.add_argument("--any-accuracy", action="store_true", help="also a model no better than chance on the data")
    parser.add_argument("--trust-code", action="store_true", help="run code that the model file holds or names")


def run(args: argparse.Namespace) -> int:
    """Export; give 1 where an artifact fails on every engine, or one that was asked for can't be made.

    3 where one is undecided on all engines, otherwise 0.
    """
    bundle = export(
        args.model,
        args.data,
        args.bundle,
        force=args.force,
        labels=_labels(args.labels),
        scale=_factors("--scale", args.scale),
        offset=_factors("--offset", args.offset),
        preprocess=args.preprocess,
        calibration=args.calibration,
        evaluation=_evaluation(args.evaluation),
        precision=None if args.precision is None else args.precision.split(","),
        max_drop=args.max_drop,
        min_agreement=args.min_agreement,
        repair=args.repair,
        name=args.name,
        seed=args.seed,
        trust_code=args.trust_code,
        any_accuracy=args.any_accuracy,
        max_relative_error=args.max_relative_error,
        notice=lambda text: notice(args, text),
    )
    emit(args, _as_json(bundle), f"{_table(bundle)}\n\nwrote {bundle.path}")
    return _exit_code(args, bundle)


def drop_allowed(text: str) -> float:
    """Read "0.5pt", "0.5%" or "0.005" as a fraction; raise UsageError."""
    value = _fraction(text, ("pt", "%"))
    # A bare 0.5 is more likely half a point than half of all answers.
    if value is None or not 0 <= value <= 1 or (text[-1:].isdigit() and value > 0.1):
        raise UsageError(f"--max-drop {text}: give percentage points such as 0.5pt, or a fraction such as 0.005")
    return value


def agreement_asked(text: str) -> float:
    """Read "99.8%" or "0.998" as a fraction; raise UsageError."""
    value = _fraction(text, ("%",))
    if value is None or not 0 <= value <= 1:
        raise UsageError(f"--min-agreement {text}: give a share such as 99.8% or 0.998")
    return value


def _fraction(text: str, units: tuple[str, ...]) -> float | None:
    unit = next((unit for unit in units if text.endswith(unit)), "")
    try:
        value = float(text.removesuffix(unit)) / (100 if unit else 1)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _labels(given: str | None) -> list[str] | None:
    if given is None:
        return None
    if "," not in given:
        try:
            lines = Path(given).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{given}: no labels; give a,b,c or a file with one on each line") from error
        return [line.strip() for line in lines if line.strip()]
    return [label.strip() for label in given.split(",")]


def _factors(option: str, given: str | None) -> list[float] | None:
    if given is None:
        return None
    try:
        return [float(number) for number in given.split(",")]
    except ValueError as error:
        raise UsageError(f"{option} {given}: give one number, or one per channel as in 0.017,0.0175,0.0174") from error


def _evaluation(given: str | None) -> int | Literal["all", "none"] | None:
    if given is None:
        return None
    if given == "all":
        return "all"
    if given == "none":
        return "none"
    try:
        return int(given)
    except ValueError as error:
        raise UsageError(f"--evaluation {given}: give a number of samples, all or none") from error


def _table(bundle: Bundle) -> str:
    figures = CLASSES if names_one_class(bundle.manifest) else list(NUMBERS)
    return text_table([*HEADER, *figures, "parity"], _rows(bundle, len(figures)), left=2)


def _rows(bundle: Bundle, figures: int) -> list[list[str]]:
    rows, nothing = [], [""] * figures
    for spec in bundle.manifest.artifacts:
        size, operators = f"{bundle.manifest.files[spec.name].size:,}", str(sum(spec.operators.values()))
        rows += [
            [
                spec.name,
                f"{record.engine} {record.version}",
                size,
                operators,
                *(_figures(record) or nothing),
                _verdict(record),
            ]
            for record in spec.engines
        ] or [[spec.name, "no engine installed", size, operators, *nothing, ""]]
    return rows + [[gap.artifact, "", "", "", *nothing, "not made"] for gap in bundle.manifest.gaps]


def _figures(record: EngineRecord) -> list[str]:
    if "agreement" not in record.figures:
        return number_cells(record)
    cells = [record.figures.get(key) for key in CLASSES]
    return ["" if cell is None else f"{cell:.2%}" for cell in cells]


def _verdict(record: EngineRecord) -> str:
    return record.verdict or ("broke" if record.loaded else "doesn't load")


def _as_json(bundle: Bundle) -> dict[str, object]:
    return {"bundle": str(bundle.path), "manifest": plain_json(bundle.manifest)}


def _exit_code(args: argparse.Namespace, bundle: Bundle) -> int:
    tried = [spec for spec in bundle.manifest.artifacts if spec.engines]
    passed = {spec.name for spec in tried if any(record.verdict == "pass" for record in spec.engines)}
    # The repaired file stands for the plain one.
    unproven = [spec for spec in tried if not {spec.name, *REPAIRED_BY.get(spec.name, ())} & passed]
    for spec in unproven:
        notice(args, f"{spec.name}: passes on no engine ({_reason(spec)})")
    if args.precision is not None and bundle.manifest.gaps:
        # Whoever asked for a precision by name gets no success without it.
        return 1
    if not all(any(record.verdict == "inconclusive" for record in spec.engines) for spec in unproven):
        return 1
    return 3 if unproven else 0


def _reason(spec: ArtifactSpec) -> str:
    return "; ".join(f"{record.engine}: {record.reason}" for record in spec.engines)

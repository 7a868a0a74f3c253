"""``predict``: label and probability per picture."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from pennyweight.errors import InputError, OutputKindError, UsageError
from pennyweight.images import read_picture, write_picture
from pennyweight.loading import load
from pennyweight.model import Model
from pennyweight.output import emit, hushed_engines, notice
from pennyweight.tables import brief, text_table

from ._arguments import add_bundle, add_choice, add_threads

HELP = "label and probability of each picture or .npy file"
Array = Any
PHASES = ("prepare", "engine", "classify")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_bundle(parser)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="PNG, JPEG, …, or .npy with one input or a batch")
    add_choice(parser)
    add_threads(parser)
    parser.add_argument("--top", type=int, default=1, metavar="K", help="the K most probable classes (default 1)")
    parser.add_argument(
        "--explain", action="store_true", help="every artifact's answer, the time per phase, what may be wrong"
    )
    parser.add_argument("--strict", action="store_true", help="refuse a picture that would have to be prepared")


def run(args: argparse.Namespace) -> int:
    """Answer every picture that can be read; exit code 2 when one couldn't."""
    if args.top < 1:
        raise InputError(f"--top {args.top}: give a number of classes from 1 on")
    if args.explain:
        return _explain(args)
    with hushed_engines():
        loaded = load(args.bundle, artifact=args.artifact, engine=args.engine, threads=args.threads)
    with loaded as model:
        answers: list[dict[str, Any]] = []
        failed = False
        for path in args.images:
            try:
                answers += [_answer(model, name, sample, args.top) for name, sample in _samples(model, path, args)]
            except InputError as error:
                failed = True
                print(f"pennyweight: {error}", file=sys.stderr)
        result = {**model.describe(), "answers": answers}
    if answers or args.json:
        emit(args, result, "\n".join(_line(answer) for answer in answers))
    return 2 if failed else 0


def _explain(args: argparse.Namespace) -> int:
    from pennyweight.bundle import open_bundle
    from pennyweight.explanation import explain_picture

    if len(args.images) != 1 or args.images[0].endswith(".npy"):
        raise UsageError("--explain takes one picture file")
    with hushed_engines():
        model = load(args.bundle, artifact=args.artifact, engine=args.engine, threads=args.threads)
    pixels, colour = read_picture(args.images[0])
    seen = Path(args.images[0]).stem + ".seen.png"
    _write_seen(seen, model.prepare(pixels, colour))
    result = explain_picture(open_bundle(args.bundle), args.images[0], model.describe())
    emit(args, {**result, "seen": seen}, _explanation(result, seen, _size(model)))
    return 0


def _write_seen(path: str, prepared: Array) -> None:
    """Save the model's input as a PNG, each pixel as a block so that a person can see it."""
    pixels = np.clip(prepared, 0, 255).astype(np.uint8)
    pixels = pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    block = max(1, 320 // max(pixels.shape[:2]))
    write_picture(path, pixels.repeat(block, axis=0).repeat(block, axis=1))


def _explanation(result: dict[str, Any], seen: str, size: str) -> str:
    from pennyweight.machine import machine_line

    cells = []
    notes: list[str] = []
    for row in result["rows"]:
        ranked = "  ".join(f"{label} {share:.3f}" for label, share in row["top"])
        ranked = ranked or brief(row["reason"], f"{row['artifact']} on {row['engine']}", notes)
        times = [f"{row['phases'][name]:.3g}" if name in row["phases"] else "" for name in PHASES]
        cells.append(
            ["→" if row["chosen"] else "", row["artifact"], row["engine"], row["verdict"] or "", ranked, *times]
        )
    header = ["", "artifact", "engine", "parity", "top three", *(f"{name} µs" for name in PHASES)]
    chosen = result["chosen"]
    lines = [
        f"{result['picture']}: the model takes {size}; what it sees is in {seen}",
        "",
        text_table(header, cells, 5),
        *notes,
        "",
        f"chosen: {chosen['artifact']} on {chosen['engine']}, {chosen['threads']} thread(s): {chosen['reason']}",
        machine_line(result["machine"], result["states"]),
        "",
        *([f"! {cause}" for cause in result["causes"]] or ["nothing looks wrong"]),
    ]
    return "\n".join(lines)


def _samples(model: Model, path: str, args: argparse.Namespace) -> list[tuple[str, Array]]:
    spec = model.manifest.inputs[0]
    if Path(path).suffix == ".npy":
        array = _read_array(path)
        if array.shape[1:] == spec.shape and array.ndim == len(spec.shape) + 1:
            return [(f"{path}[{index}]", sample) for index, sample in enumerate(array)]
        return [(path, array)]
    from pennyweight.images import read_picture

    pixels, colour = read_picture(path)
    prepared = model.prepare(pixels, colour=colour)
    if prepared is not pixels:
        height, width = pixels.shape[:2]
        change = f"{path}: {width}×{height} {colour}, the model takes {_size(model)}"
        if args.strict:
            raise InputError(f"{change}; without --strict it is prepared as the bundle says")
        notice(args, f"{change}: prepared as the bundle says")
    return [(path, prepared)]


def _read_array(path: str) -> Array:
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; give a picture or a .npy file") from error
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: not a .npy file of numbers; write it with numpy.save") from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path}: an archive of arrays; give one array in a .npy file")
    return array


def _answer(model: Model, name: str, sample: Array, top: int) -> dict[str, Any]:
    try:
        try:
            ranked = model.classify(sample, top=top)
        except OutputKindError:
            output = model.predict(sample[None])
            named = output if isinstance(output, dict) else {model.manifest.outputs[0].name: output}
            return {"input": name, "outputs": {key: value[0].tolist() for key, value in named.items()}}
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    assert isinstance(ranked, list)
    return {"input": name, "classes": [{"label": label, "probability": share} for label, share in ranked]}


def _line(answer: dict[str, Any]) -> str:
    if "outputs" in answer:
        return f"{answer['input']}\t{answer['outputs']}"
    return f"{answer['input']}\t" + "\t".join(f"{one['label']}\t{one['probability']:.4f}" for one in answer["classes"])


def _size(model: Model) -> str:
    image = model.manifest.inputs[0].image
    return f"{image.width}×{image.height} {image.colour}" if image else str(model.manifest.inputs[0].shape)

"""``info``: what is in a bundle, and which artifacts load here."""

from __future__ import annotations

import argparse
from typing import Any

from pennyweight.bundle import Bundle, open_bundle
from pennyweight.engines import absence, is_installed
from pennyweight.errors import PennyweightError
from pennyweight.isolation import run_isolated
from pennyweight.manifest import ArtifactSpec, InputSpec, OutputSpec, plain_json
from pennyweight.output import emit
from pennyweight.tables import brief, text_table

from ._arguments import add_bundle
from .verify import pairs

HELP = "what is in a bundle, and which artifacts load here"
TIMEOUT = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_bundle(parser)


def run(args: argparse.Namespace) -> int:
    """Exit code 0 whenever the bundle can be read; what loads is part of the answer."""
    bundle = open_bundle(args.bundle)
    loads = [_loads(bundle, *pair) for pair in pairs(bundle, None, None)]
    choice = _choice(bundle)
    result = {"manifest": plain_json(bundle.manifest), "here": loads, "chosen": choice}
    emit(args, result, _text(bundle, loads, choice))
    return 0


def load_task(arguments: dict[str, Any]) -> dict[str, Any]:
    """Load what ``arguments`` names and describe it; for a child process."""
    from pennyweight.loading import load

    with load(arguments["bundle"], artifact=arguments.get("artifact"), engine=arguments.get("engine")) as model:
        return model.describe()


def _loads(bundle: Bundle, artifact: str, engine: str) -> dict[str, Any]:
    row: dict[str, Any] = {"artifact": artifact, "engine": engine}
    if not is_installed(engine):
        return {**row, "loads": False, "reason": absence(engine)}
    try:
        described = run_isolated(f"{__name__}:load_task", {"bundle": str(bundle.path), **row}, TIMEOUT)
    except PennyweightError as error:
        return {**row, "loads": False, "reason": str(error)}
    return {**row, "loads": True, "version": described["engine_version"], "reason": ""}


def _choice(bundle: Bundle) -> dict[str, Any]:
    try:
        return run_isolated(f"{__name__}:load_task", {"bundle": str(bundle.path)}, TIMEOUT)
    except PennyweightError as error:
        return {"reason": str(error)}


def _text(bundle: Bundle, loads: list[dict[str, Any]], choice: dict[str, Any]) -> str:
    manifest = bundle.manifest
    lines = [f"{manifest.name}  ({bundle.path}, made {manifest.created})"]
    source = manifest.source
    lines.append(f"source  {source.get('file', 'model.keras')}, {source.get('parameters', 0):,} parameters")
    lines += [_input_line(spec) for spec in manifest.inputs]
    lines += [_output_line(spec) for spec in manifest.outputs]
    if manifest.evaluation:
        lines.append(f"evaluation  {manifest.evaluation.get('samples', 0):,} samples")
    notes: list[str] = []
    cells = [_cells(bundle, manifest.artifact(row["artifact"]), row, notes) for row in loads]
    notes += [f"not made  {gap.artifact}: {gap.reason}" for gap in manifest.gaps]
    table = text_table(["artifact", "precision", "engine", "here", "verdict", "bytes", "operators"], cells, 5)
    lines += ["", table, *notes, ""]
    if "artifact" in choice:
        lines.append(f"load takes {choice['artifact']} on {choice['engine']}: {choice['reason']}")
    else:
        lines.append(f"load finds nothing to take: {choice['reason']}")
    return "\n".join(lines)


def _cells(bundle: Bundle, spec: ArtifactSpec, row: dict[str, Any], notes: list[str]) -> list[str]:
    record = next((one for one in spec.engines if one.engine == row["engine"]), None)
    verdict = (record.verdict or ("broke" if record.loaded else "didn't load")) if record else ""
    return [
        spec.name,
        spec.precision,
        f"{row['engine']} {row.get('version', '')}".strip(),
        "loads" if row["loads"] else brief(row["reason"], f"{spec.name} on {row['engine']}", notes),
        verdict,
        f"{bundle.manifest.files[spec.name].size:,}",
        str(sum(spec.operators.values())),
    ]


def _input_line(spec: InputSpec) -> str:
    text = f"input   {spec.name}: {spec.dtype} {list(spec.shape)}"
    if spec.range:
        text += f", {spec.range[0]:g} to {spec.range[1]:g}"
    if spec.image:
        image = spec.image
        smooth = "antialiased " if image.antialias and image.resize == "bilinear" else ""
        text += f", {image.colour} picture {image.width}×{image.height} ({image.fit}, {smooth}{image.resize})"
    return text


def _output_line(spec: OutputSpec) -> str:
    text = f"output  {spec.name}: {list(spec.shape)} {spec.meaning}"
    if spec.labels:
        shown = ", ".join(spec.labels[:12]) + (", …" if len(spec.labels) > 12 else "")
        text += f", labels {shown}"
    return text

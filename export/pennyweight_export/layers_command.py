"""``layers``: the error that quantisation brings, layer by layer."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pennyweight.bundle import EVALUATION_NAME, Bundle, open_bundle
from pennyweight.errors import BundleError, OutputError, UsageError
from pennyweight.manifest import ArtifactSpec
from pennyweight.output import emit, notice, progress, write_atomically
from pennyweight.quantization import to_wire
from pennyweight.samples import Samples
from pennyweight.tables import text_table

HELP = "the error that quantisation brings, layer by layer, worst first"
FORMAT, VERSION = "pennyweight-layers", 1
ORIGINAL = "float32.tflite"
SAMPLES = 1000
PICTURES = (".png", ".svg", ".pdf")
HEADER = ["layer", "operator", "computes in", "error alone", "answers kept", "error up to it"]
NOTE = (
    "error alone: of the model's output with this layer alone quantised; error up to it: of this layer's output with\n"
    "all before it quantised too. Each is RMS over the standard deviation of the float model's values."
)
JsonObject = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("bundle", metavar="BUNDLE", help="a bundle's folder or .pennyweight file")
    parser.add_argument(
        "--artifact", default="int8.tflite", metavar="NAME", help="the quantised model file (%(default)s)"
    )
    parser.add_argument(
        "--samples", type=int, default=SAMPLES, metavar="N", help="evaluation samples to use, at most (%(default)s)"
    )
    parser.add_argument("--picture", metavar="FILE", help="draw it, as .png, .svg or .pdf")


def run(args: argparse.Namespace) -> int:
    """Exit code 0."""
    if args.samples < 1:
        raise UsageError(f"--samples {args.samples}; give at least 1")
    if args.picture and Path(args.picture).suffix.lower() not in PICTURES:
        raise UsageError(f"--picture {args.picture}: end the name in {', '.join(PICTURES)}")
    if args.picture and not Path(args.picture).absolute().parent.is_dir():
        raise OutputError(f"--picture {args.picture}: can't be written, its folder doesn't exist; make it first")
    bundle = open_bundle(args.bundle)
    artifact = bundle.manifest.artifact(args.artifact)
    if ORIGINAL not in bundle.manifest.files:
        raise BundleError(f"{args.bundle}: has no {ORIGINAL} to compare with; export it with --precision float32,int8")
    if artifact.format != "tflite" or artifact.name == ORIGINAL:
        raise UsageError(f"--artifact {args.artifact}: give a quantised .tflite file, such as int8.tflite")
    if artifact.converter.get("repair", {}).get("equalised"):
        raise UsageError(
            f"{artifact.name}: its repair moved factors between layers, so they aren't the float file's; "
            "give another file, such as int8.tflite"
        )
    samples = _samples(bundle)
    if samples.rows > args.samples:
        samples = samples.part(0, args.samples)
    progress(args, f"{artifact.name}: quantising one layer after the other")
    result = measure_layers(bundle, artifact, samples)
    if args.picture:
        from .layers_picture import layers_picture

        write_atomically(args.picture, layers_picture(result, Path(args.picture).suffix.lower()))
        notice(args, f"wrote {args.picture}")
    emit(args, result, layers_text(result))
    return 0


def measure_layers(bundle: Bundle, artifact: ArtifactSpec, samples: Samples) -> JsonObject:
    """Give the rows, worst first, as JSON.

    Raises:
        UsageError: the artifact has no layer with integer activations.
    """
    from .layers import layer_errors

    original = bundle.manifest.artifact(ORIGINAL)
    inputs, quantised_inputs = (_on_wires(bundle, spec, samples) for spec in (original, artifact))
    outputs = bundle.manifest.outputs
    classifier = len(outputs) == 1 and outputs[0].labelling == "single"
    found = layer_errors(bundle.read(ORIGINAL), bundle.read(artifact.name), inputs, classifier, quantised_inputs)
    rows = [
        {
            "artifact": artifact.name,
            "layer": one.layer,
            "operator": one.operator,
            "position": one.position,
            "computes_in": one.kind,
            "relative_error": one.alone,
            "agreement": one.agreement,
            "accumulated_error": one.accumulated,
        }
        for one in sorted(found, key=lambda one: -one.alone)
    ]
    return {
        "format": FORMAT,
        "version": VERSION,
        "bundle": bundle.manifest.name,
        "artifact": artifact.name,
        "samples": samples.rows,
        "rows": rows,
    }


def layers_text(result: JsonObject) -> str:
    """Lay the rows out for a terminal."""
    cells = [
        [
            row["layer"],
            row["operator"],
            row["computes_in"],
            _percent(row["relative_error"]),
            _percent(row["agreement"]),
            _percent(row["accumulated_error"]),
        ]
        for row in result["rows"]
    ]
    title = f"{result['bundle']}: {result['artifact']} on {result['samples']:,} samples, worst layer first"
    return f"{title}\n\n{text_table(HEADER, cells, 3)}\n\n{NOTE}"


def _on_wires(bundle: Bundle, artifact: ArtifactSpec, samples: Samples) -> dict[str, Any]:
    """Give the inputs by an artifact's tensors, as they travel to it."""
    specs = {spec.name: spec for spec in bundle.manifest.inputs}
    travelling = {}
    for wire in artifact.inputs:
        convert, values = to_wire(specs[wire.name], wire), samples.inputs[wire.name]
        travelling[wire.tensor] = values if convert is None else convert(values)
    return travelling


def _samples(bundle: Bundle) -> Samples:
    if EVALUATION_NAME in bundle.manifest.files and not bundle.evaluation_left_behind:
        return bundle.evaluation()
    return bundle.golden()


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f} %"

"""Evidence that a bench doesn't hold: confusion matrices and the samples whose answers flipped, from a bundle."""

from __future__ import annotations

import base64
import datetime
import io
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from pennyweight.bundle import EVALUATION_NAME, Bundle, open_bundle
from pennyweight.commands.verify import pairs
from pennyweight.engines import absence, is_installed
from pennyweight.errors import PennyweightError
from pennyweight.isolation import run_isolated
from pennyweight.loading import load, machine
from pennyweight.machine import machine_facts
from pennyweight.manifest import InputSpec, Manifest, plain_json
from pennyweight.parity import CONFIDENCE, MAX_DROP, compare_answers
from pennyweight.tallies import chosen_classes

from .documents import EVIDENCE, VERSION

Array = npt.NDArray[Any]
JsonObject = dict[str, Any]

TIMEOUT = 600.0
WORKERS = 2
MOST_CLASSES = 30
MOST_FLIPS = 48


def gather_evidence(bundle: Bundle, known: Mapping[tuple[str, str], JsonObject] | None = None) -> JsonObject:
    """Answer the bundle's evaluation set with every artifact × engine, each in a child process, and keep what shows.

    Args:
        bundle: an open bundle.
        known: by artifact and engine, rows of the verb ``parity`` measured here on this bundle; those that agree with
            the original on every sample aren't answered again, as they confuse what it confuses and flip nothing.

    Returns:
        A document of its own format: "artifacts" with their sizes, "rows" as the verb ``parity`` has them with
        "confusion" added (label × answer, counts), the "original"'s confusion, and "flips": samples that some
        artifact answers unlike the original, with both answers and probabilities and the picture as a data URI.
        Without an evaluation set, or for outputs that name no single label, "reason" says why these are empty.
    """
    manifest = bundle.manifest
    document: JsonObject = {
        "format": EVIDENCE,
        "version": VERSION,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "bundle": manifest.name,
        "environment": machine_facts(),
        "artifacts": [
            {"name": one.name, "precision": one.precision, "bytes": manifest.files[one.name].size}
            for one in manifest.artifacts
        ],
        "samples": 0,
        "reason": _obstacle(bundle),
        "labels": [],
        "original": {"confusion": None},
        "rows": [],
        "flips": [],
        "flipped": 0,
    }
    tried = pairs(bundle, None, None)
    if document["reason"]:
        document["rows"] = [_empty_row(artifact, engine, "", document["reason"]) for artifact, engine in tried]
        return document
    same = {pair: row for pair, row in (known or {}).items() if (row["figures"] or {}).get("agreement") == 1.0}
    with ThreadPoolExecutor(WORKERS) as pool:
        answered = list(pool.map(lambda pair: {} if pair in same else _answered(bundle, *pair), tried))
    compared = _compared(bundle, [row for row in answered if row])
    found = {(row["artifact"], row["engine"]): row for row in compared["rows"]}
    for artifact, engine in same:
        row = {**_empty_row(artifact, engine, "", ""), **same[artifact, engine]}
        found[artifact, engine] = {**row, "confusion": compared["original"]["confusion"]}
    return {**document, **compared, "rows": [found[pair] for pair in tried]}


def answers_task(arguments: JsonObject) -> JsonObject:
    """Answer the evaluation set with one artifact on one engine; for ``run_isolated``.

    Gives each sample's class index and its probability, the figures of parity, and the engine's version.
    """
    bundle = open_bundle(arguments["bundle"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the row shows the verdict
        model = load(bundle, artifact=arguments["artifact"], engine=arguments["engine"])
    samples, spec, gate = bundle.evaluation(), bundle.manifest.outputs[0], bundle.manifest.gate
    inputs = samples.inputs if len(samples.inputs) > 1 else next(iter(samples.inputs.values()))
    answers = np.asarray(model.predict(inputs))
    max_drop, confidence = gate.get("max_drop", MAX_DROP), gate.get("confidence", CONFIDENCE)
    parity = compare_answers(answers, samples.outputs[spec.name], samples.labels, model.labels, max_drop, confidence)
    classes, probabilities = _chosen(answers)
    return {
        "classes": classes.tolist(),
        "probabilities": [round(float(one), 4) for one in np.nan_to_num(probabilities)],
        "figures": {**plain_json(parity), "machine": machine()},
        "engine_version": model.engine.version,
    }


def picture_uri(image: Array, spec: InputSpec) -> str | None:
    """Give one sample as a PNG in a data URI, or None for what is no picture."""
    from PIL import Image

    pixels = np.squeeze(image, -1) if image.ndim == 3 and image.shape[-1] == 1 else image
    if pixels.ndim != 2 and (pixels.ndim != 3 or pixels.shape[-1] != 3):
        return None
    if pixels.dtype != np.uint8:
        if spec.range is None:
            return None
        low, high = spec.range
        pixels = np.clip((pixels.astype(np.float64) - low) / max(high - low, 1e-12) * 255, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _obstacle(bundle: Bundle) -> str:
    outputs = bundle.manifest.outputs
    if EVALUATION_NAME not in bundle.manifest.files or bundle.evaluation_left_behind:
        return "the bundle carries no evaluation set, so there is latency only"
    if len(outputs) != 1 or outputs[0].labelling != "single" or len(outputs[0].shape) != 1:
        return "the outputs name no single label, so nothing can be confused or flip"
    return ""


def _answered(bundle: Bundle, artifact: str, engine: str) -> JsonObject:
    if not is_installed(engine):
        return _empty_row(artifact, engine, "absent", absence(engine))
    arguments = {"bundle": str(bundle.path), "artifact": artifact, "engine": engine}
    try:
        answer = run_isolated(f"{__name__}:answers_task", arguments, TIMEOUT)
    except PennyweightError as error:
        return _empty_row(artifact, engine, "fail", str(error))
    figures = answer["figures"]
    return {"artifact": artifact, "engine": engine, "status": figures["verdict"], "reason": figures["reason"], **answer}


def _empty_row(artifact: str, engine: str, status: str, reason: str) -> JsonObject:
    row: JsonObject = {"artifact": artifact, "engine": engine, "status": status, "reason": reason}
    return {**row, "engine_version": None, "figures": None}


def _compared(bundle: Bundle, rows: list[JsonObject]) -> JsonObject:
    """Set the rows' answers beside the original's; they are taken out of the rows."""
    samples, spec = bundle.evaluation(), bundle.manifest.outputs[0]
    labels = _labels(bundle.manifest)
    original, certainty = _chosen(samples.outputs[spec.name])
    truth = _truth(samples.labels, samples.rows, len(labels))
    answers = {}
    for index, row in enumerate(rows):
        if "classes" in row:
            answers[index] = np.asarray(row.pop("classes")), np.asarray(row.pop("probabilities"))
            row["confusion"] = _confusion(truth, answers[index][0], len(labels))
    flipped = {index: classes != original for index, (classes, _) in answers.items()}
    everywhere = np.logical_or.reduce(list(flipped.values())) if flipped else np.zeros(samples.rows, bool)
    # What all artifacts answer otherwise, and the original was sure of, is the worst; it comes first.
    votes = sum((one.astype(int) for one in flipped.values()), np.zeros(samples.rows, int))
    order = sorted(np.flatnonzero(everywhere).tolist(), key=lambda index: (-votes[index], -certainty[index], index))
    flips = []
    for index in order[:MOST_FLIPS]:
        flip: JsonObject = {"index": index, "picture": _picture(bundle.manifest, samples.inputs, index)}
        flip["label"] = None if truth is None else labels[truth[index]]
        flip["original"] = [labels[original[index]], round(float(certainty[index]), 4)]
        flip["answers"] = [
            {
                "artifact": rows[row]["artifact"],
                "engine": rows[row]["engine"],
                "answer": [labels[classes[index]], float(probabilities[index])],
            }
            for row, (classes, probabilities) in answers.items()
            if flipped[row][index]
        ]
        flips.append(flip)
    return {
        "samples": samples.rows,
        "labels": labels,
        "original": {"confusion": _confusion(truth, original, len(labels))},
        "rows": rows,
        "flips": flips,
        "flipped": len(order),
    }


def _truth(labels: Any, rows: int, classes: int) -> Array | None:
    """Give the labels where they are class numbers; parity has said in its rows what is wrong with others."""
    if labels is None or labels.shape != (rows,) or labels.dtype.kind not in "biu":
        return None
    truth: Array = labels.astype(np.int64)
    return truth if truth.min() >= 0 and truth.max() < classes else None


def _picture(manifest: Manifest, inputs: dict[str, Array], index: int) -> str | None:
    spec = manifest.inputs[0]
    return picture_uri(inputs[spec.name][index], spec) if len(manifest.inputs) == 1 else None


def _confusion(truth: Array | None, answers: Array, classes: int) -> list[list[int]] | None:
    if truth is None or classes > MOST_CLASSES:
        return None
    counts = np.bincount(truth * classes + answers, minlength=classes * classes)
    table: list[list[int]] = counts.reshape(classes, classes).tolist()
    return table


def _chosen(outputs: Array) -> tuple[Array, Array]:
    """Give each row's class and its probability; a binary output's one number is the probability of class 1."""
    classes = chosen_classes(outputs)
    if outputs.shape[-1] == 1:
        return classes, np.where(classes == 1, outputs[:, 0], 1 - outputs[:, 0])
    return classes, outputs.max(axis=-1)


def _labels(manifest: Manifest) -> Sequence[str]:
    spec = manifest.outputs[0]
    classes = 2 if spec.shape == (1,) else spec.shape[-1]
    return list(spec.labels or map(str, range(classes)))

"""One picture under the lens: every artifact's answer on every engine, where the time goes, and what may be wrong."""

from __future__ import annotations

import statistics
import warnings
from time import perf_counter_ns
from typing import Any

import numpy as np

from .bundle import Bundle
from .engines import engines_for, is_installed
from .errors import PennyweightError
from .golden import DEFAULT_TOLERANCE
from .images import read_picture
from .isolation import run_isolated
from .machine import activity, machine_facts, machine_state, taints

JsonObject = dict[str, Any]
TURNS = 200
TIMEOUT = 60.0
# A picture's mean brightness further than this many standard deviations from the golden pictures' is unlike them.
UNLIKE = 3.0


def explain_picture(bundle: Bundle, path: str, chosen: JsonObject) -> JsonObject:
    """Answer one picture with every artifact × engine in a child process each.

    Args:
        bundle: an open bundle.
        path: a picture file.
        chosen: what ``load`` took, as ``Model.describe`` gives it.

    Returns:
        JSON: "rows" (top three classes and µs per phase), "chosen", "machine" and "states" (clock, throttling before
        and after), "causes" in words.
    """
    rows = []
    facts, states, readings = machine_facts(), [machine_state()], [activity()]
    for spec in bundle.manifest.artifacts:
        for engine in filter(is_installed, engines_for(spec.format)):
            row: JsonObject = {"artifact": spec.name, "engine": engine}
            row["chosen"] = (spec.name, engine) == (chosen["artifact"], chosen["engine"])
            try:
                arguments = {"bundle": str(bundle.path), "path": path, **row}
                row.update(run_isolated(f"{__name__}:explain_task", arguments, TIMEOUT), reason="")
            except PennyweightError as error:
                row.update(top=[], phases={}, reason=str(error))
            record = next((one for one in spec.engines if one.engine == engine), None)
            row["verdict"] = record.verdict if record else None
            rows.append(row)
    states.append(machine_state())
    readings.append(activity())
    spoilt = [f"{taint['cause']}: {taint['remedy']}" for taint in taints(facts, states, readings)]
    causes = [*spoilt, *_slow(rows), *_disagreement(bundle, rows), *_unlike(bundle, path, chosen)]
    result = {"picture": path, "rows": rows, "chosen": chosen, "machine": facts, "states": states}
    return {**result, "causes": causes}


def explain_task(arguments: JsonObject) -> JsonObject:
    """Answer ``arguments``' picture with one artifact on one engine, and time each phase (median, µs); for a child."""
    from .loading import load

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the row shows the verdict
        model = load(arguments["bundle"], artifact=arguments["artifact"], engine=arguments["engine"])
    pixels, colour = read_picture(arguments["path"])
    image = model.prepare(pixels, colour)
    phases = {
        "prepare": _median(lambda: model.prepare(pixels, colour), TURNS // 10),
        "classify": _median(lambda: model.classify(image), TURNS),
    }
    to_wire, run, _ = model.steps()
    wire = to_wire(image)
    phases["engine"] = _median(lambda: run(wire), TURNS)
    return {"top": model.classify(image, top=3), "phases": phases}


def _median(call: Any, turns: int) -> float:
    times = []
    for _ in range(turns):
        start = perf_counter_ns()
        call()
        times.append(perf_counter_ns() - start)
    return statistics.median(times) / 1000


def _slow(rows: list[JsonObject]) -> list[str]:
    causes: list[str] = []
    chosen = next((row for row in rows if row["chosen"] and row["phases"]), None)
    if chosen is None:
        return causes
    phases = chosen["phases"]
    if phases["prepare"] > phases["classify"]:
        share = phases["prepare"] / (phases["prepare"] + phases["classify"])
        causes.append(f"preparing the picture takes {share:.0%} of the time: take frames in the model's own size")
    fastest = min((row for row in rows if row["phases"]), key=lambda row: float(row["phases"]["classify"]))
    # Half as much again is more than what two medians of one run differ by on a busy device.
    if fastest["phases"]["classify"] * 1.5 < phases["classify"]:
        causes.append(f"{fastest['artifact']} on {fastest['engine']} looks faster here: `pennyweight select` decides")
    return causes


def _disagreement(bundle: Bundle, rows: list[JsonObject]) -> list[str]:
    answered = [row for row in rows if row["top"]]
    if len({row["top"][0][0] for row in answered}) < 2:
        return []
    reference = next((row for row in answered if row["chosen"]), answered[0])
    causes = []
    for row in answered:
        if row["top"][0][0] == reference["top"][0][0]:
            continue
        name = f"{row['artifact']} on {row['engine']} says {row['top'][0][0]!r}"
        margin = reference["top"][0][1] - reference["top"][1][1]
        tolerance = bundle.manifest.golden.get("tolerance", {}).get(row["artifact"], DEFAULT_TOLERANCE)
        if row["verdict"] == "fail":
            causes.append(f"{name}: it failed parity on this engine")
        elif margin <= 2 * tolerance:
            causes.append(f"{name}: the two best classes lie {margin:.3f} apart, within what its precision blurs")
        else:
            causes.append(f"{name}, further off than its precision explains: run `pennyweight verify`")
    return causes


def _unlike(bundle: Bundle, path: str, chosen: JsonObject) -> list[str]:
    from .prepare import prepare

    spec = bundle.manifest.inputs[0]
    pixels, colour = read_picture(path)
    brightness = float(prepare(pixels, colour, spec).mean())
    golden = bundle.golden().inputs[spec.name].astype(np.float32)
    means = golden.reshape(len(golden), -1).mean(axis=1)
    spread = max(float(means.std()), 1e-6)
    if abs(brightness - float(means.mean())) <= UNLIKE * spread:
        return []
    inverted = 255 - brightness
    hint = (
        "inverted?" if spec.dtype == "uint8" and abs(inverted - means.mean()) <= UNLIKE * spread else "another scene?"
    )
    seen, usual = f"{brightness:.0f}", f"{means.mean():.0f} ± {spread:.0f}"
    return [f"the picture's brightness is {seen}, the model's own samples have {usual}: {hint}"]

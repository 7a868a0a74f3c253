"""Try each artifact on each installed engine, in a process of its own, and note what happened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version as metadata_version
from pathlib import Path
from typing import Any, NamedTuple

from pennyweight.bundle import open_bundle
from pennyweight.engines import engine_version, engines_for, is_installed
from pennyweight.errors import EngineError
from pennyweight.golden import replay_golden
from pennyweight.isolation import run_isolated
from pennyweight.loading import load, machine
from pennyweight.manifest import ArtifactSpec, EngineRecord
from pennyweight.parity import parity_task

TIMEOUT_S = 600.0


class Trial(NamedTuple):
    """What one engine did with an artifact, and its largest difference from the original on the golden set."""

    record: EngineRecord
    golden_difference: float | None


def try_engines(
    bundle: Path, artifact: ArtifactSpec, gate: Mapping[str, Any], notice: Callable[[str], None]
) -> list[Trial]:
    """Give one trial per installed engine that reads the artifact's format.

    Args:
        bundle: a bundle's folder with golden and evaluation set.
        artifact: one of its artifacts.
        gate: "max_drop" and "confidence" of the verdict.
        notice: told of engines that aren't installed.
    """
    trials = []
    for engine in engines_for(artifact.format):
        if is_installed(engine):
            trials.append(_try(bundle, artifact.name, engine, gate))
        else:
            notice(f"{artifact.name}: {engine} isn't installed, so it was not tried")
    return trials


def trial_task(arguments: dict[str, Any]) -> dict[str, Any]:
    """Load, replay the golden set, measure parity; in the child, for ``run_isolated``."""
    bundle, engine = open_bundle(arguments["bundle"]), arguments["engine"]
    answer: dict[str, Any] = {"loaded": False, "ran": False}
    try:
        answer["version"] = engine_version(engine)
        model = load(bundle, artifact=arguments["artifact"], engine=engine)
        answer["loaded"] = True
        golden = replay_golden(model, bundle.golden()).largest
        # It reads the evaluation set in pieces, however large that is.
        measured = {name: arguments[name] for name in ("bundle", "artifact", "engine")}
        figures = parity_task({**measured, **arguments["gate"]})
        # Sample by sample is `parity`'s to say: every cold start on a device parses the manifest.
        for name in ("flipped", "engine_version", "machine", "peak_bytes"):
            figures.pop(name, None)
    except EngineError as error:
        return {**answer, "reason": str(error)}
    answer.update(ran=True, verdict=figures["verdict"], reason=figures["reason"], figures=figures)
    return {**answer, "golden_difference": golden if golden < float("inf") else None}


def _try(bundle: Path, artifact: str, engine: str, gate: Mapping[str, Any]) -> Trial:
    arguments = {"bundle": str(bundle), "artifact": artifact, "engine": engine, "gate": dict(gate)}
    try:
        answer = run_isolated(f"{__name__}:trial_task", arguments, TIMEOUT_S)
    except EngineError as error:
        # The process died before it could say how far it came.
        answer = {"loaded": False, "ran": False, "reason": str(error)}
    record = EngineRecord(
        engine=engine,
        version=answer.get("version") or metadata_version(engine),
        machine=machine(),
        loaded=answer["loaded"],
        ran=answer["ran"],
        verdict=answer.get("verdict"),
        reason=answer["reason"],
        figures=answer.get("figures", {}),
    )
    return Trial(record, answer.get("golden_difference"))

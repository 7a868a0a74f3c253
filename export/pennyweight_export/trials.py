"""Try each artifact on each installed engine, in child processes, and note what happened."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version as metadata_version
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

from pennyweight.bundle import Bundle, open_bundle
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
    bundle: Path, artifacts: Sequence[ArtifactSpec], gate: Mapping[str, Any], notice: Callable[[str], None]
) -> dict[str, list[Trial]]:
    """Give by artifact one trial per installed engine that reads its format.

    An engine tries one artifact after the other in one child process, and as many engines are at it as there are
    cores. If that process dies, each artifact is tried in a process of its own.

    Args:
        bundle: a bundle's folder with golden and evaluation set.
        artifacts: the artifacts to try.
        gate: "max_drop" and "confidence" of the verdict, and where it is asked for "min_agreement".
        notice: told of engines that aren't installed.
    """
    work = {}
    for engine in dict.fromkeys(engine for spec in artifacts for engine in engines_for(spec.format)):
        names = [spec.name for spec in artifacts if engine in engines_for(spec.format)]
        if is_installed(engine):
            notice(f"trying {len(names)} {'file' if len(names) == 1 else 'files'} on {engine}")
            work[engine] = names
        else:
            notice(f"{engine} isn't installed; not tried on it: {', '.join(names)}")
    trials: dict[str, list[Trial]] = {spec.name: [] for spec in artifacts}
    stopped = Event()
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        jobs = {engine: pool.submit(_try_all, bundle, names, engine, gate, stopped) for engine, names in work.items()}
        try:
            for engine, names in work.items():
                for name, trial in zip(names, jobs[engine].result()):
                    trials[name].append(trial)
        except BaseException:
            # Ctrl-C ends the children too, and they must not be taken for engines that crashed and be tried again.
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return trials


def trial_task(arguments: dict[str, Any]) -> dict[str, Any]:
    """Try one artifact after the other on one engine; in the child, for ``run_isolated``."""
    bundle = open_bundle(arguments["bundle"])
    return {"answers": [_answer(bundle, name, arguments) for name in arguments["artifacts"]]}


def _answer(bundle: Bundle, artifact: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Load an artifact, replay the golden set, measure parity."""
    engine = arguments["engine"]
    answer: dict[str, Any] = {"loaded": False, "ran": False}
    try:
        answer["version"] = engine_version(engine)
        model = load(bundle, artifact=artifact, engine=engine)
        answer["loaded"] = True
        golden = replay_golden(model, bundle.golden()).largest
        gate = dict(arguments["gate"])
        least = gate.pop("min_agreement", None)
        # It reads the evaluation set in pieces, however large that is.
        pair = {"bundle": arguments["bundle"], "artifact": artifact, "engine": engine}
        figures = parity_task({**pair, **gate})
        if least is not None and figures.get("agreement", 1.0) < least:
            figures.update(
                verdict="fail", reason=f"agreement {figures['agreement']:.2%}, at least {least:.2%} is asked for"
            )
        # Sample by sample is `parity`'s to say: every cold start on a device parses the manifest.
        for name in ("flipped", "engine_version", "machine", "peak_bytes"):
            figures.pop(name, None)
    except EngineError as error:
        return {**answer, "reason": str(error)}
    answer.update(ran=True, verdict=figures["verdict"], reason=figures["reason"], figures=figures)
    return {**answer, "golden_difference": golden if golden < float("inf") else None}


def _try_all(
    bundle: Path, artifacts: Sequence[str], engine: str, gate: Mapping[str, Any], stopped: Event
) -> list[Trial]:
    if stopped.is_set():
        return []
    arguments = {"bundle": str(bundle), "artifacts": list(artifacts), "engine": engine, "gate": dict(gate)}
    try:
        answers = run_isolated(f"{__name__}:trial_task", arguments, TIMEOUT_S * len(artifacts))["answers"]
    except EngineError as error:
        if len(artifacts) > 1:
            return [trial for name in artifacts for trial in _try_all(bundle, [name], engine, gate, stopped)]
        # The process died before it could say how far it came.
        answers = [{"loaded": False, "ran": False, "reason": str(error)}]
    return [_trial(engine, answer) for answer in answers]


def _trial(engine: str, answer: dict[str, Any]) -> Trial:
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

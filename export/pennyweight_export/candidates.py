"""Candidates: what each tool made of a recipe, and which of them becomes the artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pennyweight.manifest import ArtifactSpec, EngineRecord, Gap

from .recipes import Recipe
from .trials import Trial


class Candidate(NamedTuple):
    """What one tool made of a recipe: a file with its description, or neither and the reason.

    ``spec.name`` is the file's name while the engines try it; the one that is chosen is renamed to ``recipe.name``.
    """

    recipe: Recipe
    converter: Mapping[str, Any]
    spec: ArtifactSpec | None
    content: bytes
    reason: str


class Choice(NamedTuple):
    """The candidate that becomes the artifact, its final description, and how the engines fared with it."""

    candidate: Candidate
    spec: ArtifactSpec
    trials: tuple[Trial, ...]


def choose(
    recipes: Sequence[Recipe], candidates: Sequence[Candidate], trials: Mapping[str, Sequence[Trial]]
) -> tuple[list[Choice], list[Gap]]:
    """Choose one candidate for each recipe, and name the recipes that have none.

    The one that passes on most engines; then that is undecided on most; then that is wrong on fewest, as an engine
    that refuses a file does less harm; then the one whose worst engine answers most like the original; then the first.

    Args:
        recipes: what was to be made.
        candidates: all that were made of them.
        trials: by the candidates' ``spec.name``.
    """
    choices, gaps = [], []
    for recipe in recipes:
        rivals = [candidate for candidate in candidates if candidate.recipe == recipe]
        made = [candidate for candidate in rivals if candidate.spec]
        if not made:
            gaps.append(Gap(recipe.name, "; ".join(dict.fromkeys(candidate.reason for candidate in rivals))))
            continue
        best = max(made, key=lambda candidate: _merit(_tried(candidate, trials)))
        assert best.spec is not None
        tried = tuple(_tried(best, trials))
        converter = dict(best.converter)
        if len(rivals) > 1:
            converter["candidates"] = [_record(one, _tried(one, trials), one is best) for one in rivals]
        records = tuple(trial.record for trial in tried)
        choices.append(Choice(best, best.spec._replace(name=recipe.name, converter=converter, engines=records), tried))
    return choices, gaps


def likeness(record: EngineRecord) -> float | None:
    """Say how like the original's the answers were: agreement, or less the relative error; None without figures."""
    if "agreement" in record.figures:
        return float(record.figures["agreement"])
    errors = [output["relative_error"] for output in record.figures.get("outputs", ())]
    return None if not errors or None in errors else -float(max(errors))


def _merit(trials: Sequence[Trial]) -> tuple[float, ...]:
    records = [trial.record for trial in trials]
    verdicts = [record.verdict for record in records]
    alike = [likeness(record) for record in records if record.verdict in ("pass", "inconclusive")]
    worst = min((value for value in alike if value is not None), default=float("-inf"))
    return verdicts.count("pass"), verdicts.count("inconclusive"), -verdicts.count("fail"), worst


def _tried(candidate: Candidate, trials: Mapping[str, Sequence[Trial]]) -> Sequence[Trial]:
    return trials.get(candidate.spec.name, ()) if candidate.spec else ()


def _record(candidate: Candidate, trials: Sequence[Trial], chosen: bool) -> dict[str, Any]:
    """Give what the manifest keeps of a candidate: short, as every cold start on a device reads it."""
    if candidate.spec is None:
        return {**candidate.converter, "chosen": False, "reason": candidate.reason}
    engines = []
    for record in (trial.record for trial in trials):
        entry: dict[str, Any] = {"engine": record.engine, "version": record.version, "loaded": record.loaded}
        entry |= {"ran": record.ran, "verdict": record.verdict, "likeness": likeness(record)}
        if record.verdict != "pass":
            entry["reason"] = record.reason
        engines.append(entry)
    return {**candidate.converter, "chosen": chosen, "bytes": len(candidate.content), "engines": engines}

"""``verify``: the hashes, then the golden self-test on every artifact and engine."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Callable

import numpy  # noqa: F401  where it can't be imported, that is one line here instead of one for each row

from pennyweight.bundle import Bundle, open_bundle
from pennyweight.engines import absence, adapter_module, engines_for, is_installed
from pennyweight.errors import CheckFailedError, IntegrityError, PennyweightError
from pennyweight.isolation import Outcome, run_each
from pennyweight.output import emit, notice
from pennyweight.tables import brief, text_table

from ._arguments import add_bundle, add_choice, add_trust

HELP = "the hashes, then the golden self-test on each artifact and engine"
EXTENSIBLE = True
# A golden set is a few samples; an engine that needs longer for it hangs.
TIMEOUT = 120.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_bundle(parser)
    add_choice(parser)
    add_trust(parser)


def run(args: argparse.Namespace) -> int:
    """Exit code 1 when a hash or the signature is wrong, an engine fails, or an answer isn't the original's."""
    try:
        bundle = open_bundle(args.bundle, trust=args.trust)
        unlisted = bundle.check()
    except IntegrityError as error:
        raise CheckFailedError(str(error)) from error
    for name in unlisted:
        notice(args, f"{bundle.path}: {name} isn't listed in the manifest and is never read")
    if bundle.evaluation_left_behind:
        notice(args, f"{bundle.path}: the evaluation set stayed behind when this bundle was installed")
    tried = pairs(bundle, args.artifact, args.engine)
    rows = [_known(bundle, row) for row in _rows(bundle, tried)]
    result = {
        "bundle": str(bundle.path),
        "name": bundle.manifest.name,
        "files": len(bundle.manifest.files),
        "signed_by": bundle.signer,
        "rows": rows,
    }
    emit(args, result, _text(bundle, rows))
    if not any(row["status"] == "pass" for row in rows):
        raise CheckFailedError(f"{bundle.path}: no artifact answers the golden set right on an engine installed here")
    return 1 if any(row["status"] == "fail" for row in rows) else 0


def pairs(bundle: Bundle, artifact: str | None, engine: str | None) -> list[tuple[str, str]]:
    """Give the pairs of artifact and engine that are to be tried; raise for names that don't exist."""
    from pennyweight.engines import engine_kind

    specs = [bundle.manifest.artifact(artifact)] if artifact else list(bundle.manifest.artifacts)
    if engine:
        engine_kind(engine)
    return [(spec.name, name) for spec in specs for name in engines_for(spec.format) if engine in (None, name)]


def on_each(
    tried: Sequence[tuple[str, str]], run: Callable[[str, list[str]], Iterable[Outcome]]
) -> dict[tuple[str, str], Outcome | None]:
    """Give what ``run(engine, artifacts)`` gives for each pair, engine by engine; None where it isn't installed."""
    found: dict[tuple[str, str], Outcome | None] = dict.fromkeys(tried)
    for engine in dict.fromkeys(engine for _, engine in tried):
        if is_installed(engine):
            artifacts = [artifact for artifact, other in tried if other == engine]
            found.update(zip([(artifact, engine) for artifact in artifacts], run(engine, artifacts)))
    return found


def _rows(bundle: Bundle, tried: Sequence[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    def run(engine: str, artifacts: list[str]) -> Iterable[Outcome]:
        each = [{"bundle": str(bundle.path), "artifact": artifact, "engine": engine} for artifact in artifacts]
        return run_each("pennyweight.golden:golden_task", each, TIMEOUT, adapter_module(engine))

    for (artifact, engine), outcome in on_each(tried, run).items():
        row: dict[str, Any] = {"artifact": artifact, "engine": engine}
        if outcome is None:
            yield {**row, "status": "absent", "reason": absence(engine)}
        elif isinstance(outcome, PennyweightError):
            yield {**row, "status": "fail", "reason": str(outcome)}
        else:
            reason = "" if outcome["passed"] else "answers unlike the original"
            yield {**row, **outcome, "status": "pass" if outcome["passed"] else "fail", "reason": reason}


def _known(bundle: Bundle, row: dict[str, Any]) -> dict[str, Any]:
    """Turn a failure that the export already saw with this engine into "excluded": nothing chooses that pair."""
    for record in bundle.manifest.artifact(row["artifact"]).engines:
        if row["status"] == "fail" and record.engine == row["engine"] and record.verdict in (None, "fail"):
            return {**row, "status": "excluded", "reason": f"as when it was exported: {record.reason}"}
    return row


def _text(bundle: Bundle, rows: list[dict[str, Any]]) -> str:
    notes: list[str] = []
    cells = [
        [
            row["artifact"],
            f"{row['engine']} {row.get('version', '')}".strip(),
            row["status"],
            f"{row['largest']:.2g}" if "largest" in row else "",
            f"{row['tolerance']:.2g}" if "tolerance" in row else "",
            "" if row.get("changed") is None else str(row["changed"]),
            brief(row["reason"], f"{row['artifact']} on {row['engine']}", notes),
        ]
        for row in rows
    ]
    header = ["artifact", "engine", "self-test", "largest difference", "allowed", "labels changed", ""]
    title = f"{bundle.manifest.name}: {len(bundle.manifest.files)} files, every hash right"
    if bundle.signer:
        title += f", signed by {bundle.signer}"
    return "\n".join([title, "", text_table(header, cells, 3), *notes])

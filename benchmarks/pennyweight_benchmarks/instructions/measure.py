"""Instructions counted: each artifact × engine on each target, the parts of a start and single calls."""

from __future__ import annotations

import datetime
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pennyweight
from pennyweight.bundle import Bundle
from pennyweight.choices import bundle_digest
from pennyweight_benchmarks.documents import INSTRUCTIONS, VERSION
from pennyweight_benchmarks.pi import TARGETS, Built, Target, build_all
from pennyweight_benchmarks.pi.errors import TargetError
from pennyweight_benchmarks.pi.lock import Lock, read_lock
from pennyweight_benchmarks.pi.targets import EMULATOR

from .plugin import counting_plugin
from .stage import count_once, open_stage

JsonObject = dict[str, Any]
Progress = Callable[[str], None]

# Two processes show that nothing differs between them.
ROUNDS = 2
WORKERS = 2
# The packages whose code is counted; what else a target holds doesn't run.
COUNTED_PACKAGES = re.compile(
    r"libc6|libgcc-s1|libstdc\+\+6|libssl3\w*|zlib1g|(lib)?python3(\.\d+)?(-minimal|-stdlib)?"
    r"|python3-numpy|libblas3|liblapack3|libgfortran5"
    r"|python3-onnxruntime|libonnxruntime.*|libonnx1\w*|libabsl.*|libcpuinfo0|libprotobuf.*|libpthreadpool0|libxnnpack.*"
)


def measure_instructions(
    bundle: Bundle,
    pairs: Sequence[tuple[str, str]],
    targets: Sequence[str] = tuple(TARGETS),
    rounds: int = ROUNDS,
    runtime: Path | None = None,
    progress: Progress = print,
) -> JsonObject:
    """Count the instructions of one image, and of a start, for pairs of artifact and engine on each target.

    Args:
        bundle: its first golden sample is what is answered.
        pairs: artifact and engine; one that a target has no wheel for is a row that says so.
        targets: names of ``pennyweight_benchmarks.pi.TARGETS``.
        rounds: fresh processes for each row; equal counts in them show that nothing differs.
        runtime: the folder of the package ``pennyweight`` to count; by default the one that runs here.
        progress: called with a line of text before each step.

    Returns:
        JSON: "targets" with the packages that pin their counts, and "rows", each with a status, a reason where there
        are no counts, and each round's "start" (instructions by part), "classify" and "bare" (``Calls``, or missing).

    Raises:
        TargetError: no C compiler, or no target can be had.
    """
    plugin, lock = counting_plugin(), read_lock()
    built, left_out = build_all(targets, progress)
    if not built:
        raise TargetError(next(iter(left_out.values()), "no target was asked for"))
    rows = [_new_row(TARGETS[name], *pair, left_out.get(name, "")) for name in targets for pair in pairs]
    groups: dict[tuple[str, str], list[JsonObject]] = {}
    for row in rows:
        if row["status"] == "ok":
            groups.setdefault((row["target"], row["engine"]), []).append(row)
    package = runtime or Path(pennyweight.__file__).parent
    stopped = threading.Event()

    def count(group: tuple[str, str]) -> None:
        target, engine = group
        with open_stage(bundle, built[target], engine, package, plugin) as stage:
            progress(f"{target}: compiling bytecode for {engine}")
            _tried(groups[group][0], lambda row: count_once(stage, row["artifact"], engine, compiling=True))
            for row in groups[group]:
                if stopped.is_set():
                    return
                progress(f"{target}: counting {row['artifact']} on {engine}")
                _tried(row, lambda row: _count(row, rounds, lambda: count_once(stage, row["artifact"], engine)))

    _for_all(count, list(groups), stopped)
    return {
        "format": INSTRUCTIONS,
        "version": VERSION,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "bundle": bundle.manifest.name,
        "bundle_sha256": bundle_digest(bundle),
        "emulation": "QEMU user mode",
        "targets": {name: _about(TARGETS[name], built.get(name), lock) for name in targets},
        "rows": rows,
    }


def _new_row(target: Target, artifact: str, engine: str, left_out: str) -> JsonObject:
    row: JsonObject = {"target": target.name, "artifact": artifact, "engine": engine, "status": "ok", "reason": ""}
    row.update(engine_version=None, numpy=None, python=target.python, no_bare="", threads=1, rounds=[])
    if engine not in target.engines:
        reason = f"{engine} has no wheel for Python {target.python} on {target.machine}"
        row.update(status="absent", reason=reason)
    elif left_out:
        row.update(status="failed", reason=f"the target can't be had: {left_out}")
    return row


def _tried(row: JsonObject, attempt: Callable[[JsonObject], object]) -> None:
    """Make an attempt for a row, unless an earlier one failed; where it fails the row says why."""
    if row["status"] != "ok":
        return
    try:
        attempt(row)
    except (TargetError, OSError, ValueError) as error:
        row.update(status="failed", reason=str(error), rounds=[])


def _count(row: JsonObject, rounds: int, once: Callable[[], tuple[Any, JsonObject]]) -> None:
    for _ in range(rounds):
        counts, about = once()
        calls = {name: one._asdict() for name, one in counts.calls.items()}
        row.update(about)
        row["rounds"].append({"start": counts.start, **calls})
        row["threads"] = max(row["threads"], counts.threads)


def _for_all(
    work: Callable[[tuple[str, str]], None], jobs: Sequence[tuple[str, str]], stopped: threading.Event
) -> None:
    """Do the jobs, two at a time; when this is interrupted, those that wait aren't begun, and ``stopped`` is set."""
    pool = ThreadPoolExecutor(WORKERS)
    try:
        for _ in pool.map(work, jobs):
            pass
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)


def _about(target: Target, built: Built | None, lock: Lock) -> JsonObject:
    """Say what a target is, and which versions of packages its counts hold for."""
    packages = {name: version for name, (version, _) in lock.debian.get(target.name, {}).items()}
    for change in built.moved_on if built else ():
        name, _, _, now = change.split()
        packages[name] = now
    about = {"board": target.board, "core": target.core, "suite": target.suite, "architecture": target.architecture}
    pinned = {name: version for name, version in sorted(packages.items()) if COUNTED_PACKAGES.fullmatch(name)}
    emulator = lock.debian.get(EMULATOR.name, {}).get(EMULATOR.name, ("unknown", ""))[0]
    return {**about, "packages": {EMULATOR.name: emulator, **pinned}}

"""From a bundle to a loaded model: which artifact, on which engine, and why."""

from __future__ import annotations

import os
import sys
import warnings
from _thread import allocate_lock, start_new_thread  # threading itself would take a tenth of our start
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .bundle import Bundle, open_bundle
from .engines import ENGINES, Engine, Read, engine_kind, engine_version, engines_for, is_installed, open_engine
from .errors import BundleError, CheckFailedError, EngineError, EngineMissingError, UsageError
from .manifest import ArtifactSpec

if TYPE_CHECKING:
    from .model import Model

BARE_SUFFIXES = (".tflite", ".onnx")
# From here on reading and hashing takes longer than starting a thread for it.
LARGE_BYTES = 2**20


class VerdictWarning(UserWarning):
    """An artifact was chosen by hand that failed parity on this engine."""


def load(
    bundle: str | os.PathLike[str] | Bundle,
    *,
    artifact: str | None = None,
    engine: str | None = None,
    threads: int | None = None,
    trust: str | os.PathLike[str] | None = None,
    labels: Sequence[str] = (),
    trial: bool = True,
) -> Model:
    """Load a model from a bundle, or from a bare ``.tflite`` or ``.onnx`` file.

    Args:
        bundle: a bundle's folder or ``.pennyweight`` file, or one that is already open.
        artifact: a model file of the bundle; by default what ``select`` found best here, else a float32 one.
        engine: ``ai-edge-litert``, ``tflite-runtime`` or ``onnxruntime``; by default ``select``'s choice, else the
            first installed that passed parity.
        threads: the engine's threads for one inference; by default ``select``'s choice, else 1.
        trust: an allowed-signers file of ssh-keygen; a bundle that none of them signed is refused.
        labels: for a bare file whose one output is a row of probabilities: the classes' names.
        trial: for a bare file: load and run it in a child process first, as a damaged one can crash an engine.

    Raises:
        UsageError: no such engine, or one that can't read that artifact.
        BundleError, IntegrityError: the bundle is missing, damaged, or has no such artifact.
        SignatureError: nobody in ``trust`` has signed the bundle.
        EngineMissingError: no engine for it is installed.
        EngineError: the engine refused the model.
        CheckFailedError: no pair of artifact and engine passed.
    """
    if threads is not None and (not isinstance(threads, int) or not 1 <= threads <= 1024):
        raise UsageError(f"threads must be a whole number from 1 on, got {threads!r}")
    if not isinstance(bundle, Bundle) and os.fspath(bundle).endswith(BARE_SUFFIXES):
        return _load_bare(bundle, artifact, engine, threads or 1, trust, labels, trial)
    if labels:
        raise UsageError("labels are for a bare model file; a bundle brings its own")
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle, trust=trust)
    if opened is bundle and trust is not None:
        opened.require_signature(trust)
    if artifact is not None or engine is not None:
        return _load_chosen(opened, artifact, engine, threads or 1)
    return _load_remembered(opened, threads) or _load_first_passing(opened, threads or 1)


def _load_bare(
    path: str | os.PathLike[str],
    artifact: str | None,
    engine: str | None,
    threads: int,
    trust: str | os.PathLike[str] | None,
    labels: Sequence[str],
    trial: bool,
) -> Model:
    from .bare import load_bare

    if artifact is not None or trust is not None:
        raise UsageError(f"{os.fspath(path)}: a bare file has no artifacts and no signature; give a bundle")
    return load_bare(Path(path), engine, threads, labels, trial)


def _load_chosen(bundle: Bundle, artifact: str | None, engine: str | None, threads: int) -> Model:
    missing: EngineMissingError | None = None
    for spec, name in _pairs(bundle, artifact, engine):
        try:
            loaded = open_engine(name, _reading(bundle, spec, name), threads)
        except EngineMissingError as error:
            missing = missing or error
            continue
        record = spec.record_for(name, loaded.version, machine())
        if record is not None and record.verdict == "fail":
            warnings.warn(
                f"{spec.name} failed parity on {name} {loaded.version}: {record.reason or 'see `pennyweight parity`'}",
                VerdictWarning,
                stacklevel=3,
            )
        return _model(bundle, spec, loaded, threads, "chosen by the caller")
    raise missing or BundleError(f"{bundle.path}: no artifact here is for {engine}")


def _load_remembered(bundle: Bundle, threads: int | None) -> Model | None:
    """Load what ``select`` chose, unless the choice is stale: made elsewhere, or with another engine version."""
    from .choices import read_choice

    choice = read_choice(bundle)
    if choice is None:
        return None
    try:
        spec = bundle.manifest.artifact(choice.artifact)
        read = _reading(bundle, spec, choice.engine)
        if engine_version(choice.engine) != choice.engine_version:
            return None
        record = spec.record_for(choice.engine, choice.engine_version, machine())
        if record is not None and record.verdict != "pass":
            return None
        threads = threads or choice.threads
        engine = open_engine(choice.engine, read, threads)
    except (UsageError, EngineError):
        return None
    reason = f"select found it fastest on this device ({choice.measured})"
    return _model(bundle, spec, engine, threads, reason)


def _load_first_passing(bundle: Bundle, threads: int) -> Model:
    missing: EngineMissingError | None = None
    refused = []
    for spec, name in _pairs(bundle, None, None):
        try:
            read = _reading(bundle, spec, name)
            record = spec.record_for(name, engine_version(name), machine())
            if record is not None and record.verdict != "pass":
                refused.append(f"{spec.name} on {name}: {record.verdict or record.reason}")
                continue
            model = _model(bundle, spec, open_engine(name, read, threads), threads, "")
            if record is None:
                from .golden import require_golden

                require_golden(model, bundle.golden())
        except EngineMissingError as error:
            missing = missing or error
        except (EngineError, CheckFailedError) as error:
            refused.append(str(error))
        else:
            evidence = (
                "passed parity when it was exported" if record else "answered the golden set right on this machine"
            )
            model.reason = f"the first installed engine with a {spec.precision} artifact that {evidence}"
            return model
    if refused:
        raise CheckFailedError(f"{bundle.path}: no artifact may be chosen here ({'; '.join(refused)})")
    raise missing or BundleError(f"{bundle.path}: no artifact that an engine here reads")


def _model(bundle: Bundle, spec: ArtifactSpec, engine: Engine, threads: int, reason: str) -> Model:
    from .model import Model  # here, so that a large artifact's reading may begin before

    return Model(bundle.manifest, spec, engine, threads, reason)


def _reading(bundle: Bundle, spec: ArtifactSpec, name: str) -> Read:
    """Give what reads an artifact. A large one is read and hashed beside the import of its engine's library."""
    kind, record = engine_kind(name), bundle.manifest.files.get(spec.name)
    if record is None or record.size < LARGE_BYTES or kind.library in sys.modules or not is_installed(name):
        return lambda: bundle.read(spec.name)
    read, done = bundle.reader(spec.name), allocate_lock()
    found: list[bytes | Exception] = []

    def work() -> None:
        try:
            found.append(read())
        except Exception as error:  # noqa: BLE001  whoever waits raises it
            found.append(error)
        finally:
            done.release()

    done.acquire()
    try:
        start_new_thread(work, ())
    except RuntimeError:  # a service may be allowed no more threads
        return read
    from . import model  # noqa: F401  meanwhile

    def wait() -> bytes:
        done.acquire()
        content = found.pop()
        if isinstance(content, Exception):
            raise content
        return content

    return wait


def _pairs(bundle: Bundle, artifact: str | None, engine: str | None) -> Iterator[tuple[ArtifactSpec, str]]:
    """Give artifact × engine in order of preference: float32, then the others as they stand; then by engine."""
    specs = [bundle.manifest.artifact(artifact)] if artifact else bundle.manifest.artifacts
    names = [engine] if engine else list(ENGINES)
    for name in names:
        if name not in ENGINES:
            raise UsageError(f"no engine {name!r}; the engines are {', '.join(ENGINES)}")
        if artifact and engine and name not in engines_for(specs[0].format):
            raise UsageError(f"{name} doesn't read {artifact}; {' or '.join(engines_for(specs[0].format))} does")
    for precision in sorted(dict.fromkeys(spec.precision for spec in specs), key=lambda text: text != "float32"):
        for name in names:
            for spec in specs:
                if spec.precision == precision and name in engines_for(spec.format):
                    yield spec, name


def machine() -> str:
    """Give the processor's architecture as the kernel names it, such as "aarch64"."""
    return os.uname().machine if hasattr(os, "uname") else os.environ.get("PROCESSOR_ARCHITECTURE", "unknown").lower()

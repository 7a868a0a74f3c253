"""A ``.tflite`` or ``.onnx`` file without a bundle: nothing vouches for it, so a child process tries it first.

Its inputs are given as the file itself takes them (a quantised one wants the integers, such as pixels); its outputs
come back as float32, dequantised where the file says how.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .engines import Engine, TensorSpec, engines_for, open_engine
from .engines._flatbuffer import tables_hold
from .errors import BundleError, EngineError, EngineMissingError, InputError, UsageError
from .isolation import run_isolated
from .manifest import DTYPES, ArtifactSpec, InputSpec, Manifest, OutputSpec, Wire
from .model import Model

FORMATS = {".tflite": "tflite", ".onnx": "onnx"}
# Loading and two small batches; a file that keeps an engine busy for longer is as good as broken.
TRIAL_TIMEOUT = 60.0


def load_bare(path: Path, engine: str | None, threads: int, labels: Sequence[str], trial: bool) -> Model:
    """Load a model file that no bundle vouches for.

    Args:
        path: a ``.tflite`` or ``.onnx`` file.
        engine: an engine's name, or None for the first installed that reads the format.
        threads: the engine's threads for one inference.
        labels: the classes' names where the one output is a row of probabilities; otherwise none.
        trial: load and run it in a child process first, so that a crash of the engine is an EngineError here; for
            tflite-runtime also see that the file's tables lie in it, as what a child reads beyond them is chance.

    Raises:
        BundleError: the file can't be read.
        EngineError: the engine refused it, crashed on it or gave no answer.
        UsageError: the engine doesn't read this format, or the labels don't fit the output.
    """
    name = _engine_name(path, engine)
    content = _read(path)
    if trial:
        if name == "tflite-runtime" and not tables_hold(content):
            raise EngineError(f"{path}: it is damaged, in a way that can crash {name}; export the model again")
        try:
            run_isolated(f"{__name__}:trial_task", {"path": str(path), "engine": name}, TRIAL_TIMEOUT)
        except EngineMissingError:
            raise
        except EngineError as error:
            said = str(error) if str(error).startswith(name) else f"{name} {error}"
            raise EngineError(f"{path}: {said}; export the model again") from error
        if _read(path) != content:
            raise BundleError(f"{path}: it changed while it was tried; load it again")
    loaded = open_engine(name, lambda: content, threads)
    manifest = _manifest(path, loaded, labels)
    return Model(manifest, manifest.artifacts[0], loaded, threads, "a bare file, chosen by the caller")


def trial_task(arguments: dict[str, Any]) -> dict[str, Any]:
    """Load the file and run it on zeros, one sample and two; for a child process."""
    path = Path(arguments["path"])
    model = load_bare(path, arguments["engine"], 1, (), trial=False)
    for rows in (1, 2):
        zeros = {spec.name: np.zeros((rows, *spec.shape), spec.dtype) for spec in model.manifest.inputs}
        model.predict(zeros)
    return {"loaded": True}


def _engine_name(path: Path, engine: str | None) -> str:
    names = engines_for(FORMATS[path.suffix])
    if engine is None:
        from .engines import is_installed

        return next((name for name in names if is_installed(name)), names[0])
    if engine not in names:
        raise UsageError(f"{engine} doesn't read {path.name}; {' or '.join(names)} does")
    return engine


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: can't be read ({error.strerror}); give a bundle, .tflite or .onnx file") from error


def _manifest(path: Path, engine: Engine, labels: Sequence[str]) -> Manifest:
    inputs = tuple(InputSpec(spec.name, _shape(path, spec), _dtype(path, spec)) for spec in engine.inputs)
    outputs = tuple(OutputSpec(spec.name, _shape(path, spec), "raw", "none") for spec in engine.outputs)
    if labels:
        if len(outputs) != 1 or outputs[0].shape != (len(labels),):
            shapes = ", ".join(str(spec.shape) for spec in outputs)
            raise UsageError(f"{path}: {len(labels)} labels for an output of shape {shapes}; give one a class")
        outputs = (outputs[0]._replace(meaning="probabilities", labelling="single", labels=tuple(labels)),)
    to = tuple(Wire(spec.name, spec.name, spec.dtype) for spec in engine.inputs)
    out = tuple(Wire(spec.name, spec.name, spec.dtype, spec.scale, spec.zero_point) for spec in engine.outputs)
    artifact = ArtifactSpec(path.name, FORMATS[path.suffix], "unknown", to, out)
    return Manifest(path.name, "", {}, {}, inputs, outputs, {}, (artifact,))


def _shape(path: Path, spec: TensorSpec) -> tuple[int, ...]:
    if not spec.shape or any(size < 1 for size in spec.shape[1:]):
        raise InputError(f"{path}: {spec.name} has shape {spec.shape}; a bare file needs fixed sizes after the batch")
    return spec.shape[1:]


def _dtype(path: Path, spec: TensorSpec) -> str:
    if spec.dtype not in DTYPES:
        raise InputError(f"{path}: {spec.name} holds {spec.dtype}; Pennyweight runs models of numbers")
    return spec.dtype

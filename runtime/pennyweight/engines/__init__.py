"""The inference engines: which exist, which are installed, and one small adapter each.

An engine's library is imported only when that engine is opened or asked for its version.
"""

from __future__ import annotations

import importlib
from typing import Any, Callable, NamedTuple, Protocol

from pennyweight.errors import EngineError, EngineMissingError, PennyweightError, UsageError

Array = Any  # np.ndarray[Any, Any] can't be subscripted at run time on numpy 1.21
Run = Callable[[dict[str, Array]], dict[str, Array]]
RunOne = Callable[[Array], Array]
Read = Callable[[], bytes]


class TensorSpec(NamedTuple):
    """An engine's view of one tensor: its name in the file, its shape with the batch first (-1 for any), its dtype.

    ``scale`` and ``zero_point`` are set where the file says that its integers stand for other numbers.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


class Engine(Protocol):
    """One model file, loaded by one engine. Shapes and dtypes were checked before an array comes here."""

    name: str
    version: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def bind(self, batch: int) -> Run:
        """Prepare a batch size; give the function from arrays by tensor name to arrays by tensor name."""

    def bind_one(self, batch: int) -> RunOne:
        """Prepare a batch size of a model with one input and one output; give the function from array to array.

        The array that comes back may be overwritten by the next call.
        """

    def close(self) -> None:
        """Let go of the model and its buffers."""


class EngineKind(NamedTuple):
    """A kind of engine: its adapter's module here, its library's module, the format it reads, how to install it."""

    adapter: str
    library: str
    format: str
    install: str


# The order in which `load` prefers them.
ENGINES: dict[str, EngineKind] = {
    "ai-edge-litert": EngineKind("litert", "ai_edge_litert.interpreter", "tflite", "pip install ai-edge-litert"),
    "tflite-runtime": EngineKind(
        "tflite_runtime", "tflite_runtime.interpreter", "tflite", 'pip install tflite-runtime "numpy<2"'
    ),
    "onnxruntime": EngineKind("onnxruntime", "onnxruntime", "onnx", "pip install onnxruntime"),
}


def engine_kind(name: str) -> EngineKind:
    """Give what is known of an engine; raise UsageError for an unknown name."""
    kind = ENGINES.get(name)
    if kind is None:
        raise UsageError(f"no engine {name!r}; the engines are {', '.join(ENGINES)}")
    return kind


def engines_for(format_: str) -> list[str]:
    """Give the names of the engines that read "tflite" or "onnx" files, in order of preference."""
    return [name for name, kind in ENGINES.items() if kind.format == format_]


def is_installed(name: str) -> bool:
    """Say whether the engine's package is there, without importing it."""
    from importlib.util import find_spec

    return find_spec(engine_kind(name).library.partition(".")[0]) is not None


def absence(name: str) -> str:
    """Give why an engine isn't there: no wheel for this Python or processor, or just not installed."""
    import platform
    import sys

    only = ""
    if name == "tflite-runtime" and (sys.version_info >= (3, 12) or sys.platform != "linux"):
        only = "CPython up to 3.11 on Linux"
    elif name != "tflite-runtime" and platform.machine() == "armv7l":
        only = "64-bit processors"
    if only:
        return f"no wheel for Python {platform.python_version()} on {platform.machine()} (wheels: {only})"
    return f"not installed ({engine_kind(name).install})"


def open_engine(name: str, read: Read, threads: int = 1) -> Engine:
    """Load a model file with an engine.

    Args:
        name: the engine's.
        read: gives the file's bytes; called once, so that an engine that copies them can let go of them early.
        threads: the engine's threads for one inference.

    Raises:
        UsageError: no such engine.
        EngineMissingError: it isn't installed, or its import fails.
        EngineError: it refused the model.
        PennyweightError: as ``read`` raises it.
    """
    adapter = _adapter(name)
    try:
        engine: Engine = adapter.open_engine(read, threads)
    except PennyweightError:
        raise
    except Exception as error:
        raise EngineError(f"{name} {engine_version(name)} can't load this model: {first_line(error)}") from error
    return engine


def engine_version(name: str) -> str:
    """Give the installed version; raise EngineMissingError when the engine can't be imported."""
    version: str = _adapter(name).version()
    return version


def first_line(error: BaseException) -> str:
    """Give an exception's message as one short line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]


def adapter_module(name: str) -> str:
    """Give the name of the module whose import imports an engine's library."""
    return f"{__name__}.{engine_kind(name).adapter}"


def _adapter(name: str) -> Any:
    kind = engine_kind(name)
    try:
        return importlib.import_module(adapter_module(name))
    except ImportError as error:
        if is_installed(name):
            raise EngineMissingError(
                f"{name} is installed but its import fails ({first_line(error)}); `pennyweight doctor` says why"
            ) from error
        raise EngineMissingError(f"{name} isn't installed; install it with: {kind.install}") from error

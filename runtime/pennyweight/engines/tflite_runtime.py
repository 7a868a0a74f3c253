"""The engine tflite-runtime."""

from __future__ import annotations

import tflite_runtime
from tflite_runtime.interpreter import Interpreter

from . import Read
from ._tflite import TFLiteEngine


def version() -> str:
    """Give the installed version."""
    return str(tflite_runtime.__version__)


def open_engine(read: Read, threads: int) -> TFLiteEngine:
    """Load a ``.tflite`` file, whose bytes ``read`` gives."""
    content = read()
    return TFLiteEngine("tflite-runtime", version(), lambda: Interpreter(model_content=content, num_threads=threads))

"""The engine ai-edge-litert."""

from __future__ import annotations

import ai_edge_litert
from ai_edge_litert.interpreter import Interpreter

from . import Read
from ._tflite import TFLiteEngine


def version() -> str:
    """Give the installed version."""
    found = getattr(ai_edge_litert, "__version__", None)
    if found is None:
        from importlib.metadata import version as metadata_version

        found = metadata_version("ai-edge-litert")
    return str(found)


def open_engine(read: Read, threads: int) -> TFLiteEngine:
    """Load a ``.tflite`` file, whose bytes ``read`` gives."""
    content = read()
    return TFLiteEngine("ai-edge-litert", version(), lambda: Interpreter(model_content=content, num_threads=threads))

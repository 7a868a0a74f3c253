"""Pennyweight's benchmarks: the artifacts beside the original Keras model, as one table and as pictures."""

from __future__ import annotations

from .original import measure_original
from .results import make_results, results_markdown, results_text

__all__ = ["make_results", "measure_original", "results_markdown", "results_text"]

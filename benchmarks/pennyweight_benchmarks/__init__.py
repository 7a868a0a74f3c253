"""Pennyweight's benchmarks: the artifacts beside the original Keras model, as tables, as pictures and as one page.

Names are imported when they are first used: a worker process that is timed doesn't pay for charts.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .documents import Document as Document
    from .documents import check_document as check_document
    from .documents import read_documents as read_documents
    from .evidence import gather_evidence as gather_evidence
    from .instructions.measure import measure_instructions as measure_instructions
    from .original import measure_original as measure_original
    from .report import report_html as report_html
    from .results import make_results as make_results
    from .results import results_markdown as results_markdown
    from .results import results_text as results_text
    from .summary import report_markdown as report_markdown

_HOME = {
    "Document": "documents",
    "check_document": "documents",
    "gather_evidence": "evidence",
    "make_results": "results",
    "measure_instructions": "instructions.measure",
    "measure_original": "original",
    "read_documents": "documents",
    "report_html": "report",
    "report_markdown": "summary",
    "results_markdown": "results",
    "results_text": "results",
}
__all__ = [
    "Document",
    "check_document",
    "gather_evidence",
    "make_results",
    "measure_instructions",
    "measure_original",
    "read_documents",
    "report_html",
    "report_markdown",
    "results_markdown",
    "results_text",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'pennyweight_benchmarks' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])

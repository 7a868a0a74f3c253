"""The notebook, executed from start to end as a reader would; it is committed without outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOK = Path(__file__).parents[2] / "examples" / "digits.ipynb"


def shown(cell: Any, kind: str) -> str:
    """Give what a cell's outputs show of one media type; "stream" is what it prints."""
    if kind == "stream":
        return "".join(one["text"] for one in cell.outputs if one.get("name") == "stdout")
    return "".join(one["data"].get(kind, "") for one in cell.outputs if "data" in one)


def cell_with(notebook: Any, text: str) -> Any:
    (found,) = [cell for cell in notebook.cells if cell.cell_type == "code" and text in cell.source]
    return found


def test_it_is_committed_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.slow
def test_it_runs_from_start_to_end(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output["output_type"] != "error"
    assert "[0.0321 0.0871 0.2369 0.6439]" in shown(cell_with(notebook, "def softmax"), "stream")
    parity = shown(cell_with(notebook, "measure_parity(model"), "text/html")
    assert "<table>" in parity
    assert "pass: the drop is at most" in parity
    bench = shown(cell_with(notebook, "measure_bench("), "text/html")
    assert "<table>" in bench
    assert bench.count("int8.tflite") >= 1
    for text in ("permutation", "semilogy", 'f"label', "wrong[:24]"):
        assert shown(cell_with(notebook, text), "image/png"), text
    page = Path(shown(cell_with(notebook, "report_html("), "stream").strip())
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.slow
def test_a_broken_cell_would_be_seen(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])  # type: ignore[no-untyped-call]
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()

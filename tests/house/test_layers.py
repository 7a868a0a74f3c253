"""Arrows point down only: what each package may import is read in its source."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUNTIME = ROOT / "runtime" / "pennyweight"
ENGINES = {"litert.py": "ai_edge_litert", "tflite_runtime.py": "tflite_runtime", "onnxruntime.py": "onnxruntime"}
MAY_IMPORT = {
    "data/pennyweight_data": {"pennyweight"},
    "train/pennyweight_train": {"pennyweight", "pennyweight_data"},
    "export/pennyweight_export": {"pennyweight", "pennyweight_data"},
    "benchmarks/pennyweight_benchmarks": {"pennyweight", "pennyweight_data", "pennyweight_train", "pennyweight_export"},
}


def imported(path: Path) -> Iterator[str]:
    """Give the top-level names of the packages that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.partition(".")[0]


def allowed_for(path: Path) -> set[str]:
    extra = {ENGINES[path.name]} if path.parent.name == "engines" and path.name in ENGINES else set()
    return {"numpy", "pennyweight", *sys.stdlib_module_names, *extra, *({"PIL"} if path.name == "images.py" else ())}


@pytest.mark.parametrize("path", sorted(RUNTIME.rglob("*.py")), ids=lambda path: str(path.relative_to(RUNTIME)))
def test_the_runtime_imports_numpy_the_standard_library_and_its_engine(path: Path) -> None:
    assert set(imported(path)) <= allowed_for(path)


def test_the_check_would_see_an_intruder(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def f():\n    from tensorflow import keras\n    import PIL.Image\n")
    assert set(imported(tmp_path / "bad.py")) - allowed_for(tmp_path / "bad.py") == {"tensorflow", "PIL"}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_workstation_packages_import_downwards_only(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        ours = {name for name in imported(path) if name.startswith("pennyweight")}
        assert ours <= {*MAY_IMPORT[package], Path(package).name}, path

"""What the runtime's tests share. They need numpy, pytest and one engine; nothing of the workstation."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from support import FIXTURE


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Give a copy of the version-1 bundle that a test may damage."""
    copy = tmp_path / "tiny"
    shutil.copytree(FIXTURE, copy)
    return copy


@pytest.fixture
def archive(bundle: Path) -> Path:
    """Give the same bundle as one uncompressed zip."""
    path = bundle.with_suffix(".pennyweight")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as zipped:
        for file in sorted(bundle.iterdir()):
            zipped.write(file, file.name)
    return path

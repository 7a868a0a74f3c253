"""Ctrl-C and kill in the middle of an export, to the real command: no half bundle, and the old one untouched."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pennyweight import open_bundle
from pennyweight_data import Dataset

from .test_command import save


@pytest.fixture
def arguments(tiny_model: Any, data: Dataset, tmp_path: Path) -> list[Any]:
    """Give the command's arguments but the output."""
    tiny_model.save(tmp_path / "model.keras")
    save(tmp_path / "data.npz", data)
    (tmp_path / "place").mkdir()
    return ["export", tmp_path / "model.keras", "--data", tmp_path / "data.npz"]


SIGNALS = pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)], ids=["interrupt", "kill"]
)


@SIGNALS
def test_stopped_half_way_there_is_no_bundle(
    arguments: list[Any], tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    output = tmp_path / "place" / "out.pennyweight"
    stopped([*arguments, "-o", output], sent, code)
    assert not output.exists()
    if sent == signal.SIGINT:
        assert list(output.parent.iterdir()) == []


@SIGNALS
def test_stopped_half_way_the_old_bundle_is_untouched(
    arguments: list[Any], tiny_bundle: Path, tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    output = tmp_path / "place" / "out"
    shutil.copytree(tiny_bundle, output)
    before = {entry.name: entry.read_bytes() for entry in output.iterdir()}
    stopped([*arguments, "-o", output, "--force"], sent, code)
    assert {entry.name: entry.read_bytes() for entry in output.iterdir()} == before
    assert open_bundle(output).check() == []
    if sent == signal.SIGINT:
        assert list(output.parent.iterdir()) == [output]


def stopped(arguments: list[Any], sent: signal.Signals, code: int) -> None:
    """Run the command and send a signal once some artifacts are written."""
    line = [sys.executable, "-m", "pennyweight", *map(str, arguments)]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for notice in process.stderr:
            if notice.startswith("float32.onnx: converting"):
                process.send_signal(sent)
                break
        assert "Traceback" not in process.stderr.read()
    assert process.returncode == code

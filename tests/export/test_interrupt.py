"""Ctrl-C and kill in the middle of an export, to the real command: no half bundle, and the old one untouched."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pennyweight import open_bundle
from pennyweight_data import Dataset

from .forked import Forked
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


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("name", "sent", "moments"),
    [
        ("out", signal.SIGKILL, 10),
        ("out.pennyweight", signal.SIGKILL, 10),
        ("out", signal.SIGINT, 8),
        ("out.pennyweight", signal.SIGINT, 8),
    ],
)
def test_stopped_at_random_moments_a_whole_bundle_stands_alone(
    arguments: list[Any], tmp_path: Path, name: str, sent: signal.Signals, moments: int
) -> None:
    randomly, output = random.Random(name), tmp_path / "place" / name
    counts = {"old": 0, "new": 0, "stopped": 0, "leftovers": 0}
    with Forked() as forked:

        def run(title: str, after: float | None = None) -> subprocess.CompletedProcess[str]:
            line = [*arguments, "-o", output, "--force", "--name", title]
            return forked.run(*line, log=tmp_path, after=after, sent=sent)

        assert run("0").returncode == 0
        for moment in range(1, moments + 1):
            before = open_bundle(output).manifest.name
            # The last tenth is where the bundle is put in its place, so more moments lie there.
            share = randomly.uniform(0, 1) if moment % 2 else randomly.uniform(0.85, 1.02)
            result = run(str(moment), share * forked.whole)
            bundle = open_bundle(output)
            assert bundle.check() == []
            assert bundle.manifest.name in (before, str(moment))
            counts["new" if bundle.manifest.name == str(moment) else "old"] += 1
            counts["stopped"] += result.returncode != 0
            left = [path for path in output.parent.iterdir() if path != output]
            counts["leftovers"] += bool(left)
            if result.returncode == 130:
                assert "Traceback" not in result.stderr
                assert left == []
            else:
                assert result.returncode in (0, -sent)
        assert run("last").returncode == 0
    print(name, sent.name, counts)
    assert counts["stopped"] >= moments // 2
    assert counts["old"] >= moments // 4
    assert open_bundle(output).manifest.name == "last"
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

"""docs/raspberry-pi.md on the targets, word for word: its shell blocks, and its programs with made-up cameras."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pennyweight import open_bundle
from pennyweight_benchmarks.pi import TARGETS, Built, make_environment, run_python
from pi_page import FRAMES, PAGE, SHELL, make_home, shell

# The first test waits for its part, and that for the parts before it.
pytestmark = [pytest.mark.pi, pytest.mark.slow, pytest.mark.timeout(2400)]

CAMERA = "import numpy\nframe = numpy.load('frame.npy')\n"
PICAMERA2 = f"""{CAMERA}
class Picamera2:
    def create_preview_configuration(self, main): assert main == {{"format": "RGB888"}}
    def start(self, configuration): pass
    def capture_array(self): return frame
"""
CV2 = f"""{CAMERA}
class VideoCapture:
    def __init__(self, number): assert number == 0
    def read(self): return True, frame
"""


@pytest.fixture
def home(tmp_path: Path, device_wheel: Path, lab_bundle: Path) -> Path:
    """Give a home folder as the page's reader has it."""
    return make_home(tmp_path / "home", device_wheel, lab_bundle)


def test_every_target_has_its_block() -> None:
    assert SHELL.keys() == TARGETS.keys()
    assert len(FRAMES) == 2


@pytest.mark.parametrize("target", TARGETS)
def test_the_commands_work_as_written(target: str, commanded: subprocess.CompletedProcess[str]) -> None:
    assert commanded.returncode == 0, commanded.stdout + commanded.stderr
    assert "This device is ready: nothing to mend." in commanded.stdout
    engine = {"arm64": "ai-edge-litert"}.get(TARGETS[target].architecture, TARGETS[target].engines[0])
    assert re.search(rf"^{engine} .* works", commanded.stdout, re.MULTILINE)


def test_pip_refuses_the_systems_python_and_apt_what_it_lacks(
    home: Path, targets: tuple[dict[str, Built], dict[str, str]]
) -> None:
    built = targets[0]["arm64-debian12"]
    refused = shell(built, "pip3 install ./pennyweight-0.1.0-py3-none-any.whl", home)
    assert refused.returncode == 1
    assert "error: externally-managed-environment" in refused.stderr
    assert "error: externally-managed-environment" in PAGE
    assert shell(built, "sudo apt install -y python3-venv python3-nonsense", home).returncode == 9


@pytest.mark.parametrize(("program", "module", "text"), [(0, "picamera2", PICAMERA2), (1, "cv2", CV2)])
def test_a_camera_frame_gets_its_label(
    program: int,
    module: str,
    text: str,
    home: Path,
    device_wheel: Path,
    targets: tuple[dict[str, Built], dict[str, str]],
) -> None:
    assert len([line for line in FRAMES[program].splitlines() if line]) == 5
    samples = open_bundle(home / "digits.pennyweight").golden()
    (images,), (outputs,) = samples.inputs.values(), samples.outputs.values()
    # A camera's frame: 640 × 480 pixels of three channels, with the digit as large as the frame is high.
    digit = np.kron(images[0], np.ones((24, 24), np.uint8))
    frame = np.zeros((480, 640, 3), np.uint8)
    frame[:, 80:560] = digit[..., None]
    np.save(home / "frame.npy", frame)
    (home / f"{module}.py").write_text(text)
    (home / "program.py").write_text(FRAMES[program])
    built = targets[0]["arm64-debian13"]
    python = make_environment(home / "environment", built, ["numpy", "ai-edge-litert"], [device_wheel])
    done = run_python(python, ["program.py"], folder=home)
    assert done.returncode == 0, done.stderr
    assert str(outputs[0].argmax()) in done.stdout

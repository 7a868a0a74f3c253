"""docs/raspberry-pi.md on the targets, word for word: its shell blocks, and its camera programs with made-up cameras.

``sudo`` and ``apt`` are stand-ins: they check that the packages named are among those that the target has. And where
pip on 32-bit ARM looks into Python's own file for its kind of floating point, it is given the emulated one's, not the
script that starts it in the emulator. Everything else, the downloads too, is as a user has it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pennyweight import open_bundle
from pennyweight_benchmarks.pi import TARGETS, Built, make_environment, run_python
from pennyweight_benchmarks.pi.lock import read_lock
from pennyweight_benchmarks.pi.run import target_environment
from pi_support import ROOT, stopwatch

# The first test waits for everything that is run on the devices.
pytestmark = [pytest.mark.pi, pytest.mark.timeout(2400)]

PAGE = (ROOT / "docs" / "raspberry-pi.md").read_text()
BLOCKS = re.findall(r"<!-- tested on ([^>]+) -->\n```sh\n(.*?)```", PAGE, re.DOTALL)
SHELL = {name: block for names, block in BLOCKS for name in names.split()}
FRAMES = re.findall(r"<!-- tested frames -->\n```python\n(.*?)```", PAGE, re.DOTALL)
APT = """#!/bin/sh
[ "$1 $2" = "install -y" ] || exit 9
shift 2
for name; do [ -n "$(grep -x "$name" "$PACKAGES")" ] || { echo "no $name" >&2; exit 9; }; done
"""
SEEN = """import builtins, sys
real, program = builtins.open, f"{sys.base_prefix}/libexec/emulated/python3.{sys.version_info[1]}"
builtins.open = lambda file, *more, **named: real(program if file == sys.executable else file, *more, **named)
"""
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
    """Give a home folder with what the page has copied there, and the stand-ins for sudo and apt."""
    place = tmp_path / "home"
    (place / "bin").mkdir(parents=True)
    shutil.copy(device_wheel, place)
    shutil.copytree(lab_bundle, place / "digits.pennyweight")
    for name, text in (("sudo", '#!/bin/sh\nexec "$@"\n'), ("apt", APT)):
        (place / "bin" / name).write_text(text)
        (place / "bin" / name).chmod(0o755)
    (place / "seen").mkdir()
    (place / "seen" / "sitecustomize.py").write_text(SEEN)
    return place


def shell(built: Built, text: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run lines as somebody at a target's prompt would."""
    packages = home / "packages"
    packages.write_text("\n".join(read_lock().debian[built.target.name]))
    environment = target_environment(built.root / "usr" / "bin" / "python3", {"HOME": str(home)})
    # Compiling what was installed is most of pip's time here, and changes nothing.
    environment.update(PATH=f"{home / 'bin'}:{environment['PATH']}", PACKAGES=str(packages), PIP_NO_COMPILE="1")
    environment["PYTHONPATH"] = str(home / "seen")
    words = ["bash", "-euc", text]
    return subprocess.run(words, cwd=home, env=environment, capture_output=True, text=True, check=False)


def test_every_target_has_its_block() -> None:
    assert SHELL.keys() == TARGETS.keys()
    assert len(FRAMES) == 2


@pytest.mark.parametrize("name", TARGETS)
def test_the_commands_work_as_written(
    name: str, home: Path, targets: tuple[dict[str, Built], dict[str, str]], seconds: dict[str, float]
) -> None:
    if name not in targets[0]:
        pytest.fail(f"{name} is left out: {targets[1][name]}")
    with stopwatch(seconds, f"the page's commands on {name}"):
        done = shell(targets[0][name], SHELL[name], home)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "This device is ready: nothing to mend." in done.stdout
    engine = {"arm64": "ai-edge-litert"}.get(TARGETS[name].architecture, TARGETS[name].engines[0])
    assert re.search(rf"^{engine} .* works", done.stdout, re.MULTILINE)


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

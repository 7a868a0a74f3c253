"""The systemd unit: as `systemd-analyze` reads it, with a fake camera, and under a real systemd."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from booted import Booted, why_not
from pennyweight import open_bundle
from pennyweight.manifest import dump_manifest
from support import FIXTURE, renamed

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "systemd"
UNIT = "pennyweight-camera.service"
USER = "pennyweight-camera"
PICAMERA2 = """
import numpy as np
class Picamera2:
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def create_video_configuration(self, main): return main
    def configure(self, main): assert main["format"] == "RGB888"
    def start(self): self.frames = 0
    def capture_array(self):
        import os, sys, time
        self.frames += 1
        if self.frames > int(os.environ.get("FRAMES", 10**9)): sys.exit("no more frames")
        time.sleep(0.02)
        return np.full((480, 640, 3), 255 * (self.frames // 2 % 2), np.uint8)
"""
OPENCV = """
import numpy as np
class VideoCapture:
    def __init__(self, index): self.frames = 3
    def read(self):
        self.frames -= 1
        return (self.frames >= 0, np.zeros((480, 640, 3), np.uint8) if self.frames >= 0 else None)
"""
# Where the unit expects them, and where its user may read them: this environment, its Python, the runtime, the cameras.
ENVIRONMENT = """
mkdir -p /opt/pennyweight/bin /opt/pennyweight/lib /opt/python /opt/runtime /opt/cameras
mount --bind "$1/lib" /opt/pennyweight/lib
mount --bind "$2" /opt/python
mount --bind "$3" /opt/runtime
mount --bind "$4" /opt/cameras
echo "home = /opt/python/bin" > /opt/pennyweight/pyvenv.cfg
ln -s /opt/python/bin/python3 /opt/pennyweight/bin/python
"""


@pytest.fixture
def cameras(tmp_path: Path) -> Path:
    """Give a folder with the camera libraries as far as the example knows them."""
    folder = tmp_path / "cameras"
    folder.mkdir()
    (folder / "picamera2.py").write_text(PICAMERA2)
    (folder / "cv2.py").write_text(OPENCV)
    return folder


@pytest.mark.parametrize(("camera", "last"), [("picamera2", "no more frames"), ("opencv", "gives no frames")])
def test_the_program_says_what_the_camera_sees(cameras: Path, camera: str, last: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(cameras), "FRAMES": "5"}
    done = subprocess.run(
        [sys.executable, EXAMPLE / "camera.py", FIXTURE, camera],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    labels = [line.split()[0] for line in done.stdout.splitlines()[1:]]
    assert done.stderr.strip().splitlines()[-1].endswith(last), done.stderr
    assert "'reason'" in done.stdout.splitlines()[0]
    assert set(labels) <= set("0123456789")
    # Five frames: black, white twice, black twice; what was said before isn't said again.
    assert len(labels) in ((1, 3) if camera == "picamera2" else (1,)), done.stdout


def analyze(text: str, place: Path) -> str:
    """Give what `systemd-analyze verify` says of a unit."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze here: Debian's package systemd has it")
    unit = place / UNIT
    # It also looks whether the program is there.
    unit.write_text(text.replace("/opt/pennyweight/bin/python", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout + done.stderr + (f"exit status {done.returncode}" if done.returncode else "")


def test_the_unit_is_one_that_systemd_understands(tmp_path: Path) -> None:
    text = (EXAMPLE / UNIT).read_text()
    assert analyze(text, tmp_path) == ""
    for right, wrong in {
        "CacheDirectory=": "CacheDirectorie=",
        "Type=notify": "Type=notifi",
        "SystemCallFilter=@system-service": "SystemCallFilter=@system-services",
        "ExecStart=/opt": "ExecStart=opt",
    }.items():
        assert right in text
        assert analyze(text.replace(right, wrong), tmp_path) != "", wrong


def test_the_unit_holds_its_program_tight(tmp_path: Path) -> None:
    """systemd's own scale goes from 0 (nothing to fear) to 10; up to 2 it calls a service well protected."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze here: Debian's package systemd has it")
    words = ["systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager"]
    done = subprocess.run([*words, EXAMPLE / UNIT], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
    (tmp_path / UNIT).write_text("[Service]\nExecStart=/bin/true\n")
    open_to_all = subprocess.run([*words, tmp_path / UNIT], capture_output=True, text=True, timeout=60, check=False)
    assert open_to_all.returncode != 0


class Device:
    """A real systemd with the shipped unit, user and program where the docs put them, and a fake camera."""

    def __init__(self, machine: Booted, drop_ins: Path, log: Path) -> None:
        self._machine = machine
        self._drop_ins = drop_ins
        self._log = log

    def run(self, *words: str | Path, code: int = 0) -> str:
        done = self._machine.command(*words)
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done.stdout + (done.stderr if code else "")

    def pennyweight(self, *words: str | Path, code: int = 0) -> str:
        return self.run("/opt/pennyweight/bin/python", "-m", "pennyweight", *words, code=code)

    def property(self, name: str) -> str:
        return self.run("systemctl", "show", f"--property={name}", "--value", UNIT).strip()

    def process(self) -> str:
        return self.property("MainPID")

    def drop_in(self, text: str) -> None:
        """Change the unit as an administrator would."""
        (self._drop_ins / "more.conf").write_text(text)
        self.run("systemctl", "daemon-reload")

    def said(self) -> str:
        return self._log.read_text()


@pytest.fixture
def device(cameras: Path, tmp_path: Path) -> Iterator[Device]:
    reason = why_not()
    if reason:
        pytest.skip(f"no systemd of our own: {reason}")
    units = tmp_path / "units"
    (units / f"{UNIT}.d").mkdir(parents=True)
    shutil.copy(EXAMPLE / UNIT, units)
    log = tmp_path / "log"
    log.touch()
    (units / f"{UNIT}.d" / "test.conf").write_text(
        f"[Service]\nEnvironment=PYTHONPATH=/opt/cameras:/opt/runtime\nStandardOutput=append:{log}\n"
        f"StandardError=append:{log}\n"
    )
    try:
        machine = Booted(units)
    except (RuntimeError, OSError) as error:
        pytest.skip(f"systemd can't be booted in namespaces here ({error})")
    try:
        device = Device(machine, units / f"{UNIT}.d", log)
        device.run("sh", "-euc", ENVIRONMENT, "sh", sys.prefix, sys.base_prefix, ROOT / "runtime", cameras)
        device.run("mkdir", "-p", "/opt/pennyweight-camera", "/srv/digits")
        device.run("cp", EXAMPLE / "camera.py", "/opt/pennyweight-camera")
        device.run("systemd-sysusers", EXAMPLE / "pennyweight-camera.conf")
        machine.environment["PYTHONPATH"] = "/opt/runtime"
        yield device
    finally:
        machine.stop()


@pytest.mark.slow
def test_install_and_the_service_fit_together_under_a_real_systemd(device: Device, tmp_path: Path) -> None:
    first = tmp_path / "tiny"
    shutil.copytree(FIXTURE, first)
    name = open_bundle(first).manifest.name

    # Before there is a bundle the service can't run, and installing the first one starts it.
    told = json.loads(device.pennyweight("install", first, "--to", "/srv/digits", "--restart", UNIT, "--json"))
    assert told["changed"] is True
    process = device.process()
    status = device.run("cat", f"/proc/{process}/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split()[0] == device.run("id", "-u", USER).strip() != "0"
    assert device.run("getent", "group", "video").split(":")[2] in fields["Groups"].split()
    assert (fields["CapBnd"], fields["NoNewPrivs"], fields["Seccomp"]) == ("0" * 16, "1", "2")
    variables = device.run("cat", f"/proc/{process}/environ").split("\0")
    assert f"CACHE_DIRECTORY=/var/cache/{USER}" in variables
    assert "found it fastest" not in device.said()

    # The service's user measures, and the program finds what it chose.
    measure = ["runuser", "-u", USER, "--", "env", f"CACHE_DIRECTORY=/var/cache/{USER}", "/opt/pennyweight/bin/python"]
    device.run("cp", "-r", first, "/opt/measured")
    device.run("chmod", "-R", "a+rX", "/opt/measured")
    device.run(*measure, "-m", "pennyweight", "select", "/opt/measured", "--quick")
    device.run("systemctl", "restart", UNIT)
    assert "select found it fastest on this device" in device.said()

    # A bundle that passes its self-test and yet isn't for this program: it was never told how to prepare a picture.
    blind = renamed(first, "blind")
    manifest = open_bundle(blind).manifest
    inputs = tuple(spec._replace(image=None) for spec in manifest.inputs)
    (blind / "manifest.json").write_bytes(dump_manifest(manifest._replace(inputs=inputs)))
    refused = device.pennyweight("install", blind, "--to", "/srv/digits", "--restart", UNIT, code=1)
    assert "rolled back to" in refused
    assert f"with which {UNIT} runs" in refused
    assert "is no image" in device.said()
    assert json.loads(device.pennyweight("status", "/srv/digits", "--json"))["name"] == name
    assert device.property("ActiveState") == "active"

    second = renamed(first, "second")
    device.pennyweight("install", second, "--to", "/srv/digits", "--restart", UNIT)
    running = device.process()
    again = json.loads(device.pennyweight("install", second, "--to", "/srv/digits", "--restart", UNIT, "--json"))
    assert (again["changed"], device.process()) == (False, running), "a repetition must not restart it"
    device.pennyweight("rollback", "/srv/digits", "--restart", UNIT)
    assert device.process() not in ("0", running)


def test_a_service_at_its_start_limit_gets_a_bundle_that_runs(device: Device) -> None:
    device.drop_in("[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=2\n[Service]\nRestartSec=100ms\n")
    # Without a bundle it dies at once, again and again.
    device.run("systemctl", "start", UNIT, code=1)
    wait_until(lambda: device.property("ActiveState") == "failed")
    device.run("systemctl", "restart", UNIT, code=1)
    device.pennyweight("install", FIXTURE, "--to", "/srv/digits", "--restart", UNIT, "--settle", "0.5")
    assert device.property("ActiveState") == "active"


def test_a_service_with_a_dynamic_user_is_refused_before_anything_is_changed(device: Device) -> None:
    device.drop_in("[Service]\nDynamicUser=yes\n")
    refused = device.pennyweight("install", FIXTURE, "--to", "/srv/digits", "--restart", UNIT, code=2)
    assert "it has DynamicUser=; give it User=" in refused
    assert device.run("ls", "-A", "/srv/digits") == ""


def wait_until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pennyweight
from pennyweight.doctor import Device, choose, diagnose, obstacle, read_device, remedy, userland
from pennyweight.engines import ENGINES
from support import FIXTURE, command, one_line

PI_4 = Device(
    system="Debian GNU/Linux 12 (bookworm)",
    debian=12,
    board="Raspberry Pi 4 Model B Rev 1.4",
    kernel="aarch64",
    userland="arm64",
    libc="glibc 2.36",
    python=(3, 11),
    prefix="/usr",
    environment=False,
    sees_system=True,
    managed=True,
    picamera2=True,
    memory_mb=3792,
    disk_mb=20_000,
)
PI_4_32_BIT = PI_4._replace(userland="armhf", picamera2=False)
PI_5 = PI_4._replace(debian=13, board="Raspberry Pi 5 Model B Rev 1.0", python=(3, 13), libc="glibc 2.41")
ARMHF_13 = PI_5._replace(userland="armhf", kernel="armv7l", board="Raspberry Pi 2 Model B Rev 1.1")
PI_ZERO = PI_4_32_BIT._replace(userland="armv6", kernel="armv6l", board="Raspberry Pi Zero W Rev 1.1")
IN_VENV: dict[str, Any] = {
    "environment": True,
    "managed": False,
    "sees_system": False,
    "prefix": "/home/pi/venv",
    "picamera2": False,
}


def row(name: str, status: str = "works", version: str | None = "1.0", reason: str = "") -> dict[str, Any]:
    return {"name": name, "version": version, "status": status, "reason": reason}


BARE = [row("numpy", version="1.24.2"), *(row(name, "absent", None) for name in ENGINES)]


def with_row(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    named = {one["name"]: one for one in [*BARE, *rows]}
    return list(named.values())


def texts(device: Device, rows: list[dict[str, Any]], kind: str = "breaks") -> str:
    return "\n".join(finding.text for finding in diagnose(device, rows) if finding.kind == kind)


@pytest.mark.parametrize(
    ("bits", "package_architecture", "kernel", "cpu", "expected"),
    [
        (64, "arm64", "aarch64", "", "arm64"),
        (32, "armhf", "aarch64", "", "armhf"),  # a 64-bit kernel below a 32-bit Raspberry Pi OS
        (32, "arm64", "aarch64", "", "armhf"),  # a 32-bit Python on a 64-bit system takes 32-bit wheels
        (32, None, "aarch64", "", "armhf"),
        (32, "armhf", "armv7l", "", "armhf"),
        (32, "armhf", "armv6l", "", "armv6"),  # Raspberry Pi OS says armhf on the oldest boards too
        (32, "armhf", "armv7l", "ARMv6-compatible processor rev 7 (v6l)", "armv6"),
        (64, None, "x86_64", "", "amd64"),
        (64, "amd64", "x86_64", "", "amd64"),
        (32, "i386", "x86_64", "", "i386"),
        (64, None, "riscv64", "", "riscv64"),
    ],
)
def test_the_userland_is_not_the_kernels(
    bits: int, package_architecture: str | None, kernel: str, cpu: str, expected: str
) -> None:
    assert userland(bits, package_architecture, kernel, cpu) == expected


@pytest.mark.parametrize(
    ("device", "engine"),
    [
        (PI_4, "ai-edge-litert"),
        (PI_5, "ai-edge-litert"),
        (PI_4_32_BIT, "tflite-runtime"),
        (ARMHF_13, "onnxruntime"),
        (PI_4._replace(userland="amd64"), "ai-edge-litert"),
        (PI_ZERO, None),
        (ARMHF_13._replace(debian=None), None),
        (PI_4_32_BIT._replace(python=(3, 12)), None),
        (PI_4._replace(libc="no glibc"), None),
        (PI_4._replace(userland="riscv64"), None),
    ],
)
def test_the_engine_suits_python_and_userland(device: Device, engine: str | None) -> None:
    choice = choose(device)
    assert (choice.text if choice else None) == engine
    if engine and choice and choice.pip:
        assert obstacle(engine, device) == ""
    if engine is None:
        assert remedy(device, BARE, "/p") == []
        assert any(finding.kind == "breaks" for finding in diagnose(device, BARE))


def test_a_raspberry_pi_os_gets_an_environment_that_sees_its_camera() -> None:
    assert remedy(PI_4, BARE, "/usr/lib/p/pennyweight") == [
        "sudo apt install -y python3-venv",
        "/usr/bin/python3.11 -m venv --system-site-packages ~/pennyweight-venv",
        "cp -r /usr/lib/p/pennyweight ~/pennyweight-venv/lib/python3.11/site-packages/",
        "~/pennyweight-venv/bin/python3 -m pip install ai-edge-litert",
        "~/pennyweight-venv/bin/python3 -m pennyweight doctor",
    ]
    assert "PEP 668" in texts(PI_4, BARE)
    assert "--system-site-packages" not in "".join(remedy(PI_4._replace(picamera2=False), BARE, "/p"))


def test_a_32_bit_system_gets_the_engine_and_the_numpy_that_it_can_have() -> None:
    block = remedy(PI_4_32_BIT, BARE, "/p")
    assert block[0] == "sudo apt install -y python3-numpy python3-venv"
    assert "--system-site-packages" in block[1]
    assert block[3].endswith("pip install tflite-runtime 'numpy<2'")
    assert "what counts is armhf" in texts(PI_4_32_BIT, BARE, "note")
    # What apt brings, the system's Python sees: no new environment.
    assert remedy(ARMHF_13, BARE, "/p") == [
        "sudo apt install -y python3-onnxruntime",
        "/usr/bin/python3 -m pennyweight doctor",
    ]
    block = remedy(ARMHF_13._replace(**IN_VENV), BARE, "/p")
    assert block[1].startswith("sed -i"), "an environment must see it too"


def test_an_old_pi_is_told_so() -> None:
    assert "ARMv6" in texts(PI_ZERO, BARE)
    assert obstacle("tflite-runtime", PI_ZERO) == "no wheel for armv6"


def test_an_environment_is_used_as_it_stands() -> None:
    device = PI_4._replace(**IN_VENV)
    assert remedy(device, BARE, "/p") == [
        "/home/pi/venv/bin/python3 -m pip install ai-edge-litert",
        "/home/pi/venv/bin/python3 -m pennyweight doctor",
    ]
    assert remedy(device, with_row(row("onnxruntime")), "/p") == []
    blind = remedy(device._replace(picamera2=True), with_row(row("onnxruntime")), "/p")
    assert blind[0].startswith("sed -i")
    assert blind[0].endswith("/home/pi/venv/pyvenv.cfg")


def test_the_camera_becomes_visible_as_the_block_says(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "my venv"], check=True)
    device = PI_4._replace(**{**IN_VENV, "prefix": str(tmp_path / "my venv"), "picamera2": True})
    line = remedy(device, with_row(row("onnxruntime")), "/p")[0]
    python = tmp_path / "my venv" / "bin" / "python"

    def sees_system() -> bool:
        config = (python.parent.parent / "pyvenv.cfg").read_text()
        subprocess.run([python, "-c", "import json"], check=True)
        return "include-system-site-packages = true" in config

    assert not sees_system()
    subprocess.run(["sh", "-c", line], check=True)
    assert sees_system()


@pytest.mark.parametrize(
    ("broken", "numpy", "says", "line"),
    [
        (
            row("tflite-runtime", "broken", "2.14.0", "its import fails: numpy.core.multiarray failed to import"),
            "2.1.0",
            "built for numpy 1, and here is 2.1.0",
            "pip install tflite-runtime 'numpy<2'",
        ),
        (
            row("onnxruntime", "broken", "1.21.0", "crashed (SIGILL)"),
            "2.1.0",
            "an instruction that this processor lacks",
            "pip install 'onnxruntime!=1.21.0'",
        ),
        (
            row("onnxruntime", "broken", None, "its import fails: libgomp.so.1: cannot open shared object file: No"),
            "2.1.0",
            "Debian has it in libgomp1",
            "sudo apt install -y libgomp1",
        ),
        (
            row("ai-edge-litert", "broken", None, "libstdc++.so.6: cannot open shared object file: No such file"),
            "2.1.0",
            "libstdc++6",
            "sudo apt install -y libstdc++6",
        ),
        (
            row("numpy", "broken", None, "not installed"),
            None,
            "nothing works without it",
            "pip install numpy ai-edge-litert",
        ),
    ],
)
def test_what_breaks_is_named_and_mended(broken: dict[str, Any], numpy: str | None, says: str, line: str) -> None:
    device = PI_4._replace(**IN_VENV)
    rows = with_row(row("numpy", version=numpy), broken)
    assert says in texts(device, rows)
    assert any(one.endswith(line) for one in remedy(device, rows, "/p")), remedy(device, rows, "/p")


def test_an_unknown_missing_library_and_a_new_glibc_are_named() -> None:
    missing = row("onnxruntime", "broken", None, "its import fails: libfoo.so.3: cannot open shared object file")
    assert "libfoo.so.3" in texts(PI_5, with_row(missing))
    newer = row("onnxruntime", "broken", "1.32", "its import fails: /lib/libc.so.6: version `GLIBC_2.38' not found")
    assert "newer system" in texts(PI_5, with_row(newer))


def test_what_would_break_later_and_what_is_noise() -> None:
    assert "1.21.0's wheel dies" in texts(PI_4, BARE, "note")
    assert "1.21.0" not in texts(PI_5, BARE, "note")
    assert "numpy<2" in texts(PI_4, BARE, "note")
    assert "numpy<2" not in texts(PI_5, BARE, "note")
    assert "newer than" in texts(PI_5._replace(python=(3, 14)), BARE, "note")
    assert "MB of disk" in texts(PI_4._replace(disk_mb=100), BARE)
    assert obstacle("tflite-runtime", PI_5) == "wheels only up to Python 3.11"
    assert texts(PI_4, BARE, "harmless") == ""
    assert "GPU device discovery" in texts(PI_4, with_row(row("onnxruntime")), "harmless")
    assert "XNNPACK" in texts(PI_4, with_row(row("tflite-runtime")), "harmless")


def test_facts_come_from_the_files_of_the_system(tmp_path: Path) -> None:
    files = {
        "etc/os-release": 'PRETTY_NAME="Raspbian GNU/Linux 12 (bookworm)"\nID=raspbian\nVERSION_ID="12"\n',
        "proc/device-tree/model": "Raspberry Pi Zero 2 W Rev 1.0\0",
        "proc/meminfo": "MemTotal:         437824 kB\n",
        "proc/cpuinfo": "processor\t: 0\nmodel name\t: ARMv7 Processor rev 4 (v7l)\n",
        "usr/lib/python3/dist-packages/picamera2/__init__.py": "",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    device = read_device(tmp_path, "armhf", 32, (3, 11), "/usr", "/usr")
    assert (device.system, device.debian, device.userland) == ("Raspbian GNU/Linux 12 (bookworm)", 12, "armhf")
    assert (device.board, device.memory_mb, device.picamera2) == ("Raspberry Pi Zero 2 W Rev 1.0", 427, True)
    assert (device.environment, device.sees_system) == (False, True)


def test_a_managed_python_is_seen(tmp_path: Path) -> None:
    def managed(prefix: Path) -> bool:
        return read_device(tmp_path, "arm64", 64, (3, 11), str(prefix), str(tmp_path), tmp_path).managed

    assert not managed(tmp_path)
    (tmp_path / "EXTERNALLY-MANAGED").touch()
    assert managed(tmp_path)
    (tmp_path / "my venv").mkdir()
    assert not managed(tmp_path / "my venv"), "pip may install into a virtual environment"


def test_this_machine_has_an_engine(bundle: Path) -> None:
    done = command("doctor", bundle, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["ready"] is True
    assert any(one["status"] == "works" and one["name"] in ENGINES for one in told["engines"])
    text = command("doctor")
    assert text.returncode == 0
    assert "userland" in text.stdout


def test_a_bundle_whose_answers_are_wrong_here_is_told(bundle: Path) -> None:
    model = bundle / "float32.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    for name in ("float32.tflite", "int8.tflite"):
        (bundle / name).write_bytes(b"\0" * 1000)
    done = command("doctor", bundle)
    assert done.returncode == 1
    assert "isn't what was exported" in done.stdout
    assert "no such bundle" in one_line(command("doctor", bundle / "absent"), 2)


def bare_command(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a Python that sees only the packages in ``path``."""
    package = Path(pennyweight.__file__).parent
    if not (path / "pennyweight").exists():
        (path / "pennyweight").symlink_to(package)
    # -S leaves site-packages out; the children inherit it through the environment only, so they get a wrapper.
    wrapper = path / "python"
    wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    wrapper.chmod(0o755)
    code = "import sys; sys.executable = sys.argv.pop(1); from pennyweight.cli import run; run()"
    return subprocess.run(
        [wrapper, "-c", code, wrapper, *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_numpy_and_engines_it_still_runs(tmp_path: Path) -> None:
    done = bare_command(tmp_path, "doctor", "--json")
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    assert told["ready"] is False
    assert told["engines"][0] == row("numpy", "broken", None, "not installed")
    assert {one["status"] for one in told["engines"][1:]} == {"absent"}
    text = bare_command(tmp_path, "doctor")
    assert "nothing works without it" in text.stdout
    assert "Traceback" not in text.stderr
    for verb in (["predict", str(FIXTURE), str(FIXTURE / "golden.npz")], ["verify", str(FIXTURE)], ["--help"]):
        assert "`pennyweight doctor` says how" in one_line(bare_command(tmp_path, *verb), 2)


def test_a_broken_engine_does_not_break_the_doctor(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text('__version__ = "2.1.0"\n')
    (tmp_path / "onnxruntime.py").write_text("import os\nos.kill(os.getpid(), 4)\n")
    (tmp_path / "ai_edge_litert").mkdir()
    reason = "libgomp.so.1: cannot open shared object file: No such file or directory"
    (tmp_path / "ai_edge_litert" / "interpreter.py").write_text(f"raise ImportError({reason!r})\n")
    (tmp_path / "tflite_runtime").mkdir()
    (tmp_path / "tflite_runtime" / "interpreter.py").write_text("raise RuntimeError('too odd')\n")
    done = bare_command(tmp_path, "doctor")
    assert done.returncode == 1, done.stderr
    assert "onnxruntime: crashed (SIGILL)" in done.stdout
    assert "libgomp1" in done.stdout
    assert "too odd" in done.stdout
    assert "here is 2.1.0" in done.stdout

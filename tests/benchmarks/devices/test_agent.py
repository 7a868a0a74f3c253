"""The agent by itself, as a process: pieces of files, broken connections, locks; and the wheels that it is sent."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pennyweight.doctor import Device
from pennyweight_benchmarks.devices import agent as agent_module
from pennyweight_benchmarks.devices.environment import engines_wanted, packages_for
from pennyweight_benchmarks.devices.failures import DeviceError, connection_failure, program_failure
from pennyweight_benchmarks.devices.table import plain
from pennyweight_benchmarks.devices.wheels import device_wheel, platforms

ROOT = Path(__file__).parents[3]
CONTENT = os.urandom(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Client:
    """Speaks with an agent as the workstation does, but without ssh between."""

    def __init__(self, home: Path) -> None:
        environment = {**os.environ, "HOME": str(home)}
        environment.pop("XDG_CACHE_HOME", None)
        self.process = subprocess.Popen(
            [sys.executable, "-I", agent_module.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == agent_module.HELLO
        self.folder = home / ".cache" / agent_module.FOLDER

    def ask(self, do: str, payload: bytes = b"", **fields: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": do, "size": len(payload), **fields}).encode() + b"\n" + payload)
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def end(self) -> None:
        self.process.communicate(timeout=20)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    made = Client(tmp_path)
    yield made
    made.process.kill()
    made.process.communicate()


def test_a_file_is_resumed_where_it_broke_off(client: Client, tmp_path: Path) -> None:
    client.ask("open", keep=True)
    client.ask("append", CONTENT[:100_000], name="files/a", offset=0)
    client.end()
    again = Client(tmp_path)
    again.ask("open", keep=True)
    assert again.ask("have", name="files/a", sha256=SHA256)["ok"] == {"bytes": 100_000, "whole": False}
    again.ask("append", CONTENT[100_000:], name="files/a", offset=100_000)
    assert again.ask("seal", name="files/a", sha256=SHA256)["ok"] == {"right": True}
    assert again.ask("have", name="files/a", sha256=SHA256)["ok"] == {"bytes": 300_000, "whole": True}
    again.end()
    assert (again.folder / "files" / "a").read_bytes() == CONTENT


def test_damaged_pieces_never_get_the_name(client: Client) -> None:
    client.ask("open", keep=True)
    client.ask("append", b"other", name="files/a", offset=0)
    assert client.ask("seal", name="files/a", sha256=SHA256)["ok"] == {"right": False}
    assert list((client.folder / "files").iterdir()) == []


@pytest.mark.parametrize("keep", [True, False])
def test_the_end_of_the_connection_stops_what_runs(client: Client, keep: bool) -> None:
    client.ask("open", keep=keep)
    marker = client.folder / "tmp" / "child"
    code = f"import os,time; open({str(marker)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    # A grandchild, as the verbs' workers are.
    words = [sys.executable, "-c", f"import subprocess; subprocess.run([{sys.executable!r}, '-c', {code!r}])"]
    request = {"do": "run", "size": 0, "words": words, "environment": {}, "cwd": "/"}
    assert client.process.stdin is not None
    client.process.stdin.write(json.dumps(request).encode() + b"\n")
    client.process.stdin.flush()
    end = time.monotonic() + 20
    while not (marker.exists() and marker.read_text()) and time.monotonic() < end:
        time.sleep(0.02)
    grandchild = int(marker.read_text())
    client.end()
    while Path(f"/proc/{grandchild}").exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert not Path(f"/proc/{grandchild}").exists()
    assert client.folder.exists() == keep
    assert client.folder.parent.exists() == keep


def test_what_an_earlier_session_kept_is_removed_whole(client: Client, tmp_path: Path) -> None:
    client.ask("open", keep=True)
    client.end()
    assert client.folder.exists()
    again = Client(tmp_path)
    again.ask("open", keep=False)
    assert again.ask("finish")["ok"] == {"kept": False}
    again.end()
    assert list(tmp_path.iterdir()) == []


def test_two_sessions_on_one_device(client: Client, tmp_path: Path) -> None:
    client.ask("open", keep=False)
    other = Client(tmp_path)
    assert other.ask("open", keep=False)["refused"] == "busy"
    other.end()
    # The one that was refused mustn't clean up after the one that works.
    assert client.folder.exists()
    client.end()
    assert not client.folder.exists()


def test_programs_see_nothing_of_the_workstations_python(client: Client) -> None:
    client.ask("open", keep=False)
    code = "import os, sys; print(sys.flags.utf8_mode, os.environ.get('PYTHONPATH'), os.environ['XDG_CACHE_HOME'])"
    answer = client.ask("run", words=[sys.executable, "-c", code], environment={}, cwd="/")["ok"]
    assert answer["output"].split() == ["1", "None", str(client.folder / "cache")]
    answer = client.ask("run", words=["/no/such/program"], environment={}, cwd="/")
    assert answer["refused"] == "refused"


def test_the_wheel_is_the_one_that_is_built(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path]
    subprocess.run([*map(str, build), str(ROOT / "runtime")], check=True, capture_output=True)
    [built] = tmp_path.glob("*.whl")
    ours = tmp_path / "ours.whl"
    ours.write_bytes(device_wheel().content)
    assert built.name == device_wheel().name

    def held(path: Path) -> dict[str, bytes]:
        with zipfile.ZipFile(path) as archive:
            # The order of the records is free, and the metadata's is hatchling's.
            return {name: archive.read(name) for name in archive.namelist() if not name.endswith("RECORD")}

    assert held(ours) == held(built)
    assert device_wheel().content == device_wheel.__wrapped__().content


def device(**more: Any) -> Device:
    facts: dict[str, Any] = {
        "system": "Debian GNU/Linux 12 (bookworm)",
        "debian": 12,
        "board": "Raspberry Pi 4 Model B Rev 1.4",
        "kernel": "aarch64",
        "userland": "arm64",
        "libc": "glibc 2.36",
        "python": (3, 11),
        "prefix": "/usr",
        "environment": False,
        "sees_system": True,
        "managed": True,
        "picamera2": False,
        "memory_mb": 3793,
        "disk_mb": 20_000,
    }
    return Device(**{**facts, **more})


def test_engines_and_packages() -> None:
    def plan(*asked: str, installed: dict[str, str] | None = None, **more: Any) -> list[str]:
        return packages_for(engines_wanted(asked, device(**more), installed or {}), installed or {})

    assert plan() == ["ai-edge-litert", "numpy"]
    assert plan("tflite-runtime") == ["tflite-runtime", "numpy<2"]
    assert plan("all") == ["ai-edge-litert", "tflite-runtime", "numpy<2", "onnxruntime!=1.21.0"]
    assert plan("all", python=(3, 13)) == ["ai-edge-litert", "onnxruntime!=1.21.0", "numpy"]
    assert plan(userland="armhf") == ["tflite-runtime", "numpy<2"]
    assert plan(userland="armhf", installed={"numpy": "1.24.2", "tflite-runtime": "2.14.0"}) == []
    assert plan(userland="armhf", installed={"numpy": "1.24.2"}) == ["tflite-runtime"]
    assert plan(userland="armhf", installed={"numpy": "2.0.0"}) == ["tflite-runtime", "numpy<2"]
    assert (
        plan(userland="armhf", debian=13, python=(3, 13), installed={"numpy": "2.2.4", "onnxruntime": "1.21.0"}) == []
    )
    with pytest.raises(DeviceError, match="only Debian has it") as caught:
        plan(userland="armhf", debian=13, python=(3, 13))
    assert "apt install python3-onnxruntime" in caught.value.remedy("pi")
    with pytest.raises(DeviceError, match="no engine has a wheel"):
        plan(userland="armv6")
    with pytest.raises(DeviceError, match="wheels only up to"):
        plan("tflite-runtime", python=(3, 13))


def test_platform_tags() -> None:
    tags = platforms(device())
    assert tags[0] == "manylinux_2_36_aarch64"
    assert "manylinux2014_aarch64" in tags
    assert tags[-1] == "linux_aarch64"
    assert platforms(device(userland="armv6")) == []
    assert platforms(device(libc="no glibc")) == []


@pytest.mark.parametrize(
    ("code", "said", "started", "kind"),
    [
        (255, "ssh: connect to host x port 22: No route to host", False, "unreachable"),
        (255, "ssh: Could not resolve hostname x: Name or service not known", False, "unreachable"),
        (255, "channel 0: open failed: connect failed\nstdio forwarding failed", False, "unreachable"),
        (255, "Connection closed by UNKNOWN port 65535", False, "unreachable"),
        (
            255,
            "@@\nWARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!\nHost key verification failed.",
            False,
            "changed host key",
        ),
        (255, "Too many authentication failures", False, "key refused"),
        (255, "/x/config: line 3: Bad configuration option: foo", False, "ssh failed"),
        (255, "Timeout, server 10.0.0.7 not responding.", True, "connection lost"),
        (255, "", True, "connection lost"),
        (1, "MemoryError", True, "out of memory"),
        (3, "what?", True, "fault"),
        (1, "This account is currently not available.", False, "ssh failed"),
    ],
)
def test_what_ssh_says(code: int, said: str, started: bool, kind: str) -> None:
    failure = connection_failure(code, said, "running bench", started)
    assert failure.kind == kind
    assert "{" not in failure.remedy("pi")


def test_what_a_device_says_cannot_steer_the_terminal() -> None:
    assert plain("a\x1b[2Jb\nc\r") == "a?[2Jb\nc?"


@pytest.mark.parametrize(
    ("code", "noise", "kind"),
    [
        (-9, "", "out of memory"),
        (1, "OSError: [Errno 28] No space left on device", "full"),
        (1, "terminate called after throwing an instance of 'std::bad_alloc'", "out of memory"),
        (1, "ERROR: No matching distribution found for ai-edge-litert", "no wheel"),
        (1, "ERROR: a-1-cp311-cp311-manylinux_2_34_armv7l.whl is not a supported wheel on this platform.", "no wheel"),
        (1, "WARNING: Retrying: NewConnectionError\nERROR: No matching distribution found for x", "no package index"),
        (1, "ERROR: something else", "fault"),
    ],
)
def test_what_programs_say(code: int, noise: str, kind: str) -> None:
    assert program_failure("installing", code, noise).kind == kind

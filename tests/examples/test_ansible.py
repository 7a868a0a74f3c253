"""The Ansible role with a real `ansible-playbook`, over a real `sshd` on loopback, on two "devices"."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pennyweight import load, open_bundle
from pennyweight.golden import replay_golden
from support import FIXTURE, broken, renamed

EXAMPLE = Path(__file__).parents[2] / "examples" / "ansible"
PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"
SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
HANDLER = "RUNNING HANDLER [pennyweight_bundle : Replay the golden set through the link]"
DEVICES = ("one", "two")


class Run(NamedTuple):
    """What a playbook's run printed, and its end: changed and failed tasks of each device that it reached."""

    code: int
    output: str
    changed: dict[str, int]
    failed: dict[str, int]

    @property
    def handlers(self) -> int:
        return self.output.count(HANDLER)


class Fleet:
    """Two devices that `sshd` on loopback leads to, each with a folder of its own."""

    def __init__(self, place: Path, port: int) -> None:
        self.place = place
        self._port = port
        for device in DEVICES:
            (place / device).mkdir()

    def play(self, bundle: Path, *arguments: str) -> Run:
        """Run the example's playbook as it stands, with another bundle, folder and command."""
        variables = {
            "pennyweight_bundle_file": str(bundle),
            "pennyweight_bundle_directory": "{{ device_folder }}/digits",
            "pennyweight_bundle_command": str(Path(sys.executable).parent / "pennyweight"),
            "pennyweight_bundle_unit": "",
        }
        extra = [word for name, value in variables.items() for word in ("-e", f"{name}='{value}'")]
        done = subprocess.run(
            [PLAYBOOK, "-i", self._inventory(), "site.yml", *extra, *arguments],
            env={**os.environ, "HOME": str(self.place), "ANSIBLE_HOME": str(self.place / "ansible"), "NO_COLOR": "1"},
            cwd=EXAMPLE,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        output = done.stdout + done.stderr
        recap = re.findall(r"^(\w+) +: ok=\d+ +changed=(\d+) +unreachable=0 +failed=(\d+)", output, re.MULTILINE)
        changed = {device: int(count) for device, count, _ in recap}
        return Run(done.returncode, output, changed, {device: int(count) for device, _, count in recap})

    def answers(self) -> dict[str, str]:
        """Hold every device's bundle to answering right, and give its name."""
        names = {}
        for device in DEVICES:
            bundle = open_bundle(self.place / device / "digits" / "current")
            with load(bundle) as model:
                assert replay_golden(model, bundle.golden()).passed
            names[device] = bundle.manifest.name
        return names

    def _inventory(self) -> Path:
        options = f"-o UserKnownHostsFile={self.place / 'known_hosts'} -o StrictHostKeyChecking=yes -F none"
        shared = {
            "ansible_host": "127.0.0.1",
            "ansible_port": self._port,
            "ansible_ssh_private_key_file": self.place / "key",
            "ansible_ssh_common_args": f"'{options}'",
            "ansible_python_interpreter": sys.executable,
            "ansible_become": "false",
        }
        lines = [
            f"{name} ansible_remote_tmp={self.place / name / 'tmp'} device_folder={self.place / name}"
            for name in DEVICES
        ]
        inventory = self.place / "inventory.ini"
        variables = [f"{name}={value}" for name, value in shared.items()]
        inventory.write_text("\n".join(["[cameras]", *lines, "[cameras:vars]", *variables]) + "\n")
        return inventory


def sshd_options(place: Path, port: int) -> list[str]:
    options = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": place / "host_key",
        "AuthorizedKeysFile": place / "key.pub",
        "PidFile": "none",
        "PasswordAuthentication": "no",
        "UsePAM": "no",
        # pytest's folders belong to whoever runs it, below a /tmp that everybody may write.
        "StrictModes": "no",
        "Subsystem": "sftp internal-sftp",
    }
    return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    if not PLAYBOOK.exists():
        pytest.skip("no ansible-playbook in this environment: it comes with pennyweight-workstation[dev]")
    if SSHD is None:
        pytest.skip("no sshd here: Debian's package openssh-server has it")
    place = tmp_path_factory.mktemp("fleet")
    for name in ("host_key", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / name], check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (place / "known_hosts").write_text(f"[127.0.0.1]:{port} {(place / 'host_key.pub').read_text()}")
    if os.geteuid() == 0:
        # Where Debian's sshd locks its unprivileged half in; its own service makes it.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    # Not a pipe: connections that Ansible keeps open would hold its end for a minute.
    log = place / "sshd.log"
    with log.open("w") as file:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", "/dev/null", *sshd_options(place, port)], stderr=file)
    try:
        wait_for(port, server, log)
        yield Fleet(place, port)
    finally:
        server.terminate()
        server.wait()


def wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if server.poll() is not None:
            pytest.fail(f"sshd didn't start: {log.read_text()}")
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("sshd didn't listen within 20 s")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Give three bundles as single files: one, another that is as good, and one that answers wrongly."""
    place = tmp_path_factory.mktemp("bundles")
    first = place / "tiny"
    shutil.copytree(FIXTURE, first)
    return {"first": packed(first), "second": packed(renamed(first, "second")), "broken": packed(broken(first))}


def packed(folder: Path) -> Path:
    path = folder.with_suffix(".pennyweight")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    return path


@pytest.mark.slow
def test_a_fleet_is_updated_device_by_device_and_a_bad_bundle_stops_at_the_first(
    fleet: Fleet, bundles: dict[str, Path]
) -> None:
    name = open_bundle(FIXTURE).manifest.name
    tried = fleet.play(bundles["first"], "--check")
    assert (tried.code, tried.changed) == (0, {"one": 1, "two": 1}), tried.output
    assert not list(fleet.place.glob("*/digits")), "check mode must write nothing"

    first = fleet.play(bundles["first"])
    assert (first.code, first.changed, first.handlers) == (0, {"one": 1, "two": 1}, 2), first.output
    assert fleet.answers() == {"one": name, "two": name}
    assert not (fleet.place / "one" / "digits" / "current" / "evaluation.npz").exists()

    again = fleet.play(bundles["first"])
    assert (again.code, again.changed, again.handlers) == (0, {"one": 0, "two": 0}, 0), again.output

    refused = fleet.play(bundles["broken"])
    assert refused.code != 0
    assert refused.failed == {"one": 1}, f"the second device must not be touched: {refused.output}"
    assert refused.handlers == 0
    assert "pennyweight: the self-test failed" in refused.output
    assert fleet.answers() == {"one": name, "two": name}

    absent = fleet.play(bundles["second"], "-e", "pennyweight_bundle_command=/opt/absent")
    assert absent.failed == {"one": 1}, absent.output
    assert "/opt/absent: can't be run on this device" in absent.output

    second = fleet.play(bundles["second"])
    assert (second.code, second.changed, second.handlers) == (0, {"one": 1, "two": 1}, 2), second.output
    assert fleet.answers() == {"one": "second", "two": "second"}
    assert not list(fleet.place.glob("*/tmp/*")), "the bundle must not stay where it was brought"

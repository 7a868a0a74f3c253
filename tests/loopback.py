"""Devices for tests: real sshd processes on loopback, each with a home, a host key and a machine of its own.

What makes a device special (a small disk, no Python, an emulated processor) is done to its sshd, in a mount namespace
that ends with it, or by the command that it forces on every session.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
import uuid
from pathlib import Path

import pytest

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
IS_ROOT = os.geteuid() == 0


def require_sshd() -> None:
    """Skip a test, and say why, where there is no server to test with."""
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("no sshd here: `apt install openssh-server`")


def require_namespaces() -> None:
    """Skip a test, and say why, where no file systems can be mounted for a device of its own."""
    works = shutil.which("unshare") and subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
    if not works or works.returncode:
        pytest.skip("no mount namespaces here: only root may give a device a disk or a processor of its own")


def free_port() -> int:
    """Give a port of loopback that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Device:
    """A device: ``alias`` is its name in the SSH configuration of its network."""

    def __init__(self, network: Network, alias: str, home: Path) -> None:
        self.network = network
        self.alias = alias
        self.home = home
        self.port = free_port()
        self._server: subprocess.Popen[bytes] | None = None
        self._place = network.place / f"{alias}.d"
        self._place.mkdir()
        home.mkdir(parents=True, exist_ok=True)
        self.key = self._place / "host_key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)

    @property
    def log(self) -> str:
        """What its sshd said."""
        return (self._place / "log").read_text()

    @property
    def folder(self) -> Path:
        """Where Pennyweight works there."""
        return self.home / ".cache" / "pennyweight-devices"

    def start(self, prelude: str = "", before: str = "", mounts: bool = False) -> Device:
        """Start its sshd. ``prelude`` is shell before every session's command, ``before`` before the server."""
        forced = self._place / "session.sh"
        home = shlex.quote(str(self.home))
        lines = ["unset XDG_CACHE_HOME PYTHONPATH", f"export HOME={home}", 'cd "$HOME"', prelude]
        forced.write_text("\n".join([*lines, 'exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"\n']))
        settings = {
            "Port": self.port,
            "ListenAddress": "127.0.0.1",
            "HostKey": f'"{self.key}"',
            "AuthorizedKeysFile": f'"{self.network.key}.pub"',
            "PidFile": "none",
            "UsePAM": "no",
            "StrictModes": "no",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            "ForceCommand": f"/bin/sh {shlex.quote(str(forced))}",
        }
        config = self._place / "sshd_config"
        config.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        if IS_ROOT:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        machine = self._place / "boot_id"
        machine.write_text(f"{uuid.uuid4()}\n")
        words = [str(SSHD), "-D", "-e", "-f", str(config)]
        if mounts:
            bind = f"mount --bind {shlex.quote(str(machine))} /proc/sys/kernel/random/boot_id"
            words = ["unshare", "-m", "sh", "-euc", f"{bind}\n{before}\nexec {shlex.join(words)}"]
        with (self._place / "log").open("wb") as log:
            self._server = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._wait()
        return self

    def stop(self) -> None:
        """Stop its sshd, which the sessions outlive."""
        if self._server is not None:
            self._server.terminate()
            self._server.wait(10)
            self._server = None

    def drop_sessions(self) -> None:
        """Cut every connection, as a reboot does: without a word, and the programs are gone too."""
        assert self._server is not None
        for child in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    def processes(self) -> list[int]:
        """Give what runs below its sshd."""
        assert self._server is not None
        return descendants(self._server.pid)

    def _wait(self) -> None:
        for _ in range(200):
            assert self._server is not None
            if self._server.poll() is not None:
                raise RuntimeError(self.log)
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise RuntimeError(f"sshd doesn't listen: {self.log}")


class Network:
    """Devices with the user's side: a key, known hosts, and an SSH configuration that names them."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir(parents=True, exist_ok=True)
        self.key = place / "user_key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        self.known_hosts = place / "known_hosts"
        self.known_hosts.touch()
        self.config = place / "ssh_config"
        self.config.touch()
        self.devices: list[Device] = []

    def device(self, alias: str, home: Path | None = None, known: bool = True, key: Path | None = None) -> Device:
        """Add a device, not started yet; ``known``: its host key is among the known hosts."""
        device = Device(self, alias, home or self.place / f"{alias}-home")
        self.devices.append(device)
        if known:
            words = (device.key.with_suffix(".pub")).read_text().split()[:2]
            with self.known_hosts.open("a") as file:
                file.write(f"[127.0.0.1]:{device.port} {' '.join(words)}\n")
        self.name(alias, device.port, key)
        return device

    def name(self, alias: str, port: int, key: Path | None = None) -> None:
        """Add a name for a port to the SSH configuration."""
        lines = {
            "Host": alias,
            "HostName": "127.0.0.1",
            "Port": port,
            "User": getpass.getuser(),
            "IdentityFile": f'"{key or self.key}"',
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "UserKnownHostsFile": f'"{self.known_hosts}"',
            "GlobalKnownHostsFile": "none",
        }
        with self.config.open("a") as file:
            file.write("".join(f"{name} {value}\n" for name, value in lines.items()))

    def stop(self) -> None:
        """Stop all devices, and what still runs on them."""
        for device in self.devices:
            if device._server is not None:
                device.drop_sessions()
                device.stop()


def descendants(process: int) -> list[int]:
    """Give the numbers of a process's children, and theirs."""
    found = []
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in path.read_text().split():
                found += [int(child), *descendants(int(child))]
    return found

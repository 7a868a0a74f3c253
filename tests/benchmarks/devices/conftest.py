"""What the tests of devices share: a network on loopback, and one home with the environment already made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from loopback import Network, require_sshd
from support import FIXTURE, command


class Workstation:
    """The command on the workstation, with a network's SSH configuration."""

    def __init__(self, network: Network) -> None:
        self.network = network

    def on(self, hosts: Sequence[str], verb: str = "verify", *words: str | Path, bundle: Path | None = FIXTURE) -> Any:
        """Run a verb on hosts; give the finished process."""
        devices = [word for host in hosts for word in ("--on", host)]
        config = ("--ssh-config", self.network.config)
        return command(verb, *([bundle] if bundle else []), *devices, *config, *words)

    def rows(self, hosts: Sequence[str], *words: str | Path, code: int = 0, **more: Any) -> list[dict[str, Any]]:
        """Run a verb on hosts with --json and hold it to its exit code; give one row for each device."""
        verb, *rest = map(str, words)
        done = self.on(hosts, verb, *rest, "--json", **more)
        assert done.returncode == code, done.stderr + done.stdout
        assert "Traceback" not in done.stderr
        devices: list[dict[str, Any]] = json.loads(done.stdout)["devices"]
        assert [row["host"] for row in devices] == list(hosts)
        return devices


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    """Give an empty network."""
    require_sshd()
    made = Network(tmp_path / "network")
    yield made
    made.stop()


@pytest.fixture
def workstation(network: Network) -> Workstation:
    """Give the workstation of that network."""
    return Workstation(network)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the home of a device on which an environment was left with --keep: tests with --keep are fast there."""
    require_sshd()
    network = Network(tmp_path_factory.mktemp("prepared"))
    device = network.device("prepared").start()
    try:
        [row] = Workstation(network).rows(["prepared"], "verify", "--keep")
        assert row["installed"][:2] == ["ai-edge-litert", "numpy"]
        assert row["sent_bytes"] > 0
    finally:
        network.stop()
    return device.home

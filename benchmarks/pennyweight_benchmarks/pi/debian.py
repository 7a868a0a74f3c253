"""Debian's packages for another processor, through an apt of our own: its own lists, state and cache, no root.

apt itself finds the archive, checks the archive's signature (with gpgv and Debian's keyring), the index's hash and each
package's, and resolves what depends on what. Only the network settings are taken from the machine's apt.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from .errors import TargetError
from .lock import Packages

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# They maintain an installed system; nothing that is only unpacked calls them.
LEFT_OUT = frozenset({"debconf", "init-system-helpers", "install-info", "perl-base", "sensible-utils", "tar"})


class Archive:
    """The packages of one suite for one architecture, as the archive signs them at this moment."""

    def __init__(self, folder: Path, suite: str, architecture: str) -> None:
        self.folder = folder
        self.suite = suite
        self.architecture = architecture
        self._configure()
        self._apt("update", "--error-on=any")

    def resolve(self, roots: Iterable[str]) -> dict[str, str]:
        """Give every package that these need, themselves included, with the version that the archive has."""
        said = self._apt("install", "--assume-yes", "--print-uris", *roots)
        found = {}
        for file in re.findall(r"^'[^']*' (\S+_\S+_\S+)\.deb ", said, re.MULTILINE):
            name, version, _ = unquote(file).split("_")
            if name not in LEFT_OUT:
                found[name] = version
        return found

    def download(self, versions: dict[str, str], folder: Path) -> Packages:
        """Fetch packages into a folder; give each one's version and hash."""
        self._apt("download", *(f"{name}={version}" for name, version in versions.items()), folder=folder)
        got = {}
        for path in folder.glob("*.deb"):
            name, version, _ = unquote(path.stem).split("_")
            got[name] = (version, hashlib.sha256(path.read_bytes()).hexdigest())
        missing = sorted(versions.keys() - got.keys())
        if missing:
            raise TargetError(f"apt fetched no {', '.join(missing)} of {self.suite} for {self.architecture}")
        return got

    def _configure(self) -> None:
        for name in ("lists/partial", "cache/archives/partial", "etc/parts"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "status").touch()
        (self.folder / "etc" / "archive.sources").write_text(
            f"Types: deb\nURIs: {archive_address()}\nSuites: {self.suite}\nComponents: main\nSigned-By: {KEYRING}\n"
        )
        nothing = self.folder / "etc" / "parts"
        settings = {
            "Dir::State::lists": self.folder / "lists",
            "Dir::State::status": self.folder / "status",
            "Dir::State::extended_states": self.folder / "extended_states",
            "Dir::Cache": self.folder / "cache",
            "Dir::Etc::sourcelist": "/dev/null",
            "Dir::Etc::sourceparts": self.folder / "etc",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": nothing,
            "Dir::Etc::main": "/dev/null",
            # No hooks of this machine's.
            "Dir::Etc::parts": nothing,
            "APT::Architecture": self.architecture,
            "APT::Architectures": self.architecture,
            "APT::Install-Recommends": "false",
            "Acquire::AllowInsecureRepositories": "false",
            "Acquire::AllowWeakRepositories": "false",
            "Acquire::AllowDowngradeToInsecureRepositories": "false",
            # As root, apt would fetch as a user who may not write here.
            "APT::Sandbox::User": "root",
        }
        network = _said(["apt-config", "dump", "Acquire"])
        lines = [f'{name} "{value}";' for name, value in settings.items()]
        (self.folder / "apt.conf").write_text("\n".join([network, *lines, 'Acquire::Languages "none";', ""]))

    def _apt(self, *words: str, folder: Path | None = None) -> str:
        environment = {**os.environ, "APT_CONFIG": str(self.folder / "apt.conf"), "LC_ALL": "C"}
        return _said(["apt-get", "-qq", *words], environment, folder)


@contextmanager
def open_archive(suite: str, architecture: str) -> Iterator[Archive]:
    """Give the archive of a suite for an architecture; its lists are gone afterwards."""
    if not KEYRING.exists():
        raise TargetError(f"{KEYRING} isn't here, so no signature can be checked: install debian-archive-keyring")
    with tempfile.TemporaryDirectory(prefix="pennyweight-apt-") as folder:
        yield Archive(Path(folder), suite, architecture)


def archive_address() -> str:
    """Give the address of the Debian archive that this machine's apt is set up with."""
    addresses = _said(["apt-get", "indextargets", "--no-release-info", "--format", "$(REPO_URI)"]).split()
    for address in addresses:
        if re.search(r"/debian(\.list)?/?$", address):
            return address
    raise TargetError("apt isn't set up with a Debian archive here: add one to /etc/apt/sources.list.d")


def _said(command: list[str], environment: dict[str, str] | None = None, folder: Path | None = None) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, check=False)
    except FileNotFoundError as error:
        raise TargetError(f"{command[0]} isn't on this machine: Debian's packages are fetched through apt") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("E:")] or [done.stderr.strip()[-200:]]
        raise TargetError(f"{' '.join(command[:3])}: {lines[0]}")
    return done.stdout

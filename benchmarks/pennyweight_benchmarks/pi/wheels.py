"""Wheels for another Python and processor, from the index that pip is set up with, each checked against its hash."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.requirements import Requirement

from .errors import TargetError
from .targets import Target

# The first glibc that a wheel's name tells apart, and the one that "manylinux2014" stands for.
FIRST_GLIBC = 17


def choose(target: Target, requirements: Sequence[str], dependencies: bool = False) -> dict[str, str]:
    """Let pip choose wheels for a target, with what they depend on or without; give each file's name and hash."""
    with tempfile.TemporaryDirectory(prefix="pennyweight-wheels-") as folder:
        _pip_download(target, Path(folder), [*([] if dependencies else ["--no-deps"]), *requirements])
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(Path(folder).iterdir())}


def pinned(target: Target, names: Sequence[str], constraints: Path) -> list[str]:
    """Give packages with the versions that a constraints file has for a target; pip reads one for its own Python."""
    about = {"python_version": target.python, "sys_platform": "linux", "platform_machine": target.machine}
    versions = {}
    for line in constraints.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate(about):
                versions[requirement.name.lower()] = f"{requirement.name}{requirement.specifier}"
    return [versions[name.lower()] for name in names]


def unpack_wheels(target: Target, files: Mapping[str, str], root: Path) -> None:
    """Fetch the wheels that the lock names, and unpack them into a folder that Python can import from."""
    with tempfile.TemporaryDirectory(prefix="pennyweight-wheels-") as folder:
        pinned = Path(folder, "pinned.txt")
        lines = []
        for file, digest in files.items():
            name, version = file.split("-")[:2]
            lines.append(f"{name}=={version} --hash=sha256:{digest}\n")
        pinned.write_text("".join(lines))
        place = Path(folder, "wheels")
        _pip_download(target, place, ["--no-deps", "--require-hashes", "--requirement", str(pinned)])
        for path in place.glob("*.whl"):
            with zipfile.ZipFile(path) as archive:
                archive.extractall(root)


def _pip_download(target: Target, folder: Path, words: Sequence[str]) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]
    command += ["--dest", str(folder), "--implementation", "cp", "--python-version", target.python]
    for minor in range(target.glibc, FIRST_GLIBC - 1, -1):
        command += ["--platform", f"manylinux_2_{minor}_{target.machine}"]
    command += ["--platform", f"manylinux2014_{target.machine}", "--platform", "any"]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or [done.stderr.strip()[-300:]]
        raise TargetError(f"pip finds no wheels for {target.name}: {lines[0]}")

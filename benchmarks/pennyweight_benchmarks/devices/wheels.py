"""What a device gets installed: this very runtime as a wheel, pip, and with ``--offline`` numpy and engines."""

from __future__ import annotations

import base64
import ensurepip
import functools
import hashlib
import io
import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

import pennyweight
from pennyweight.doctor import Device
from pennyweight.errors import UsageError

from .failures import MISSING, DeviceError

# Of a distribution's records, those that speak of its installation here.
LOCAL_RECORDS = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
LONG_AGO = (1980, 1, 1, 0, 0, 0)
MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "armhf": "armv7l"}
# The oldest glibc that manylinux wheels are built for, and the names that its early versions had.
OLDEST_GLIBC = 5
EARLY_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
DOWNLOAD_TIMEOUT = 1800.0


class Wheel(NamedTuple):
    """A wheel's file name and bytes."""

    name: str
    content: bytes

    @property
    def sha256(self) -> str:
        """Its hash."""
        return hashlib.sha256(self.content).hexdigest()


@functools.cache
def device_wheel() -> Wheel:
    """Write the runtime that is installed here as a wheel, from a checkout or not; equal files give equal bytes."""
    folder = Path(pennyweight.__file__).parent
    found = distribution("pennyweight")
    held = {f"pennyweight/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*.py")}
    held["pennyweight/py.typed"] = (folder / "py.typed").read_bytes()
    for file in found.files or ():
        if ".dist-info/" in str(file) and file.name not in LOCAL_RECORDS and ".." not in file.parts:
            held[file.as_posix()] = Path(str(file.locate())).read_bytes()
    records = f"pennyweight-{found.version}.dist-info/RECORD"
    lines = [f"{name},sha256={_record_hash(content)},{len(content)}" for name, content in sorted(held.items())]
    held[records] = "\n".join([*lines, f"{records},,", ""]).encode()
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(held.items()):
            archive.writestr(zipfile.ZipInfo(name, LONG_AGO), content, zipfile.ZIP_DEFLATED)
    return Wheel(f"pennyweight-{found.version}-py3-none-any.whl", memory.getvalue())


@functools.cache
def pip_wheel() -> Wheel:
    """Give the pip that this Python carries for new environments; raise UsageError where it carries none.

    A device's system may have none for its own, and this one runs from the file, in less time than one is set up.
    """
    bundled = Path(ensurepip.__file__).parent / "_bundled"
    for place in (bundled, Path("/usr/share/python-wheels")):
        for path in sorted(place.glob("pip-*.whl"), reverse=True):
            return Wheel(path.name, path.read_bytes())
    raise UsageError("this workstation's Python carries no pip; install it whole (Debian: `apt install python3-venv`)")


def platforms(device: Device) -> list[str]:
    """Give the platform tags of wheels that a device takes, the newest first; empty where there can be none."""
    machine, glibc = MACHINES.get(device.userland), re.fullmatch(r"glibc 2\.(\d+)", device.libc)
    if machine is None or glibc is None:
        return []
    tags = []
    for minor in range(int(glibc[1]), OLDEST_GLIBC - 1, -1):
        tags.append(f"manylinux_2_{minor}_{machine}")
        if minor in EARLY_NAMES:
            tags.append(f"{EARLY_NAMES[minor]}_{machine}")
    return [*tags, f"linux_{machine}"]


def carried_wheels(packages: Sequence[str], device: Device, place: Path) -> list[Wheel]:
    """Download wheels for a device's Python and architecture into the folder ``place``; raise DeviceError."""
    major, minor = device.python
    pip = pip_wheel()
    program = place / pip.name
    program.write_bytes(pip.content)
    target = place / "wheels"
    words = [sys.executable, f"{program}/pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "--no-input"]
    words += ["--disable-pip-version-check", "--implementation", "cp", "--python-version", f"{major}.{minor}"]
    words += ["--abi", f"cp{major}{minor}", "--abi", "abi3", "--abi", "none", "-d", str(target)]
    words += [word for tag in platforms(device) for word in ("--platform", tag)]
    try:
        done = subprocess.run(
            [*words, *packages], capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError("slow", f"the download here took over {DOWNLOAD_TIMEOUT:g} s") from error
    if done.returncode:
        missing = MISSING.search(done.stderr)
        wanted = missing[1] if missing else " ".join(packages)
        kind = f"Python {major}.{minor} on {device.userland}"
        last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise DeviceError("no wheel", f"{wanted}: this workstation's pip finds no wheel for {kind} ({last[:200]})")
    return [Wheel(path.name, path.read_bytes()) for path in sorted(target.glob("*.whl"))]


def _record_hash(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()

"""What a device has, what would break on it, and the lines that make it ready.

``read_device`` and ``try_engines`` look; ``diagnose`` and ``remedy`` only think about what they are given.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

from .engines import ENGINES, first_line, is_installed
from .errors import PennyweightError
from .isolation import run_isolated
from .machine import UNKNOWN, machine_facts

TIMEOUT = 120.0
NEW_ENVIRONMENT = "~/pennyweight-venv"
# Unpacked with numpy, the largest engine takes 114 MB; pip needs the wheel beside it.
NEEDED_MB = 250
SEES_SYSTEM = "include-system-site-packages"
NEWEST_TRIED = (3, 13)
USERLANDS = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv8l": "armhf",
    "armv7l": "armhf",
    "armv6l": "armv6",
    "i686": "i386",
}
NARROW = {"amd64": "i386", "arm64": "armhf"}
LIBRARIES = {
    "libgomp": "libgomp1",
    "libstdc++": "libstdc++6",
    "libatomic": "libatomic1",
    "libgcc_s": "libgcc-s1",
    "libopenblas": "libopenblas0",
    "libgfortran": "libgfortran5",
    "libGL": "libgl1",
}
NOISE = {
    "onnxruntime": 'a warning on GPU device discovery ("/sys/class/drm…"): it looks for a GPU that it doesn\'t need',
    "ai-edge-litert": '"INFO: Created TensorFlow Lite XNNPACK delegate for CPU"',
    "tflite-runtime": '"INFO: Created TensorFlow Lite XNNPACK delegate for CPU"',
}
JsonObject = dict[str, Any]


class Device(NamedTuple):
    """Facts of a device. ``userland`` is named as Debian's architectures are, and "armv6" for the oldest Pis.

    ``debian`` is the release of Debian or Raspberry Pi OS, None elsewhere; ``environment``: Python runs in a virtual
    environment; ``sees_system``: it sees the system's packages; ``managed``: pip may not install there (PEP 668).
    """

    system: str
    debian: int | None
    board: str
    kernel: str
    userland: str
    libc: str
    python: tuple[int, int]
    prefix: str
    environment: bool
    sees_system: bool
    managed: bool
    picamera2: bool
    memory_mb: int | str
    disk_mb: int


class Finding(NamedTuple):
    """``kind`` is "breaks", "note" or "harmless"; ``apt`` and ``pip`` are packages that mend it."""

    kind: str
    text: str
    apt: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()


def read_device(
    root: Path = Path("/"),
    package_architecture: str | None = None,
    pointer_bits: int = 8 * struct.calcsize("P"),
    python: tuple[int, int] = sys.version_info[:2],
    prefix: str = sys.prefix,
    base_prefix: str = sys.base_prefix,
    library: Path = Path(os.__file__).parent,
) -> Device:
    """Read a device's facts.

    Args:
        root: where the system's files are looked for.
        package_architecture: what `dpkg --print-architecture` says; asked for when None.
        pointer_bits: of this Python.
        python: its version.
        prefix: where its packages are; different from ``base_prefix`` in a virtual environment.
        base_prefix: the Python below it.
        library: the folder of its standard library.
    """
    facts, release = machine_facts(root), _os_release(root)
    environment = prefix != base_prefix
    architecture = package_architecture or _dpkg_architecture()
    is_debian = release.get("ID") in ("debian", "raspbian") and release.get("VERSION_ID", "").isdigit()
    return Device(
        system=release.get("PRETTY_NAME") or facts["system"],
        debian=int(release["VERSION_ID"]) if is_debian else None,
        board=facts["board"],
        kernel=facts["architecture"],
        userland=userland(pointer_bits, architecture, facts["architecture"], facts["cpu"]),
        libc=_libc(),
        python=python,
        prefix=prefix,
        environment=environment,
        sees_system=not environment or f"{SEES_SYSTEM} = true" in _text(Path(prefix, "pyvenv.cfg")),
        managed=not environment and (library / "EXTERNALLY-MANAGED").exists(),
        picamera2=(root / "usr/lib/python3/dist-packages/picamera2").exists(),
        memory_mb=facts["memory_mb"],
        disk_mb=shutil.disk_usage(prefix).free // 2**20,
    )


def userland(pointer_bits: int, package_architecture: str | None, kernel: str, cpu: str = "") -> str:
    """Name what programs here are built for, as Debian does.

    A 64-bit kernel may carry a 32-bit userland, so the kernel's word counts only where there is no dpkg; and a
    32-bit Python needs 32-bit wheels whatever the system is. Raspberry Pi OS says armhf on ARMv6 too.
    """
    if "ARMv6" in cpu or kernel == "armv6l":
        return "armv6"
    name = package_architecture or USERLANDS.get(kernel, kernel)
    widths = NARROW if pointer_bits == 32 else {narrow: wide for wide, narrow in NARROW.items()}
    return widths.get(name, name)


def try_engines(bundle: str | None = None) -> list[JsonObject]:
    """Import numpy and each engine in a child process, and replay ``bundle``'s golden set there; one row each.

    A row has "name", "version", "status" ("works", "broken", "absent") and "reason".
    """
    return [_try(name, None if name == "numpy" else bundle) for name in ("numpy", *ENGINES)]


def engine_task(arguments: JsonObject) -> JsonObject:
    """Be the child: import numpy or an engine, replay golden sets; give its version and what failed."""
    import importlib

    name = arguments["name"]
    try:
        if name == "numpy":
            return {"version": importlib.import_module(name).__version__, "reason": ""}
        # Through the adapter, which turns telemetry off before the import.
        version = importlib.import_module(f"pennyweight.engines.{ENGINES[name].adapter}").version()
    except ImportError as error:
        return {"version": None, "reason": f"its import fails: {first_line(error)}"}
    return {"version": version, "reason": _replay(name, arguments["bundle"]) if arguments["bundle"] else ""}


def obstacle(engine: str, device: Device) -> str:
    """Say why pip finds no wheel of an engine for this device; "" where it finds one."""
    kinds = ("amd64", "arm64", "armhf") if engine == "tflite-runtime" else ("amd64", "arm64")
    if not device.libc.startswith("glibc"):
        return "no wheel for this C library"
    if device.userland not in kinds:
        return f"no wheel for {device.userland}"
    if engine == "tflite-runtime" and device.python > (3, 11):
        return "wheels only up to Python 3.11"
    return ""


def choose(device: Device) -> Finding | None:
    """Give the engine to install here, as the packages that bring it; None where there is none."""
    if device.userland == "armhf" and not obstacle("tflite-runtime", device):
        # No wheel of numpy 1 for armhf: the system's own serves.
        return Finding("note", "tflite-runtime", ("python3-numpy",), ("tflite-runtime", "numpy<2"))
    if device.userland == "armhf" and (device.debian or 0) >= 13:
        return Finding("note", "onnxruntime", ("python3-onnxruntime",))
    if not obstacle("ai-edge-litert", device):
        return Finding("note", "ai-edge-litert", (), ("ai-edge-litert",))
    return None


def diagnose(device: Device, rows: Sequence[JsonObject]) -> list[Finding]:
    """Say what breaks or would break, what is worth knowing, and what is only noise."""
    numpy = next((row["version"] or "" for row in rows if row["name"] == "numpy"), "")
    found = [_fault(row, numpy, device) for row in rows if row["status"] == "broken"]
    python = f"Python {device.python[0]}.{device.python[1]}"
    is_armv6 = device.userland == "armv6"
    is_32_on_64 = device.kernel in ("aarch64", "x86_64") and device.userland in NARROW.values()
    hopeless = not is_armv6 and choose(device) is None and not _working(rows)
    working = [row["name"] for row in rows if row["status"] == "works"]
    facts = (
        (is_armv6, "breaks", "ARMv6 (Pi 1, Zero, Zero W): no engine is built for it; take a Zero 2 W or later"),
        (
            hopeless,
            "breaks",
            f"no engine has a wheel for {python} on {device.userland} ({device.libc}); "
            "install a 64-bit Raspberry Pi OS, or Debian 13, which packages python3-onnxruntime",
        ),
        (device.managed, "breaks", "pip refuses the system's Python (PEP 668): it needs a virtual environment"),
        (device.disk_mb < NEEDED_MB, "breaks", f"{device.disk_mb} MB of disk are free; an engine needs {NEEDED_MB}"),
        (is_32_on_64, "note", f"32-bit userland on a 64-bit kernel: what counts is {device.userland}"),
        (
            device.userland == "arm64" and "Pi 4" in device.board,
            "note",
            "onnxruntime 1.21.0's wheel dies of SIGILL on a Pi 4: take another version",
        ),
        (device.python <= (3, 11), "note", "tflite-runtime works with numpy 1 only: keep `numpy<2` beside it"),
        (device.python > NEWEST_TRIED, "note", f"{python} is newer than what the engines were tried with"),
        (_hides_camera(device), "note", "picamera2 is the system's, and this virtual environment doesn't see it"),
        *((name in working, "harmless", f"{name} may print {text}") for name, text in NOISE.items()),
    )
    return found + [Finding(kind, text) for holds, kind, text in facts if holds]


def remedy(device: Device, rows: Sequence[JsonObject], package: str) -> list[str]:
    """Give the shell lines that make the device ready; none where it is, or can't be.

    ``package`` is the folder of this package, which a new virtual environment gets a copy of.
    """
    mends = [one for one in diagnose(device, rows) if one.apt or one.pip]
    if _working(rows) and not mends and not _hides_camera(device):
        return []
    # A broken engine that can be mended is enough; a missing one is installed only where none works.
    if not _working(rows) and all(one.text.startswith("numpy") for one in mends):
        choice = choose(device)
        if choice is None:
            return []
        mends.append(choice)
    apt = {name for one in mends for name in one.apt}
    pip = dict.fromkeys(name for one in mends for name in one.pip)
    needs_system = device.picamera2 or any(name.startswith("python3-") for name in apt)
    new = device.managed and pip
    here = quote(device.prefix)
    home = NEW_ENVIRONMENT if new else here
    lines = []
    if new:
        apt.add("python3-venv")
        version = f"{device.python[0]}.{device.python[1]}"
        lines.append(f"{here}/bin/python{version} -m venv {'--system-site-packages ' if needs_system else ''}{home}")
        lines.append(f"cp -r {package} {home}/lib/python{version}/site-packages/")
    elif needs_system and not device.sees_system:
        lines.append(f"sed -i 's/^{SEES_SYSTEM}.*/{SEES_SYSTEM} = true/' {home}/pyvenv.cfg")
    if apt:
        lines.insert(0, f"sudo apt install -y {' '.join(sorted(apt))}")
    if pip:
        quoted = [f"'{name}'" if "<" in name or "!" in name else name for name in pip]
        lines.append(f"{home}/bin/python3 -m pip install {' '.join(quoted)}")
    return [*lines, f"{home}/bin/python3 -m pennyweight doctor"]


def _hides_camera(device: Device) -> bool:
    return device.picamera2 and not device.sees_system


def _fault(row: JsonObject, numpy: str, device: Device) -> Finding:
    name, reason = row["name"], row["reason"]
    why, apt = "", ""
    pip: tuple[str, ...] = ()
    library = re.search(r"(lib[\w+-]+)[\w.+-]*: cannot open shared object file", reason)
    if library:
        apt = LIBRARIES.get(library[1], "")
        why = f"Debian has it in {apt or 'a package that `apt-file` finds'}"
    elif name == "numpy":
        why = "nothing works without it"
        apt, pip = ("python3-numpy", ()) if device.userland == "armhf" else ("", ("numpy",))
    elif "SIGILL" in reason:
        why = "the wheel uses an instruction that this processor lacks: take another version"
        pip = ("onnxruntime!=1.21.0",) if row["version"] == "1.21.0" else ()
    elif "GLIBC" in reason:
        why = "the wheel was built for a newer system: take an older version"
    elif name == "tflite-runtime" and numpy.partition(".")[0] not in ("", "0", "1"):
        why, pip = f"it was built for numpy 1, and here is {numpy}", ("tflite-runtime", "numpy<2")
    text = ": ".join((f"{name} {row['version'] or ''}".strip(), reason))
    return Finding("breaks", f"{text}; {why}" if why else text, (apt,) if apt else (), pip)


def _working(rows: Sequence[JsonObject]) -> bool:
    return any(row["status"] == "works" for row in rows if row["name"] != "numpy")


def _try(name: str, bundle: str | None) -> JsonObject:
    from importlib.util import find_spec

    row: JsonObject = {"name": name, "version": None, "status": "absent", "reason": ""}
    if not (is_installed(name) if name in ENGINES else find_spec(name)):
        # Without numpy nothing works, so its absence is a fault.
        return {**row, "status": "broken", "reason": "not installed"} if name == "numpy" else row
    try:
        row.update(run_isolated(f"{__name__}:engine_task", {"name": name, "bundle": bundle}, TIMEOUT))
    except PennyweightError as error:
        row["reason"] = str(error)
    return {
        **row,
        "version": row["version"] or _written_version(name),
        "status": "broken" if row["reason"] else "works",
    }


def _replay(engine: str, bundle: str) -> str:
    from .bundle import open_bundle
    from .golden import golden_task

    failed = []
    for spec in open_bundle(bundle).manifest.artifacts:
        if spec.format == ENGINES[engine].format:
            try:
                passed = golden_task({"bundle": bundle, "artifact": spec.name, "engine": engine})["passed"]
                reason = "" if passed else "answers unlike the original"
            except PennyweightError as error:
                reason = str(error)
            if reason:
                failed.append(f"{spec.name}: {reason}")
    return "; ".join(failed)


def _written_version(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _dpkg_architecture() -> str | None:
    try:
        done = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or UNKNOWN
    except (AttributeError, OSError, ValueError):
        return "no glibc"


def _os_release(root: Path) -> dict[str, str]:
    pairs = (line.split("=", 1) for line in _text(root / "etc/os-release").splitlines() if "=" in line)
    return {name: value.strip("\"'") for name, value in pairs}


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""

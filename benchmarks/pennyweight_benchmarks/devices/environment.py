"""The device's environment of our own: a virtual environment with numpy, an engine and this runtime."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pennyweight.doctor import NEEDED_MB, Device, choose, obstacle
from pennyweight.engines import ENGINES

from .connection import Connection
from .failures import DeviceError, program_failure
from .transfer import send_bytes
from .wheels import Wheel, carried_wheels, device_wheel, pip_wheel

JsonObject = dict[str, Any]
HOME = "environment"
STATE = f"{HOME}/pennyweight.json"
REQUIREMENTS = {
    "ai-edge-litert": ("ai-edge-litert",),
    "tflite-runtime": ("tflite-runtime", "numpy<2"),
    # Its wheel dies of SIGILL on a Raspberry Pi 4.
    "onnxruntime": ("onnxruntime!=1.21.0",),
}
ARMHF_REMEDY = "`sudo apt install python3-numpy` on it, or Raspberry Pi OS, whose pip knows piwheels"
# Without an engine to fetch: pip, the runtime, the environment itself.
SMALL_MB = 8
PIP = (
    "--no-deps",
    "--only-binary",
    ":all:",
    "--no-input",
    "--no-cache-dir",
    "--disable-pip-version-check",
    "--no-compile",
    "-q",
)
# A script's first line can't name every folder; and a stray numpy.py in the home mustn't be ours, as with -m.
COMMAND = "import sys; sys.path[0] or sys.path.pop(0); from pennyweight.cli import run; run()"
# Compiled here is what is used, which is a tenth of what there is, so that no first call is timed with it.
WARM_UP = (
    "import compileall, os, sys, numpy, pennyweight; from pennyweight.engines import engine_version; "
    "compileall.compile_dir(os.path.dirname(pennyweight.__file__), quiet=2); "
    "[engine_version(name) for name in sys.argv[1:]]"
)
_DOWNLOADS: dict[tuple[Any, ...], list[Wheel]] = {}
_DOWNLOADING = threading.Lock()


def engines_wanted(asked: Sequence[str], device: Device, installed: Mapping[str, str]) -> list[str]:
    """Give the engines that a device gets: those asked for, else the doctor's choice; raise DeviceError for none.

    ``installed`` are the versions of those that its own Python has, which need no wheel.
    """
    if list(asked) == ["all"]:
        names = [name for name in ENGINES if name in installed or not obstacle(name, device)]
    elif asked:
        names = list(asked)
    else:
        choice = choose(device)
        names = [choice.text] if choice else [name for name in ENGINES if name in installed][:1]
    where = f"Python {device.python[0]}.{device.python[1]} on {device.userland} ({device.libc})"
    if not names:
        raise DeviceError("no wheel", f"no engine has a wheel for {where}", "install a 64-bit Raspberry Pi OS on it")
    for name in names:
        if name in installed:
            continue
        if device.userland == "armhf" and name == "onnxruntime" and (device.debian or 0) >= 13:
            raise DeviceError(
                "no wheel",
                f"{name}: only Debian has it for {where}",
                "run `sudo apt install python3-onnxruntime` on it",
            )
        if why := obstacle(name, device):
            raise DeviceError("no wheel", f"{name}: {why} ({where})")
    return names


def packages_for(engines: Sequence[str], installed: Mapping[str, str]) -> list[str]:
    """Give what pip has to install for some engines, besides what the device's own Python has."""
    missing = [name for name in engines if name not in installed]
    packages = dict.fromkeys(package for name in missing for package in REQUIREMENTS[name])
    if installed.get("numpy", "").startswith("1."):
        packages.pop("numpy<2", None)
    elif "numpy<2" not in packages and "numpy" not in installed:
        packages["numpy"] = None
    return list(packages)


class Environment:
    """A device's environment; ``command`` are the words that run ``pennyweight`` there."""

    def __init__(self, connection: Connection, folder: str, facts: JsonObject, device: Device) -> None:
        self._connection = connection
        self._folder = folder
        self._facts = facts
        self._device = device
        self.command = (f"{folder}/{HOME}/bin/python3", "-c", COMMAND)

    def make(self, engines: Sequence[str], offline: bool, bundle_mb: float) -> list[str]:
        """Make it, or add what it lacks; give what was installed. Raises DeviceError."""
        # A wheel for this system's own engine or numpy would only hide it.
        is_shared = self._device.userland == "armhf" or any(name in self._facts["installed"] for name in engines)
        installed = self._facts["installed"] if is_shared else {}
        base = {"python": [self._facts["executable"], self._facts["python"]], "shared": is_shared}
        state = json.loads(self._connection.ask("read", name=STATE)["text"] or "{}")
        if state.get("base") != base:
            self._connection.ask("remove", name=HOME)
            state = {}
        held = state.get("packages", [])
        missing = [package for package in packages_for(engines, installed) if package not in held]
        # What needs an older numpy decides, also where a newer one is there already.
        missing = [package for package in missing if not (package == "numpy" and "numpy<2" in held)]
        engines_missing = sum(not package.startswith("numpy") for package in missing)
        needed = (NEEDED_MB * max(1, engines_missing) if missing else SMALL_MB) + bundle_mb
        if self._facts["free_mb"] < needed:
            raise DeviceError("full", f"{self._facts['free_mb']} MB are free, and {needed:.0f} MB are needed")
        wheel = device_wheel()
        if not missing and state.get("wheel") == wheel.sha256:
            return []
        if not state:
            self._connection.step = "making its environment"
            more = ["--system-site-packages"] if is_shared else []
            self._run(self._facts["executable"], "-m", "venv", "--without-pip", *more, f"{self._folder}/{HOME}")
        self._install(missing, engines, offline, not state)
        packages = [*held, *missing]
        state = {"base": base, "packages": packages, "wheel": wheel.sha256}
        send_bytes(self._connection, STATE, json.dumps(state).encode())
        return [*missing, wheel.name]

    def _install(self, packages: Sequence[str], engines: Sequence[str], offline: bool, is_new: bool) -> None:
        words: list[str] = list(packages)
        if offline and packages:
            self._connection.step = f"downloading {', '.join(packages)} for it"
            held = _downloads(packages, self._device)
            self._connection.step = f"carrying {', '.join(one.name for one in held)} along"
            words = [self._carry(one) for one in held]
        self._connection.step = f"installing {', '.join(packages) or 'the runtime'}"
        options = [*PIP, *(["--no-index"] if offline or not packages else [])]
        # The runtime's version may be the same where its content isn't.
        options += [] if is_new else ["--force-reinstall"]
        pip, python = f"{self._carry(pip_wheel())}/pip", f"{self._folder}/{HOME}/bin/python3"
        self._run(python, pip, "install", *options, *words, self._carry(device_wheel()))
        # An engine that can't be imported is the verb's to tell.
        self._connection.run(python, "-c", WARM_UP, *engines, cwd=self._folder)

    def _carry(self, wheel: Wheel) -> str:
        name = f"files/{wheel.sha256[:16]}/{wheel.name}"
        send_bytes(self._connection, name, wheel.content)
        return f"{self._folder}/{name}"

    def _run(self, *words: str) -> None:
        code, _, noise = self._connection.run(*words, cwd=self._folder)
        if code:
            failure = program_failure(self._connection.step, code, noise)
            if failure.kind == "no wheel" and self._device.userland == "armhf":
                raise DeviceError(failure.kind, failure.reason, ARMHF_REMEDY)
            raise failure


def _downloads(packages: Sequence[str], device: Device) -> list[Wheel]:
    """Download once for all devices that take the same wheels."""
    kind = (*packages, device.python, device.userland, device.libc)
    with _DOWNLOADING:
        if kind not in _DOWNLOADS:
            with tempfile.TemporaryDirectory() as place:
                _DOWNLOADS[kind] = carried_wheels(packages, device, Path(place))
        return _DOWNLOADS[kind]

"""What ``select`` found best on this device, remembered for ``load`` in the user's cache folder.

A choice counts only for the very bundle, device and engine version that it was measured with.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from .bundle import Bundle


class Choice(NamedTuple):
    """The fastest artifact × engine × threads that passed parity, where and when that was measured."""

    bundle: str
    device: str
    artifact: str
    engine: str
    engine_version: str
    threads: int
    measured: str
    median_ns: float


def cache_folder() -> Path | None:
    """Give the folder for choices: under systemd's ``CACHE_DIRECTORY``, else XDG's cache, else ``~/.cache``."""
    given = os.environ.get("CACHE_DIRECTORY", "").split(":")[0] or os.environ.get("XDG_CACHE_HOME", "")
    home = os.environ.get("HOME", "")
    if given and Path(given).is_absolute():
        return Path(given, "pennyweight")
    return Path(home, ".cache", "pennyweight") if home else None


def choice_path(bundle: Bundle) -> Path | None:
    """Give the file that a choice for this bundle is kept in, or None where there is no cache folder."""
    folder = cache_folder()
    return folder / f"{bundle_digest(bundle)}.json" if folder else None


def bundle_digest(bundle: Bundle) -> str:
    """Give the SHA-256 of the manifest, which holds those of all files."""
    return hashlib.sha256(bundle.manifest_bytes).hexdigest()


def device_name() -> str:
    """Name this device by its board or processor and its cores, such as "Raspberry Pi 4 Model B Rev 1.4, 4"."""
    board = _start_of("/proc/device-tree/model").strip("\0\n ")
    if not board:
        lines = _start_of("/proc/cpuinfo").splitlines()
        board = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return f"{board}, {os.cpu_count()}"


def read_choice(bundle: Bundle, device: str | None = None) -> Choice | None:
    """Give the choice that is remembered for this bundle on this device, or None."""
    path = choice_path(bundle)
    try:
        content: Any = json.loads(path.read_bytes()) if path else None
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or set(content) != set(Choice._fields):
        return None
    choice = Choice(**content)
    texts = (choice.artifact, choice.engine, choice.engine_version, choice.measured)
    if not all(isinstance(text, str) for text in texts) or type(choice.threads) is not int or choice.threads < 1:
        return None
    here = (bundle_digest(bundle), device or device_name())
    return choice if (choice.bundle, choice.device) == here else None


def write_choice(bundle: Bundle, choice: Choice) -> Path | None:
    """Remember a choice; give the file, or None where there is no cache folder; raise OutputError where it can't be."""
    from .errors import OutputError
    from .output import write_atomically

    path = choice_path(bundle)
    if path is None:
        return None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{path.parent}: can't be made ({error.strerror}); set XDG_CACHE_HOME to another folder"
        ) from error
    write_atomically(path, (json.dumps(choice._asdict(), indent=2) + "\n").encode())
    return path


def _start_of(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return file.read(4096).decode(errors="replace")
    except OSError:
        return ""

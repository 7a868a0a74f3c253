"""A target, built: QEMU, the root folder and the wheels, from the cache or from what the lock names."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from . import rootfs, wheels
from .cache import kept
from .errors import TargetError
from .lock import RENEW, Lock, read_lock
from .packages import Progress, moved_on, package_folder
from .targets import EMULATOR, HOST, TARGETS, Target


class Built(NamedTuple):
    """A target that can be run: its root folder, and its unpacked wheels by group.

    ``moved_on`` names the packages that the archive no longer has as locked, so that its successor was taken.
    """

    target: Target
    root: Path
    wheels: Mapping[str, Path]
    moved_on: tuple[str, ...]


def build(name: str, progress: Progress = lambda text: None, lock: Lock | None = None) -> Built:
    """Give a target, built if the cache doesn't have it; raise TargetError with what can't be had."""
    lock = lock or read_lock()
    target = TARGETS[name]
    emulator = emulator_folder(lock, progress) / "usr/bin" / target.emulator

    def finish(root: Path, final: Path) -> None:
        rootfs.fit_for_emulation(root, final, emulator, target.core, target.python)

    root = package_folder(
        target.debian, lock, progress, finish, [target.core, target.python, str(emulator), rootfs.FITTING]
    )
    groups = {}
    for group in target.wheels:
        files = lock.wheels.get(name, {}).get(group)
        if files is None:
            raise TargetError(f"{name}: {group} isn't in the lock; renew it with `{RENEW}`")
        groups[group] = _wheel_folder(target, group, files, progress)
    return Built(target, root, groups, moved_on(root))


def build_all(
    names: Iterable[str] = tuple(TARGETS), progress: Progress = lambda text: None
) -> tuple[dict[str, Built], dict[str, str]]:
    """Build targets, two at a time; give those that were built, and for each of the others why it is left out."""
    built, left_out = {}, {}

    def one(name: str) -> Built | str:
        try:
            return build(name, progress)
        except TargetError as error:
            return str(error)

    names = list(names)
    with ThreadPoolExecutor(2) as pool:
        for name, result in zip(names, pool.map(one, names), strict=True):
            if isinstance(result, Built):
                built[name] = result
            else:
                left_out[name] = result
    return built, left_out


def emulator_folder(lock: Lock, progress: Progress) -> Path:
    """Give the folder of QEMU's unpacked packages."""
    machine = _host_architecture()
    if machine != HOST:
        raise TargetError(f"the emulator is locked for {HOST}, and this machine is {machine}")
    return package_folder(EMULATOR, lock, progress)


def _wheel_folder(target: Target, group: str, files: Mapping[str, str], progress: Progress) -> Path:
    def make(root: Path, final: Path) -> None:
        progress(f"{target.name}: fetching {', '.join('-'.join(file.split('-')[:2]) for file in files)}")
        wheels.unpack_wheels(target, files, root)

    return kept(f"{target.name}-{group}", dict(files), make)


def _host_architecture() -> str:
    try:
        done = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise TargetError("dpkg isn't on this machine: targets are made of Debian's packages") from error
    return done.stdout.strip()

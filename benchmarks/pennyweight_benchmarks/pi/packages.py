"""Folders of unpacked Debian packages, as the lock names them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from . import rootfs
from .cache import kept
from .debian import open_archive
from .errors import TargetError
from .lock import RENEW, Lock, Packages
from .targets import PackageSet

Progress = Callable[[str], None]
Finish = Callable[[Path, Path], None]
MOVED_ON = "moved_on.json"


def package_folder(
    wanted: PackageSet, lock: Lock, progress: Progress, finish: Finish | None = None, key: Any = None
) -> Path:
    """Give a folder with a set of packages unpacked, from the cache or fetched.

    Args:
        wanted: the set; the lock has one of its name.
        lock: which version and hash each package has.
        progress: is told in a line what is fetched.
        finish: what is done to the folder afterwards; it gets the folder as it is, and as it will be called.
        key: what ``finish`` depends on, as JSON.
    """
    if wanted.name not in lock.debian:
        raise TargetError(f"{wanted.name} isn't in the lock; renew it with `{RENEW}`")
    locked = lock.debian[wanted.name]

    def make(root: Path, final: Path) -> None:
        progress(f"{wanted.name}: fetching {len(locked)} packages of {wanted.suite} for {wanted.architecture}")
        _fetch(wanted, locked, root, progress)
        if finish:
            finish(root, final)

    return kept(wanted.name, [wanted, locked, key], make)


def _fetch(wanted: PackageSet, locked: Packages, root: Path, progress: Progress) -> None:
    """Fetch and unpack the locked packages, or the successors of those that the archive has moved on from.

    Debian's archive keeps one version of a package in a suite, so a point release takes locked ones away. The archive
    signs the successors with the same keys, so they are taken, and a line says so; what has the locked version and
    another hash is refused.
    """
    with (
        open_archive(wanted.suite, wanted.architecture) as archive,
        tempfile.TemporaryDirectory(prefix="pennyweight-deb-") as folder,
    ):
        changed = compare(locked, archive.download(archive.resolve(wanted.packages), Path(folder)))
        if changed:
            progress(moved_on_line(wanted.name, changed))
        rootfs.unpack(sorted(Path(folder).glob("*.deb")), root)
    (root / MOVED_ON).write_text(json.dumps(changed))


def compare(locked: Packages, got: Packages) -> list[str]:
    """Say how packages differ from the lock; raise TargetError for a locked version with another content."""
    changed = []
    for name in sorted(locked.keys() | got.keys()):
        was, now = locked.get(name, ("none", "")), got.get(name, ("none", ""))
        if was[0] != now[0]:
            changed.append(f"{name} {was[0]} → {now[0]}")
        elif was[1] != now[1]:
            raise TargetError(f"{name} {was[0]} has the sha256 {now[1]}, and the lock says {was[1]}: it is refused")
    return changed


def moved_on_line(name: str, changed: Iterable[str]) -> str:
    """Give the one line that says how the archive differs from the lock."""
    changed = list(changed)
    shown = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
    return f"{name}: the archive has moved on from the lock ({shown}); what it signs now is taken; renew: `{RENEW}`"


def moved_on(root: Path) -> tuple[str, ...]:
    """Give what a built folder holds otherwise than locked."""
    return tuple(json.loads((root / MOVED_ON).read_text()))

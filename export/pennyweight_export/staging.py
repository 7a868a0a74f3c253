"""Write a bundle beside its place and rename it there: at no moment does a half-written one stand under its name."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

from pennyweight.bundle import SUFFIX
from pennyweight.errors import OutputError
from pennyweight.manifest import MANIFEST_NAME

_EXCHANGE = 2  # RENAME_EXCHANGE of linux/fs.h
_CURRENT_FOLDER = -100  # AT_FDCWD


def check_output(output: Path, force: bool) -> None:
    """Raise OutputError where a bundle can't be written, or stands something that ``force`` may not replace."""
    parent = output.parent
    if not parent.is_dir():
        raise OutputError(f"{output}: the folder {parent} doesn't exist; make it first")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{output}: the folder {parent} can't be written; choose another place with -o")
    if not os.path.lexists(output):
        return
    if not force:
        raise OutputError(f"{output}: exists already; choose another name with -o, or replace it with --force")
    if not (output / MANIFEST_NAME).is_file() and not (output.is_file() and output.suffix == SUFFIX):
        raise OutputError(f"{output}: exists and is no bundle, so --force won't replace it; choose another name")


class Staging:
    """A temporary folder that becomes the bundle when it is committed."""

    def __init__(self, folder: Path, output: Path) -> None:
        self.folder = folder
        self._output = output

    def write(self, name: str, content: bytes) -> None:
        """Write one of the bundle's files."""
        with _writing(self._output), (self.folder / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def remove(self, name: str) -> None:
        """Take a file back out."""
        (self.folder / name).unlink()

    def commit(self) -> None:
        """Put the bundle under its name, in one step; an older one is kept until then."""
        packed = self.folder.with_name(self.folder.name + SUFFIX)
        try:
            with _writing(self._output):
                if self._output.suffix == SUFFIX:
                    _pack(self.folder, packed)
                    _put(packed, self._output)
                else:
                    _put(self.folder, self._output)
        finally:
            _discard(packed)


@contextlib.contextmanager
def staged(output: Path, force: bool = False) -> Iterator[Staging]:
    """Give a staging folder beside ``output``; it is gone afterwards, whatever happens.

    Raises:
        OutputError: ``output`` can't be written, see ``check_output``; or the disk is full.
    """
    check_output(output, force)
    folder = output.with_name(f".{output.name}.{os.getpid()}.{time.monotonic_ns()}.part")
    try:
        with _writing(output):
            folder.mkdir()
        yield Staging(folder, output)
    finally:
        _discard(folder)


@contextlib.contextmanager
def _writing(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{output}: can't be written ({error.strerror or error}); try another place") from error


def _pack(folder: Path, packed: Path) -> None:
    with packed.open("wb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for path in sorted(folder.iterdir()):
                member = zipfile.ZipInfo(path.name)
                member.external_attr = 0o100644 << 16
                archive.writestr(member, path.read_bytes())
        file.flush()
        os.fsync(file.fileno())


def _put(new: Path, place: Path) -> None:
    """Rename ``new`` to ``place``; what stood there is discarded after the exchange."""
    if not os.path.lexists(place) or (new.is_file() and place.is_file()):
        new.replace(place)
    elif _exchanged(new, place):
        _discard(new)
    else:
        old = new.with_name(new.name + ".old")
        place.rename(old)
        new.rename(place)
        _discard(old)


def _exchanged(one: Path, other: Path) -> bool:
    """Swap two names in one step where the system can; say whether it did."""
    try:
        swap = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    paths = os.fsencode(one), os.fsencode(other)
    return bool(swap(_CURRENT_FOLDER, paths[0], _CURRENT_FOLDER, paths[1], _EXCHANGE) == 0)


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()

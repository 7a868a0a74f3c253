"""Write a bundle beside its place and rename it there: at no moment does a half-written one stand under its name."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pennyweight.bundle import SUFFIX
from pennyweight.errors import OutputError
from pennyweight.manifest import MANIFEST_NAME, FileRecord

OLD = ".old"
COPIED_BYTES = 2**20

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


def check_temporary(needed: int) -> None:
    """Raise OutputError where the folder for temporary files has less than ``needed`` bytes free.

    TensorFlow's converter saves the model there, and writes something else, without a word, where it can't.
    """
    try:
        folder = tempfile.gettempdir()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise OutputError(f"no folder for temporary files ({error.strerror}); set TMPDIR to one with room") from error
    if free < needed:
        megabytes = f"{free / 1e6:,.1f} MB free, and the converters need {needed / 1e6:,.1f} MB"
        raise OutputError(f"{folder}: {megabytes} of temporary files; make room there, or set TMPDIR to another folder")


class Staging:
    """A temporary folder that becomes the bundle when it is committed."""

    def __init__(self, folder: Path, output: Path) -> None:
        self.folder = folder
        self._output = output

    def write(self, name: str, content: bytes) -> None:
        """Write one of the bundle's files."""
        with self.opened(name) as file:
            file.write(content)

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[IO[bytes]]:
        """Give one of the bundle's files to be written in pieces."""
        with _writing(self._output), (self.folder / name).open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())

    def remove(self, name: str) -> None:
        """Take a file back out."""
        (self.folder / name).unlink()

    def files(self) -> dict[str, FileRecord]:
        """Give size and SHA-256 of every file but the manifest, by name."""
        return {path.name: _record(path) for path in sorted(self.folder.iterdir()) if path.name != MANIFEST_NAME}

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

    What a run that was killed left there is cleared first.

    Raises:
        OutputError: ``output`` can't be written, see ``check_output``; or the disk is full.
    """
    _clear_leftovers(output)
    check_output(output, force)
    folder = output.with_name(f".{output.name}.{os.getpid()}.{time.monotonic_ns()}.part")
    held = None
    try:
        with _writing(output):
            held = _make(folder)
        yield Staging(folder, output)
    finally:
        _discard(folder)
        if held is not None:
            os.close(held)


def _make(folder: Path) -> int:
    """Make a folder and lock it, so that others see that its run is alive; the lock ends with the process."""
    while True:
        folder.mkdir(exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        # Another run may have taken it for a leftover before it was locked.
        if _lock(descriptor) is not False and _is_at(descriptor, folder):
            return descriptor
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Lock a folder; give False where another process has, and None where the system has no such locks."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True


def _is_at(descriptor: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except FileNotFoundError:
        return False


def _clear_leftovers(output: Path) -> None:
    """Remove what killed runs left beside ``output``, and nothing of a run that is still alive."""
    pattern = re.compile(re.escape(f".{output.name}.") + r"\d+\.\d+\.part")
    try:
        found = {match[0] for entry in output.parent.iterdir() if (match := pattern.match(entry.name))}
    except OSError:
        return  # the check that follows says what is wrong with the folder
    for name in found:
        folder = output.with_name(name)
        with contextlib.suppress(OSError), _abandoned(folder):
            old = output.with_name(name + OLD)
            if old.exists() and not os.path.lexists(output):
                # Killed between the two renames of ``_put``.
                old.rename(output)
            for leftover in (old, output.with_name(name + SUFFIX), folder):
                _discard(leftover)


@contextlib.contextmanager
def _abandoned(folder: Path) -> Iterator[None]:
    """Hold the lock of a staging folder, if it is still there; raise OSError where its run has it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        yield
        return
    try:
        if not _lock(descriptor):
            raise BlockingIOError
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _writing(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{output}: can't be written ({error.strerror or error}); try another place") from error


def _record(path: Path) -> FileRecord:
    with path.open("rb") as file:
        return FileRecord(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


def _pack(folder: Path, packed: Path) -> None:
    with packed.open("wb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for path in sorted(folder.iterdir()):
                info = zipfile.ZipInfo(path.name)
                info.external_attr = 0o100644 << 16
                info.file_size = path.stat().st_size
                with path.open("rb") as source, archive.open(info, "w") as member:
                    shutil.copyfileobj(source, member, COPIED_BYTES)
        file.flush()
        os.fsync(file.fileno())


def _put(new: Path, place: Path) -> None:
    """Rename ``new`` to ``place``; what stood there is discarded after the exchange."""
    if not os.path.lexists(place) or (new.is_file() and place.is_file()):
        new.replace(place)
    elif _exchanged(new, place):
        _discard(new)
    else:
        old = new.with_name(new.name + OLD)
        try:
            place.rename(old)
            new.rename(place)
        except BaseException:
            if old.exists() and not os.path.lexists(place):
                old.rename(place)
            raise
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
    try:
        _remove(path)
    except KeyboardInterrupt:
        # Pressed while cleaning up: that is finished all the same.
        _remove(path)
        raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()

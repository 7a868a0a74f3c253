"""A bundle as one uncompressed zip. Everything about the archive is checked before a byte of it is given out."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import IO, Any, Callable

from .errors import BundleError
from .manifest import MANIFEST_NAME, is_file_name

MAX_FILES = 1000


class Archive:
    """A ``.pennyweight`` file: only plain, stored, uniquely named members are accepted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._open() as archive:
            self._members = self._checked(archive)

    def names(self) -> list[str]:
        """Give the members' names."""
        return list(self._members)

    def read(self, name: str, limit: int) -> bytes:
        """Give at most ``limit`` + 1 bytes of a member; raise BundleError when it is missing or damaged."""
        info = self._members.get(name)
        if info is None:
            raise BundleError(f"{self._path}: {name} is missing; copy the bundle again")
        with self._open() as archive:
            try:
                with archive.open(info) as member:
                    return member.read(limit + 1)
            except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as error:
                raise BundleError(f"{self._path}: {name} is damaged; copy the bundle again") from error

    def reader(self, name: str, limit: int) -> Callable[[], bytes]:
        """Give the function that does ``read``."""
        return lambda: self.read(name, limit)

    def open(self, name: str) -> IO[bytes]:
        """Give a member as a file that can be searched; it is stored, so it is a part of the archive's own file."""
        info = self._members.get(name)
        if info is None:
            raise BundleError(f"{self._path}: {name} is missing; copy the bundle again")
        file = self._path.open("rb")
        file.seek(info.header_offset)
        head = file.read(30)
        # A local header: 26 bytes, the lengths of the name and of the extra field, and these two.
        if len(head) < 30 or head[:4] != b"PK\x03\x04":
            file.close()
            raise BundleError(f"{self._path}: {name} is damaged; copy the bundle again")
        start = info.header_offset + 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
        return io.BufferedReader(_Part(file, start, info.file_size))

    def _open(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self._path)
        except OSError as error:
            raise BundleError(
                f"{self._path}: can't be read ({error.strerror}); check the path and permissions"
            ) from error
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise BundleError(f"{self._path}: neither a bundle's folder nor a whole .pennyweight file") from error

    def _checked(self, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
        members: dict[str, zipfile.ZipInfo] = {}
        for info in archive.infolist():
            reason = self._refusal(info)
            if info.filename in members:
                reason = "it stands there twice"
            if reason or len(members) >= MAX_FILES:
                raise BundleError(f"{self._path}: member {info.filename[:60]!r} refused: {reason or 'too many files'}")
            members[info.filename] = info
        if MANIFEST_NAME not in members:
            raise BundleError(f"{self._path}: no {MANIFEST_NAME} inside; this is no bundle of ours")
        return members

    def _refusal(self, info: zipfile.ZipInfo) -> str:
        mode = info.external_attr >> 16
        if not is_file_name(info.filename):
            return "not a plain file name"
        if mode and (mode & 0o170000) not in (0, 0o100000):
            return "not a regular file"
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            return "compressed, and a bundle is stored"
        if info.flag_bits & 0x1:
            return "encrypted"
        if info.file_size > self._path.stat().st_size:
            return "larger than the archive"
        return ""


class _Part(io.RawIOBase):
    """A stretch of a file, as a file."""

    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._start + self._at)
        block = self._file.read(max(0, min(len(buffer), self._size - self._at)))
        buffer[: len(block)] = block
        self._at += len(block)
        return len(block)

    def close(self) -> None:
        self._file.close()
        super().close()

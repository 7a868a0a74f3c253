"""A bundle as one uncompressed zip. Everything about the archive is checked before a byte of it is given out."""

from __future__ import annotations

import zipfile
from pathlib import Path

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

"""A root filesystem in memory, as the kernel takes it: a cpio archive in the format "newc"."""

from __future__ import annotations

import marshal
import os
import stat
import sys
import warnings
from collections.abc import Iterator, Mapping
from importlib.util import MAGIC_NUMBER, cache_from_source, source_hash
from pathlib import Path
from typing import BinaryIO

from .rootfs import EMULATED

MAGIC = "070701"
# What no program of ours reads, so that more of the machine's memory is left.
LEFT_OUT = frozenset(
    {"__pycache__", "dist-packages", "distutils", "ensurepip", "gconv", "lib2to3", "pydoc_data", "test", "tests"}
    | {"blas", "lapack", "sasl2", "perl-base"}
)


def write_initramfs(path: Path, root: Path, python: str, more: Mapping[str, Path], init: bytes) -> None:
    """Write a target's C library and Python, more files, and the first program.

    Args:
        path: the file.
        root: the target's folder.
        python: Python's version.
        more: folders and files by where they stand there.
        init: a script that becomes /init.
    """
    with path.open("wb") as file:
        archive = _Archive(file, python)
        for name in ("bin", "lib", "sbin"):
            archive.link(name, f"usr/{name}")
        for name in ("dev", "proc", "sys", "tmp", "etc"):
            archive.folder(name)
        for name in ("usr/lib/aarch64-linux-gnu", f"usr/lib/python{python}", "usr/lib/python3"):
            archive.tree(name, root / name)
        for loader in root.glob("usr/lib/ld-linux-*"):
            archive.add(f"usr/lib/{loader.name}", loader)
        archive.add(f"usr/bin/python{python}", root / EMULATED / f"python{python}")
        for name, path in more.items():
            if path.is_dir():
                archive.tree(name, path)
            else:
                archive.add(name, path)
        archive.entry("init", stat.S_IFREG | 0o755, init)
        archive.end()


class _Archive:
    def __init__(self, file: BinaryIO, python: str) -> None:
        self._file = file
        # Bytecode is the same for all of a Python's releases; another Python's is left for the machine to make.
        self._compiles = python == f"{sys.version_info.major}.{sys.version_info.minor}"
        self._made = {""}

    def tree(self, name: str, folder: Path) -> None:
        for place, names, files in os.walk(folder):
            names[:] = sorted(set(names) - LEFT_OUT)
            below = os.path.join(name, os.path.relpath(place, folder)) if place != str(folder) else name  # noqa: PTH118
            self.folder(below)
            for entry in sorted((*files, *(one for one in names if Path(place, one).is_symlink()))):
                self.add(f"{below}/{entry}", Path(place, entry))

    def add(self, name: str, path: Path) -> None:
        if path.is_symlink():
            self.link(name, str(path.readlink()))
        else:
            content = path.read_bytes()
            self.entry(name, stat.S_IFREG | (path.stat().st_mode & 0o777), content)
            if self._compiles and name.endswith(".py"):
                self.compiled(name, content)

    def compiled(self, name: str, source: bytes) -> None:
        """Add what Python would make of a module at its first import, which takes an emulated processor very long."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                code = compile(source, f"/{name}", "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            return  # templates and the like
        # PEP 552: valid whatever the source's time is.
        head = MAGIC_NUMBER + (0b01).to_bytes(4, "little") + source_hash(source)
        self.entry(cache_from_source(name), stat.S_IFREG | 0o644, head + marshal.dumps(code))

    def link(self, name: str, to: str) -> None:
        self.entry(name, stat.S_IFLNK | 0o777, to.encode())

    def folder(self, name: str) -> None:
        if name not in self._made:
            self._made.add(name)
            self.entry(name, stat.S_IFDIR | 0o755, b"")

    def entry(self, name: str, mode: int, content: bytes) -> None:
        for parent in _parents(name):
            self.folder(parent)
        # Inode (0: no hard links), mode, owner, group, links, time, size, two devices, length of the name, checksum.
        fields = (0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name.encode()) + 1, 0)
        self._padded(f"{MAGIC}{''.join(f'{field:08x}' for field in fields)}{name}\0".encode())
        self._padded(content)

    def end(self) -> None:
        self.entry("TRAILER!!!", 0, b"")

    def _padded(self, content: bytes) -> None:
        self._file.write(content + b"\0" * (-len(content) % 4))


def _parents(name: str) -> Iterator[str]:
    parts = name.split("/")[:-1]
    return ("/".join(parts[: count + 1]) for count in range(len(parts)))

"""A root folder of unpacked Debian packages, made fit to be run from by QEMU's user mode."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from .boards import cpuinfo
from .errors import TargetError

MERGED = ("bin", "sbin", "lib", "lib64")
DOCUMENTS = ("doc", "info", "lintian", "locale", "man")
EMULATED = "usr/libexec/emulated"
WHEELS = "/usr/share/python-wheels"
# Raise it when a root is fitted otherwise, so that cached ones are built anew.
FITTING = 2


def unpack(packages: Iterable[Path], root: Path) -> None:
    """Unpack .deb files into a folder, as an ordinary user, without what only documents them."""
    for name in MERGED:
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        if not (root / name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
    # dpkg-deb's own unpacking would replace those links by folders.
    tar = ["tar", "--extract", "--keep-directory-symlink", "--no-same-owner", "--directory", str(root)]
    tar += [f"--exclude=./usr/share/{name}/*" for name in DOCUMENTS]
    for package in packages:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as content:
            done = subprocess.run(tar, stdin=content.stdout, capture_output=True, text=True, check=False)
        if done.returncode or content.returncode:
            raise TargetError(f"{package.name} can't be unpacked: {done.stderr.strip()[-200:]}")
    _keep_links_inside(root)
    _choose_alternatives(root)


def fit_for_emulation(root: Path, final: Path, emulator: Path, core: str, python: str) -> None:
    """Give the root its board's /proc/cpuinfo, and programs that the host can start.

    The kernel can't run a foreign program, so Python and dpkg become scripts that start them in the emulator, and no
    other foreign program stays in /usr/bin. Python sees itself under the script's name: its ``sys.executable`` can be
    started again, and a virtual environment's link to it works.

    Args:
        root: the folder as it is now.
        final: where it will be.
        emulator: QEMU's folder of unpacked packages, with the program's name at the end.
        core: which of QEMU's processors, unless ``QEMU_CPU`` names another.
        python: Python's version.
    """
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc" / "cpuinfo").write_text(cpuinfo(core))
    programs = root / "usr" / "bin"
    wrapped = {f"python{python}", "dpkg"}
    hidden = root / EMULATED
    hidden.mkdir(parents=True)
    for path in list(programs.iterdir()):
        if path.is_symlink() or not _is_program(path):
            continue
        if path.name not in wrapped:
            path.unlink()
            continue
        path.rename(hidden / path.name)
        path.write_text(_wrapper(final, emulator, core, path.name))
        path.chmod(0o755)
    # A 32-bit Python of Debian 13 looks for files by a system call that QEMU 7.2 doesn't turn to the root.
    for path in (root / "usr" / "lib").glob("python3.*/_sysconfigdata_*.py"):
        path.write_text(path.read_text().replace(f"'{WHEELS}", f"'{final}{WHEELS}"))
    if not (programs / f"python{python}").exists():
        raise TargetError(f"the packages hold no Python {python}")


def _wrapper(root: Path, emulator: Path, core: str, program: str) -> str:
    qemu = emulator.parents[2]
    libraries = qemu / "usr/lib/x86_64-linux-gnu"
    return (
        "#!/bin/sh\n"
        f'export QEMU_CPU="${{QEMU_CPU:-{core}}}"\n'
        f"exec {qemu}/lib64/ld-linux-x86-64.so.2 --library-path {libraries} \\\n"
        f'    {emulator} -0 "$0" -L {root} {root}/{EMULATED}/{program} "$@"\n'
    )


def _is_program(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _keep_links_inside(root: Path) -> None:
    """Make absolute links relative: on the host they would lead to the host's files."""
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            if path.is_symlink() and path.readlink().is_absolute():
                to = root / path.readlink().relative_to("/")
                path.unlink()
                path.symlink_to(os.path.relpath(to, folder))


def _choose_alternatives(root: Path) -> None:
    """Link BLAS and LAPACK where the package's installation script would have."""
    for path in (root / "usr" / "lib").glob("*/*/lib*.so.3"):
        if path.parent.name in ("blas", "lapack", "openblas-pthread"):
            link = path.parents[1] / path.name
            if not link.is_symlink():
                link.symlink_to(path.relative_to(link.parent))

"""Where the counting happens: environments on targets whose processes differ in nothing that could be counted."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pennyweight.bundle import Bundle
from pennyweight_benchmarks.pi import Built, make_environment
from pennyweight_benchmarks.pi.errors import TargetError

from . import guest
from .plugin import Counts, read_counts

TIMEOUT = 900.0
# What the guest needs of this distribution.
CARRIED = ("__init__.py", "bare.py")
# The paths that a program sees are the same wherever this is run, or at least as long: Python reads, compares and
# hashes them by the thousand.
PATH_LENGTH = 80
# Linux's <sys/personality.h>.
ADDR_NO_RANDOMIZE = 0x0040000
QUERY = 0xFFFFFFFF


class Stage(NamedTuple):
    """A folder with an environment on a target, the bundle and the guest: its Python, and its processes' variables."""

    folder: Path
    python: Path
    variables: dict[str, str]


@contextmanager
def open_stage(bundle: Bundle, built: Built, engine: str, runtime: Path, plugin: Path) -> Iterator[Stage]:
    """Make a stage for one engine on one target; it is gone afterwards.

    Args:
        bundle: what is loaded there; a copy, so that its path is the stage's.
        built: the target.
        engine: one that the target has.
        runtime: the folder of the package ``pennyweight``.
        plugin: as ``counting_plugin`` gives it.
    """
    with _same_folder(f"pennyweight-count-{built.target.name}-{engine}") as folder:
        groups = [name for name in ("numpy", engine) if name in built.wheels]
        python = make_environment(folder / "environment", built, groups, system="numpy" not in built.wheels)
        packages = next((folder / "environment" / "lib").glob("python*/site-packages"))
        _lead_through_links(folder, python, packages / "wheels.pth", built)
        (folder / "counting.so").symlink_to(plugin)
        shutil.copytree(runtime, packages / "pennyweight", ignore=shutil.ignore_patterns("__pycache__"))
        (packages / "pennyweight_benchmarks").mkdir()
        ours = Path(guest.__file__)
        for name in CARRIED:
            shutil.copy(ours.parents[1] / name, packages / "pennyweight_benchmarks")
        shutil.copy(ours, folder)
        (shutil.copytree if bundle.path.is_dir() else shutil.copy)(bundle.path, folder / "bundle")
        variables = {
            # Nothing of this machine's: what the variables hold moves the stack, and Python reads all of them.
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "PYTHONHASHSEED": "0",
            "PYTHONNOUSERSITE": "1",
            # Bytecode of our own, as an installation makes it; what a target's cache happens to hold isn't looked at.
            "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
            "OPENBLAS_NUM_THREADS": "1",
            "QEMU_PLUGIN": f"{folder / 'counting.so'},out={folder / 'counts'}",
        }
        yield Stage(folder, python, variables)


def count_once(stage: Stage, artifact: str, engine: str, *, compiling: bool = False) -> tuple[Counts, dict[str, Any]]:
    """Count one process; give its counts and what it said of itself.

    Args:
        stage: where.
        artifact: a model file of the bundle.
        engine: the stage's.
        compiling: let Python write bytecode, which the counts of this process then hold.

    Raises:
        TargetError: the process failed; the message is its last line.
    """
    variables = stage.variables if compiling else {**stage.variables, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [stage.python, stage.folder / "guest.py", stage.folder / "bundle", artifact, engine]
    try:
        with fixed_addresses():
            done = subprocess.run(
                list(map(str, command)),
                env=variables,
                cwd=stage.folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIMEOUT,
                check=False,
            )
    except subprocess.TimeoutExpired as error:
        raise TargetError(f"gave no answer within {TIMEOUT:g} s and was stopped") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise TargetError(f"failed under emulation: {last[:200]}")
    about: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return read_counts((stage.folder / "counts").read_text()), about


@contextmanager
def _same_folder(name: str) -> Iterator[Path]:
    """Make a temporary folder whose path is the same every time, unless another process has it just now."""
    for number in range(1000):
        ending = f"-{number:03}"
        words = name.ljust(PATH_LENGTH - len(tempfile.gettempdir()) - len("/") - len(ending), "-")
        folder = Path(tempfile.gettempdir(), words + ending)
        try:
            folder.mkdir(0o700)
        except FileExistsError:
            continue
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return
    raise TargetError(f"{folder} and 999 like it are there already; remove them")


def _lead_through_links(folder: Path, python: Path, wheels: Path, built: Built) -> None:
    """Let an environment see its target through links in ``folder``, so that no path depends on where the cache is."""
    links = {built.root: folder / "target"}
    links.update({place: folder / f"wheels-{name}" for name, place in built.wheels.items()})
    starter = python.read_text()
    python.unlink()
    python.write_text(starter)
    python.chmod(0o755)
    for place, link in links.items():
        link.symlink_to(place)
        for file in (python, python.parents[1] / "pyvenv.cfg", wheels):
            file.write_text(file.read_text().replace(str(place), str(link)))


@contextmanager
def fixed_addresses() -> Iterator[None]:
    """Let the kernel give the processes that this thread starts the same addresses every time.

    Where it may not be asked for (some containers), a start's counts differ by some hundreds of instructions.
    """
    change = getattr(ctypes.CDLL(None), "personality", None) if os.name == "posix" else None
    before = change(QUERY) if change else -1
    if before == -1 or change is None:
        yield
        return
    change(before | ADDR_NO_RANDOMIZE)
    try:
        yield
    finally:
        change(before)

"""A whole small machine in QEMU: Debian's kernel, a root filesystem in memory, no disk, no swap, no network.

What runs on it has the memory that the machine has, which user mode can't show. The files lie in that memory too, so it
is tighter than a board, whose files lie on its card.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .errors import TargetError
from .guest import MARK
from .initramfs import write_initramfs
from .lock import read_lock
from .packages import Progress, package_folder
from .target import Built
from .targets import KERNEL, MACHINE

GUEST = Path(__file__).with_name("guest.py")
# By default a filesystem in memory may take half of it.
SETTINGS = "console=ttyAMA0 rdinit=/init rootfstype=ramfs panic=-1 loglevel=4"
TIMEOUT = 300.0
# How the kernel says that memory is all: while it unpacks the files, while programs run, and when none is left to end.
NO_MEMORY = (
    "Initramfs unpacking failed",
    "Out of memory",
    "deadlocked on memory",
    "No working init",
    "unable to mount",
)


class Run(NamedTuple):
    """A command on the machine: its exit code and output, and the memory that it took, in 2**20 bytes.

    ``largest_process`` counts the files that are mapped into it, such as libraries; ``all_processes`` doesn't, and is
    what the machine must find besides its files. ``available`` is what the kernel could give before, and at worst.
    """

    exit: int
    output: str
    largest_process: float
    all_processes: float
    available_before: float
    available_lowest: float
    seconds: float


class Measured(NamedTuple):
    """The machine's memory and swap in 2**20 bytes, and its commands in their order."""

    total: float
    swap: float
    runs: tuple[Run, ...]


def run_on_machine(
    built: Built,
    groups: Iterable[str],
    wheel: Path,
    files: Mapping[str, Path],
    commands: Sequence[Sequence[str]],
    megabytes: int,
    progress: Progress = lambda text: None,
) -> Measured:
    """Boot a machine with an arm64 target's Python, run commands on it, and give the memory they took.

    Args:
        built: the target.
        groups: which of its wheels the machine has.
        wheel: the device wheel.
        files: folders to have on it, by name, below /files.
        commands: each one's words, where "python3" begins.
        megabytes: the machine's memory, in 2**20 bytes.
        progress: is told in a line what is fetched.

    Raises TargetError with what isn't to be had, or where the machine ended before its commands did.
    """
    lock = read_lock()
    emulator = package_folder(MACHINE, lock, progress)
    kernel = package_folder(KERNEL, lock, progress, _keep_kernel, "vmlinuz")
    python = f"/usr/bin/python{built.target.python}"
    sites = {f"site/{group}": built.wheels[group] for group in groups}
    environment = {"PYTHONPATH": ":".join(f"/{site}" for site in (*sites, "site/runtime")), "HOME": "/tmp"}
    work = {"environment": environment, "commands": [[python, *words] for words in commands]}
    with tempfile.TemporaryDirectory(prefix="pennyweight-machine-") as name:
        place = Path(name)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(place / "runtime")
        (place / "jobs.json").write_text(json.dumps(work))
        there = {**sites, "site/runtime": place / "runtime", "jobs.json": place / "jobs.json"}
        there |= {f"files/{name}": path for name, path in files.items()}
        init = f"#!{python}\n{GUEST.read_text()}".encode()
        write_initramfs(place / "initramfs", built.root, built.target.python, there, init)
        said = _console(emulator, kernel / "vmlinuz", place / "initramfs", built.target.core, megabytes)
    return _measured(said, megabytes, len(commands))


def _console(emulator: Path, kernel: Path, initramfs: Path, core: str, megabytes: int) -> str:
    """Run the machine until it is off; give what stood on its console."""
    libraries = emulator / "usr/lib/x86_64-linux-gnu"
    words: list[str | Path] = [emulator / "lib64/ld-linux-x86-64.so.2", "--library-path", libraries]
    words += [emulator / "usr/bin/qemu-system-aarch64", "-L", emulator / "usr/share/qemu", "-M", "virt", "-cpu", core]
    words += ["-smp", "2", "-m", str(megabytes), "-kernel", kernel, "-initrd", initramfs, "-append", SETTINGS]
    words += ["-nic", "none", "-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot"]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise TargetError(f"the machine with {megabytes} MB wasn't done within {TIMEOUT:g} s") from error
    if b"could not load initrd" in done.stderr:
        files = initramfs.stat().st_size / 2**20
        raise TargetError(
            f"a machine with {megabytes} MB is too small: {files:.0f} MB of files find no room beside the kernel"
        )
    if done.returncode:
        raise TargetError(
            f"QEMU's machine didn't start: {done.stderr.decode(errors='replace').strip().partition(chr(10))[0][-200:]}"
        )
    return done.stdout.decode(errors="replace")


def _measured(said: str, megabytes: int, commands: int) -> Measured:
    lines = [json.loads(line[len(MARK) :]) for line in said.splitlines() if line.startswith(MARK)]
    if len(lines) != commands + 1:
        signs = [line.strip() for line in said.splitlines() if any(sign in line for sign in NO_MEMORY)]
        if signs:
            raise TargetError(f"a machine with {megabytes} MB is too small: {signs[0][-150:]}")
        last = [line.strip() for line in said.splitlines() if line.strip()][-1:] or ["it said nothing"]
        raise TargetError(f"the machine with {megabytes} MB ended before its commands did: {last[0][-150:]}")
    head, *runs = lines
    return Measured(head["total"] / 1024, head["swap"] / 1024, tuple(_run(run) for run in runs))


def _run(told: dict[str, Any]) -> Run:
    sizes = {name: size / 1024 for name, size in told.pop("memory").items()}
    return Run(**told, **sizes)


def _keep_kernel(root: Path, _: Path) -> None:
    kernel = next(root.glob("boot/vmlinuz-*"), None)
    if kernel is None:
        raise TargetError("the packages hold no kernel")
    kernel.rename(root / "vmlinuz")
    for folder in root.iterdir():
        if folder.is_symlink():
            folder.unlink()
        elif folder.is_dir():
            shutil.rmtree(folder)

"""The memory that ``predict`` and ``parity`` take on a whole machine of 512 MB, engine by engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pennyweight.tables import text_table

from .machine import Measured, run_on_machine
from .packages import Progress
from .target import Built

SMALL = 512
VERBS = ("predict", "parity")
# What must be left at the worst moment, in 2**20 bytes: a quarter of the machine, for the GPU's share of a board's
# memory and for its system's services, neither of which this machine has.
LEFT = 128
# Done, and "more data would decide": on a few samples that is parity's right answer.
FINE = (0, 3)


def measure_memory(
    built: Built,
    wheel: Path,
    bundle: Path,
    picture: Path,
    megabytes: int = SMALL,
    engines: Sequence[str] | None = None,
    progress: Progress = lambda text: None,
) -> dict[str, Measured]:
    """Run both verbs on one machine per engine, two at a time; raise TargetError where it is too small for them.

    Args:
        built: an arm64 target that has numpy and Pillow as wheels.
        wheel: the device wheel.
        bundle: a bundle with an evaluation set.
        picture: a picture file for ``predict``.
        megabytes: the machine's memory, in 2**20 bytes.
        engines: those of the target's to measure; all of them by default.
        progress: is told in a line what is done.
    """
    place, image = f"/files/{bundle.name}", f"/files/{picture.name}"
    commands = [["-m", "pennyweight", *words, "--json"] for words in (["predict", place, image], ["parity", place])]
    files = {path.name: path for path in (bundle, picture)}

    def one(engine: str) -> Measured:
        progress(f"{engine}: booting a machine with {megabytes} MB")
        return run_on_machine(built, ["numpy", "images", engine], wheel, files, commands, megabytes, progress)

    engines = built.target.engines if engines is None else engines
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(engines, pool.map(one, engines), strict=True))


def complaints(measured: Mapping[str, Measured]) -> list[str]:
    """Say which engine's machine swapped, failed or came too near to its end."""
    found = []
    for engine, machine in measured.items():
        if machine.swap:
            found.append(f"{engine}: the machine has {machine.swap:.0f} MB of swap, so what lies there wasn't measured")
        for verb, run in zip(VERBS, machine.runs, strict=True):
            if run.exit not in FINE:
                last = run.output.strip().splitlines()[-1:] or ["no word"]
                found.append(f"{engine}: {verb} ended with {run.exit}: {last[0][:150]}")
            if run.available_lowest < LEFT:
                found.append(f"{engine}: {verb} left {run.available_lowest:.0f} MB at worst, and {LEFT} must be left")
    return found


NOTE = """
MB of 2**20 bytes. All processes: their own memory, without files. Largest process: with the libraries mapped into it.
Available: what the kernel could still give, while all files lie in memory too; on a board they lie on its card."""


def memory_table(measured: Mapping[str, Measured]) -> str:
    """Give the table of engine × verb × memory in MB (2**20 bytes)."""
    header = ["engine", "verb", "peak, all processes", "largest process", "lowest available", "of", "swap"]
    cells = []
    for engine, machine in measured.items():
        swap = f"{machine.swap:.0f}" if machine.swap else "none"
        for verb, run in zip(VERBS, machine.runs, strict=True):
            sizes = (run.all_processes, run.largest_process, run.available_lowest, machine.total)
            cells.append([engine, verb, *(f"{size:.0f}" for size in sizes), swap])
    return text_table(header, cells, 2) + "\n" + NOTE

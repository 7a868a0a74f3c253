"""What the kernel of a Raspberry Pi says in /proc/cpuinfo.

QEMU 7.2 lets the host's file shine through, and the engines, which choose their kernels by it, crash on that. So each
target gets the file of the board that it stands for. Its first line says that it is emulated: the engines don't read
that field on ARM, and ``pennyweight.machine`` does.
"""

from __future__ import annotations

from typing import NamedTuple

CORES = 4


class Board(NamedTuple):
    """The fields of its cores, and its own."""

    features: str
    architecture: int
    variant: int
    part: int
    core_revision: int
    revision: str
    model: str


_ARMV7 = "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm"
_ARMV8_2 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
BOARDS = {
    "cortex-a7": Board(_ARMV7, 7, 0x0, 0xC07, 5, "a01041", "Raspberry Pi 2 Model B Rev 1.1"),
    "cortex-a72": Board("fp asimd evtstrm crc32 cpuid", 8, 0x0, 0xD08, 3, "c03114", "Raspberry Pi 4 Model B Rev 1.4"),
    "cortex-a76": Board(_ARMV8_2, 8, 0x4, 0xD0B, 1, "c04170", "Raspberry Pi 5 Model B Rev 1.0"),
}


def cpuinfo(core: str) -> str:
    """Give the file of the board with this core, marked as emulated."""
    board = BOARDS[core]
    lines = []
    for number in range(CORES):
        lines += [
            f"processor\t: {number}",
            f"model name\t: QEMU user mode, {core}",
            "BogoMIPS\t: 108.00",
            f"Features\t: {board.features}",
            "CPU implementer\t: 0x41",
            f"CPU architecture: {board.architecture}",
            f"CPU variant\t: {board.variant:#x}",
            f"CPU part\t: {board.part:#x}",
            f"CPU revision\t: {board.core_revision}",
            "",
        ]
    lines += [f"Revision\t: {board.revision}", "Serial\t\t: 0000000000000000", f"Model\t\t: {board.model}", ""]
    return "\n".join(lines)

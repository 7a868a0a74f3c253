"""Whether this processor is emulated: then answers are a device's, and times and memory are not."""

from __future__ import annotations

import os
from pathlib import Path

NONE_SEEN = "none seen"
UNKNOWN = "unknown"
X86 = ("x86_64", "AMD64", "i386", "i686")


def emulation(root: Path = Path("/"), architecture: str | None = None) -> str:
    """Say what emulates this processor, "none seen", or "unknown" where the kernel's files tell nothing.

    QEMU is told by the processor's name, or its user mode by the host's kernel or /proc/cpuinfo shining through.
    """
    if architecture is None:
        architecture = os.uname().machine if hasattr(os, "uname") else ""
    cpu = _text(root / "proc/cpuinfo")
    if not cpu:
        return UNKNOWN
    for line in cpu.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name" and "QEMU" in value:
            return value.strip()
    kernel = _text(root / "proc/sys/kernel/arch").strip()
    is_x86 = architecture in X86
    if ("vendor_id" in cpu) != is_x86 or (kernel and (kernel in X86) != is_x86):
        return f"{architecture} programs on another processor"
    return NONE_SEEN


def is_emulated() -> bool:
    """Say whether an emulator was seen."""
    return emulation() not in (NONE_SEEN, UNKNOWN)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""

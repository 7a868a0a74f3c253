"""The four targets: which Debian, Python, core and board each stands for, and what has to be fetched for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

# What a Raspberry Pi OS Lite has for Python, and what a user of it installs for virtual environments.
PYTHON = ("base-files", "libpython3-stdlib", "libstdc++6", "python3", "python3-minimal", "python3-pip", "python3-venv")
NUMPY = "python3-numpy"
PILLOW = "python3-pil"
# Whichever pure Python versions of these suit; not what the workstation has, which may be compiled for it.
TEST_TOOLS = ("pytest", "pytest-timeout", "hypothesis")


class PackageSet(NamedTuple):
    """Packages of a Debian suite for an architecture; what they depend on comes with them."""

    name: str
    suite: str
    architecture: str
    packages: tuple[str, ...]


class Target(NamedTuple):
    """A Debian for ARM, the board that it stands for, and the core that QEMU takes on.

    ``packages`` are Debian's, which bring what they depend on. ``wheels`` are the index's by group: one group per
    engine, "numpy" and "images" (Pillow) where Debian's own aren't taken, and "tests" (pytest and its like).
    """

    name: str
    suite: str
    architecture: str
    python: str
    core: str
    board: str
    packages: tuple[str, ...]
    wheels: Mapping[str, tuple[str, ...]]

    @property
    def debian(self) -> PackageSet:
        """What is unpacked for it."""
        return PackageSet(self.name, self.suite, self.architecture, self.packages)

    @property
    def emulator(self) -> str:
        """The program of QEMU's that runs it."""
        return "qemu-aarch64" if self.architecture == "arm64" else "qemu-arm"

    @property
    def machine(self) -> str:
        """The processor as wheels name it."""
        return "aarch64" if self.architecture == "arm64" else "armv7l"

    @property
    def glibc(self) -> int:
        """The minor version of its C library, which decides on the wheels that suit."""
        return {"bookworm": 36, "trixie": 41}[self.suite]

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines it has, from the index or from Debian."""
        found = tuple(name for name in ("ai-edge-litert", "tflite-runtime", "onnxruntime") if name in self.wheels)
        return found or tuple(name[8:] for name in self.packages if name == "python3-onnxruntime")


def _one(*names: str) -> dict[str, tuple[str, ...]]:
    """Give each package a group of its own name."""
    return {name: (name,) for name in names}


_SHARED = {"images": ("Pillow",), "tests": TEST_TOOLS}
_TARGETS = (
    Target(
        "arm64-debian12",
        "bookworm",
        "arm64",
        "3.11",
        "cortex-a72",
        "Raspberry Pi 4, Raspberry Pi OS 12, 64-bit",
        # Its own numpy too, as a --system-site-packages environment has it.
        (*PYTHON, NUMPY),
        {**_one("numpy", "ai-edge-litert", "tflite-runtime", "onnxruntime"), **_SHARED},
    ),
    Target(
        "arm64-debian13",
        "trixie",
        "arm64",
        "3.13",
        "cortex-a76",
        "Raspberry Pi 5, Raspberry Pi OS 13, 64-bit",
        PYTHON,
        {**_one("numpy", "ai-edge-litert", "onnxruntime"), **_SHARED},
    ),
    Target(
        "armhf-debian12",
        "bookworm",
        "armhf",
        "3.11",
        "cortex-a7",
        "Raspberry Pi 2, Raspberry Pi OS 12, 32-bit",
        (*PYTHON, NUMPY, PILLOW),
        {**_one("tflite-runtime"), "tests": TEST_TOOLS},
    ),
    Target(
        "armhf-debian13",
        "trixie",
        "armhf",
        "3.13",
        "cortex-a7",
        "Raspberry Pi 2, Raspberry Pi OS 13, 32-bit",
        (*PYTHON, NUMPY, PILLOW, "python3-onnxruntime"),
        {"tests": TEST_TOOLS},
    ),
)
TARGETS = {target.name: target for target in _TARGETS}
# What runs on this machine. Later packages of QEMU carry no plugin support for user mode.
HOST = "amd64"
EMULATOR = PackageSet("qemu-user", "bookworm", HOST, ("qemu-user",))
# A whole machine, for what user mode can't show: memory.
MACHINE = PackageSet("qemu-system-arm", "bookworm", HOST, ("qemu-system-arm",))
KERNEL = PackageSet("kernel-arm64", "bookworm", "arm64", ("linux-image-cloud-arm64",))
PACKAGE_SETS = (EMULATOR, MACHINE, KERNEL, *(target.debian for target in _TARGETS))

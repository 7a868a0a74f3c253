"""Raspberry-Pi-class targets without a Raspberry Pi: Debian's packages for ARM, unpacked, and QEMU's user mode.

Needs no root, docker or binfmt: only apt, gpgv, tar, pip and Debian's keyring, on an amd64 machine. What is fetched is
pinned in ``lock.json``. Results are those of a Pi's programs; times are not.
"""

from .environment import make_environment
from .run import run_python
from .target import Built, build, build_all
from .targets import TARGETS, Target

__all__ = ["TARGETS", "Built", "Target", "build", "build_all", "make_environment", "run_python"]

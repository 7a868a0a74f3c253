"""A virtual environment on a target, as its user has one: with or without the system's packages."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

from .target import Built

COMMAND = "import sys\nfrom pennyweight.cli import run\nsys.exit(run())\n"


def make_environment(
    folder: Path, built: Built, groups: Iterable[str], wheels: Iterable[Path] = (), system: bool = False
) -> Path:
    """Make a virtual environment and give its Python.

    Args:
        folder: where; it mustn't exist.
        built: the target.
        groups: of the target's wheels, such as "numpy" and an engine's name; they are linked to, not copied.
        wheels: files of pure Python wheels to unpack into it, such as the device wheel.
        system: whether it sees Debian's own packages.
    """
    target = built.target
    programs = folder / "bin"
    packages = folder / "lib" / f"python{target.python}" / "site-packages"
    programs.mkdir(parents=True)
    packages.mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text(
        f"home = {built.root / 'usr' / 'bin'}\n"
        f"include-system-site-packages = {'true' if system else 'false'}\n"
        f"version = {target.python}\n"
    )
    python = programs / "python3"
    python.symlink_to(built.root / "usr" / "bin" / f"python{target.python}")
    (programs / "python").symlink_to("python3")
    (packages / "wheels.pth").write_text("".join(f"{built.wheels[group]}\n" for group in groups))
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(packages)
    command = programs / "pennyweight"
    command.write_text(f"#!{python}\n{COMMAND}")
    command.chmod(0o755)
    return python

"""Run a target's Python."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

# What the host sets for its own Python and its own processor.
FOREIGN = ("OPENBLAS_", "PYTHON", "VIRTUAL_ENV", "LD_", "QEMU_")


def target_environment(python: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Give the variables for a target's programs: the host's, without what is meant for the host's Python."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    system = python.resolve().parent
    path = f"{python.parent}:{system}:{os.environ['PATH']}"
    return {**kept, "PATH": path, "OPENBLAS_NUM_THREADS": "1", "LC_ALL": "C.UTF-8", **(more or {})}


def run_python(
    python: Path,
    words: Sequence[str | Path],
    *,
    core: str | None = None,
    plugin: str | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    timeout: float = 600.0,
) -> subprocess.CompletedProcess[str]:
    """Run Python of a target with these words, such as a script and its arguments.

    Args:
        python: as ``make_environment`` gives it.
        words: what stands behind ``python3``.
        core: QEMU's name of the processor; by default the target's.
        plugin: QEMU's plugin and its arguments, ``FILE.so,name=value``; the processes that Python starts get it too.
        environment: variables to set besides.
        folder: where it runs.
        timeout: seconds until it is stopped.
    """
    more = dict(environment or {})
    if core:
        more["QEMU_CPU"] = core
    if plugin:
        more.update(QEMU_PLUGIN=plugin, QEMU_LOG="plugin")
    return subprocess.run(
        [str(python), *map(str, words)],
        env=target_environment(python, more),
        cwd=folder,
        timeout=timeout,
        capture_output=True,
        text=True,
        check=False,
    )

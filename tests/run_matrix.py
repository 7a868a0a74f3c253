"""Run the runtime's tests from the built wheel, in a fresh environment for each Python, with every engine it has.

    python tests/run_matrix.py [3.9 3.10 …]

A Python that isn't on this machine is skipped, and said so; the exit code is 1 when a test fails or none could run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
TESTS = ("pytest", "pytest-timeout", "hypothesis", "Pillow")


def find_python(version: str) -> str | None:
    """Give an interpreter of this version from PATH or pyenv that really starts, or None."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    candidates = [shutil.which(f"python{version}"), *map(str, sorted(pyenv.glob(f"{version}.*/bin/python")))]
    for candidate in filter(None, candidates):
        said = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=False)
        if said.returncode == 0 and said.stdout.startswith(f"Python {version}."):
            return candidate
    return None


def build_wheel(place: Path) -> Path:
    """Build the device wheel with this environment's hatchling."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", str(place), str(ROOT / "runtime")], check=True)
    return next(place.glob("*.whl"))


def run_tests(version: str, python: str, wheel: Path, place: Path) -> tuple[int, str]:
    """Make the environment, install the wheel with all engines, run tests/runtime; give exit code and last lines."""
    environment = place / version
    subprocess.run([python, "-m", "venv", str(environment)], check=True)
    inside = str(environment / "bin" / "python")
    install = [inside, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--only-binary", ":all:"]
    requirements = ["-c", str(ROOT / "constraints.txt"), f"{wheel}[engines,images]", *TESTS]
    installed = subprocess.run([*install, *requirements], capture_output=True, text=True, check=False)
    if installed.returncode:
        return 1, installed.stderr[-2000:]
    command = [inside, "-m", "pytest", "-m", "not slow", "-p", "no:cacheprovider", str(ROOT / "tests" / "runtime")]
    tested = subprocess.run(command, capture_output=True, text=True, check=False, cwd=place)
    lines = tested.stdout.strip().splitlines()
    engines = "from pennyweight.engines import ENGINES, engine_version as v, is_installed as i\n"
    engines += "print(', '.join(f'{n} {v(n)}' for n in ENGINES if i(n)))"
    said = subprocess.run([inside, "-c", engines], capture_output=True, text=True, check=False)
    report = lines[-1:] if tested.returncode == 0 else [*lines[-60:], tested.stderr[-1000:]]
    return tested.returncode, "\n".join([said.stdout.strip() or said.stderr[-500:], *report])


def main(versions: list[str]) -> int:
    """Run every version asked for, two at a time."""
    found = {version: find_python(version) for version in versions}
    for version, python in found.items():
        if python is None:
            print(f"Python {version}: skipped, no such interpreter on this machine", flush=True)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        wheel = build_wheel(Path(folder))
        print(f"{wheel.name}: {wheel.stat().st_size:,} bytes", flush=True)

        def one(version: str) -> int:
            start = time.monotonic()
            code, text = run_tests(version, found[version] or "", wheel, Path(folder))
            print(f"Python {version} ({time.monotonic() - start:.0f} s): {text}", flush=True)
            return code

        codes = list(pool.map(one, [version for version, python in found.items() if python]))
    return 0 if codes and not any(codes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(VERSIONS)))

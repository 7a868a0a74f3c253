"""What the tests of the Pi targets share: the devices, and everything that is run on each, once."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pennyweight import open_bundle
from pennyweight.engines import engines_for
from pennyweight_benchmarks.pi import TARGETS, Built, make_environment, run_python

ROOT = Path(__file__).parents[1]
ANSWERS = ROOT / "tests" / "pi" / "answers.py"
# A convolution under emulation takes up to 20 ms an image.
ROWS = {"lab": 2_000, "cnn": 200}
Array = np.ndarray[Any, Any]

# What of tests/runtime isn't run on a target, and why. The rest is.
LEFT_OUT = {
    "test_bench.py": "compares times, which say nothing under emulation, and limits the emulator's own memory",
    "test_latency.py": "compares times, which say nothing under emulation",
    "test_select.py": "chooses by times, which say nothing under emulation",
    "test_endurance.py": "measures the emulator's memory instead of the runtime's",
    "test_statistics.py": "checks against scipy and statsmodels, which no device needs",
    "test_installation.py": "is about renames, locks and users; the emulator hands these to the host's kernel",
    "test_installation_kills.py": "is about the kernel's renames; the emulator hands these to the host's kernel",
    "test_bare.py": "tries damaged files, each in a process of its own: minutes under emulation",
    "test_damage.py": "tries hundreds of damaged files, each in a process of its own: many minutes under emulation",
    "test_signatures.py": "runs the host's ssh-keygen",
    "test_machine.py::test_a_busy_neighbour_is_named": "lists /proc, which is the target's own folder under emulation",
    "test_parity.py::test_ten_thousand_answers_are_compared_without_a_loop_over_them": (
        "compares times, which say nothing under emulation"
    ),
    "test_inputs.py::test_any_array_is_answered_rightly_or_refused": "draws so slowly that hypothesis stops it",
}
# A test that calls one of these starts Python: up to 9 s of the processor's time under emulation. test_devices.py runs
# a device's every command; these tests are run besides by `make test-pi-slow`.
STARTERS = ("command", "run_each", "run_isolated", "subprocess")


class Device(NamedTuple):
    """A target with an environment: which groups of wheels, and whether it sees Debian's packages."""

    name: str
    target: str
    groups: tuple[str, ...]
    system: bool
    suite: bool = True

    @property
    def engines(self) -> tuple[str, ...]:
        return TARGETS[self.target].engines


def _device(target: str) -> Device:
    groups = tuple(TARGETS[target].wheels)
    return Device(target, target, groups, "numpy" not in groups)


DEVICES = (
    *(_device(target) for target in TARGETS),
    Device(
        "arm64-debian12, system's numpy",
        "arm64-debian12",
        tuple(group for group in TARGETS["arm64-debian12"].wheels if group not in ("numpy", "tests")),
        system=True,
        suite=False,
    ),
)
WITH_SUITE = tuple(device for device in DEVICES if device.suite)


class Visit(NamedTuple):
    """What a device gave: each command's outcome by its name, and the answers by bundle, artifact and engine."""

    commands: dict[str, subprocess.CompletedProcess[str]]
    answers: dict[str, dict[tuple[str, str], Array]]
    versions: dict[str, str]

    def json(self, name: str) -> Any:
        done = self.commands[name]
        assert done.stdout, done.stderr
        return json.loads(done.stdout)


def visit(
    built: Built,
    device: Device,
    bundles: Mapping[str, Callable[[], Path]],
    picture: Path,
    wheel: Path,
    place: Path,
) -> Visit:
    """Run the device package's commands, its tests, and every artifact on a device."""
    place.mkdir()
    python = make_environment(place / "environment", built, device.groups, [wheel], device.system)
    lab = bundles["lab"]()
    words: dict[str, list[str | Path]] = {
        "doctor": ["-m", "pennyweight", "doctor", lab, "--json"],
        "verify": ["-m", "pennyweight", "verify", lab, "--json"],
        "parity": ["-m", "pennyweight", "parity", lab, "--json"],
    }
    words.update(
        {
            f"predict {engine}": ["-m", "pennyweight", "predict", lab, picture, "--engine", engine, "--json"]
            for engine in device.engines
        }
    )
    # Engines print on standard output at times; what counts goes to standard output alone.
    commands = {name: run_python(python, what, folder=place) for name, what in words.items()}
    if device.suite:
        left_out = [f"--deselect=tests/runtime/{name}" for name in (*LEFT_OUT, *starting_tests())]
        commands["suite"] = run_suite(python, place, [*left_out, ROOT / "tests" / "runtime"])
    answers, versions = {}, {}
    for name, bundle in bundles.items():
        out = place / f"{name}.npz"
        done = run_python(python, [ANSWERS, bundle(), str(ROWS[name]), out], folder=place)
        assert done.returncode == 0, done.stderr
        answers[name], found = read_answers(out)
        versions.update(found)
    return Visit(commands, answers, versions)


def run_starting_tests(built: Built, device: Device, wheel: Path, place: Path) -> subprocess.CompletedProcess[str]:
    """Run those of the runtime's tests on a device that start a Python of their own."""
    place.mkdir()
    python = make_environment(place / "environment", built, device.groups, [wheel], device.system)
    return run_suite(python, place, [f"tests/runtime/{name}" for name in starting_tests()])


def run_suite(python: Path, place: Path, which: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    """Run tests of the runtime on a device, with what they write in a folder of its own."""
    words = ["-m", "pytest", "-m", "not slow", "-rs", "--timeout", "300", "--tb", "short", *which]
    own = {"TMPDIR": str(place), "PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_STORAGE_DIRECTORY": str(place / "found")}
    return run_python(python, words, folder=ROOT, environment=own, timeout=2400)


def starting_tests() -> list[str]:
    """Give the tests of tests/runtime that start a Python, themselves or through what they call or take."""
    found = []
    for path in sorted((ROOT / "tests" / "runtime").glob("test_*.py")):
        functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
        uses = {one.name: {node.id for node in ast.walk(one) if isinstance(node, ast.Name)} for one in functions}
        for one in functions:
            uses[one.name] |= {argument.arg for argument in one.args.args}
        starters = set(STARTERS)
        while more := {name for name, used in uses.items() if used & starters} - starters:
            starters |= more
        found += [f"{path.name}::{name}" for name in uses if name.startswith("test_") and name in starters]
    return [name for name in found if name not in LEFT_OUT and name.partition("::")[0] not in LEFT_OUT]


def workstation_answers(bundles: dict[str, Path], place: Path) -> dict[str, dict[tuple[str, str], Array]]:
    """Give the answers of this machine's engines."""
    answers = {}
    for name, bundle in bundles.items():
        out = place / f"{name}.npz"
        command = [sys.executable, ANSWERS, bundle, str(ROWS[name]), out]
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
        answers[name], _ = read_answers(out)
    return answers


def read_answers(path: Path) -> tuple[dict[tuple[str, str], Array], dict[str, str]]:
    """Read what answers.py wrote: answers by artifact and engine, and the engines' versions."""
    answers, versions = {}, {}
    with np.load(path) as file:
        for key in file.files:
            artifact, engine, version = key.split()
            answers[artifact, engine] = file[key]
            versions[engine] = version
    return answers, versions


def pairs(device: Device, bundle: Path) -> Iterator[tuple[str, str]]:
    """Give every artifact of a bundle with each engine of a device that reads its format."""
    for spec in open_bundle(bundle).manifest.artifacts:
        yield from ((spec.name, engine) for engine in engines_for(spec.format) if engine in device.engines)


@contextmanager
def stopwatch(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Note a part's time."""
    start = time.monotonic()
    try:
        yield
    finally:
        seconds[name] = time.monotonic() - start


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """Give pytest's closing line."""
    lines = [line for line in done.stdout.splitlines() if re.search(r"\d+ (passed|failed|error)", line)]
    return lines[-1] if lines else f"exit {done.returncode}: {(done.stderr or done.stdout)[-300:]}"


def say(text: str) -> None:
    """Tell the developer what is being done, whatever pytest captures."""
    print(text, file=sys.__stderr__, flush=True)


def is_root() -> bool:
    return os.geteuid() == 0

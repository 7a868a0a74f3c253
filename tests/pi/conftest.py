"""Builds the targets, starts everything that takes long on them, each thing once, and prints what came of it.

Two threads see to it while the tests go through what is there. A target that can't be built fails its tests and says
why; nothing is skipped.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pennyweight import open_bundle
from pennyweight_benchmarks.pi import TARGETS, Built, build_all
from pennyweight_benchmarks.pi.errors import TargetError
from pennyweight_benchmarks.pi.memory import measure_memory
from pi_page import SHELL, make_home, shell
from pi_support import (
    DEVICES,
    ROOT,
    WITH_SUITE,
    Device,
    Visit,
    run_starting_tests,
    say,
    stopwatch,
    visit,
    workstation_answers,
)
from support import command

Jobs = dict[str, Future[Any]]
REPORT = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[REPORT] = []


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if config.stash[REPORT]:
        terminalreporter.section("Pi targets, emulated by QEMU's user mode: answers count, times don't")
        for line in config.stash[REPORT]:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Give the function that adds lines to what is printed at the end."""
    return pytestconfig.stash[REPORT].append


@pytest.fixture(scope="session")
def seconds(report: Callable[[str], None]) -> Iterator[dict[str, float]]:
    """Give the place where parts note their time; it is printed at the end."""
    noted: dict[str, float] = {}
    yield noted
    report("")
    report("seconds by the clock, of parts of which two run at a time:")
    for name, number in noted.items():
        report(f"  {name}: {number:.0f} s")


@pytest.fixture(scope="session")
def targets(seconds: dict[str, float]) -> tuple[dict[str, Built], dict[str, str]]:
    """Give the targets that were built, and why each of the others is left out."""
    with stopwatch(seconds, "build the targets"):
        built, left_out = build_all(progress=say)
    for name, reason in left_out.items():
        say(f"{name}: left out: {reason}")
    return built, left_out


@pytest.fixture(scope="session")
def device_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the device wheel, built."""
    place = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(place)]
    subprocess.run([*command, str(ROOT / "runtime")], check=True)
    return next(place.glob("*.whl"))


@pytest.fixture(scope="session")
def bundles(lab_bundle: Path, jobs: Jobs) -> dict[str, Path]:
    """Give two bundles made on this workstation: dense layers, and convolutions."""
    return {"lab": lab_bundle, "cnn": jobs["bundles"].result()}


@pytest.fixture(scope="session")
def picture(lab_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the first of the bundle's golden digits as a picture file."""
    from PIL import Image

    (images,) = open_bundle(lab_bundle).golden().inputs.values()
    path = tmp_path_factory.mktemp("picture") / "digit.png"
    Image.fromarray(np.asarray(images[0])).save(path)
    return path


@pytest.fixture(scope="session")
def here(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Give this workstation's answers by bundle, artifact and engine."""
    return workstation_answers(bundles, tmp_path_factory.mktemp("here"))


@pytest.fixture(scope="session")
def verdicts(bundles: dict[str, Path]) -> dict[tuple[str, str], str]:
    """Give this workstation's verdict on every artifact and engine."""
    rows = json.loads(command("parity", bundles["lab"], "--json").stdout)["rows"]
    return {(row["artifact"], row["engine"]): row["status"] for row in rows}


@pytest.fixture(scope="session", autouse=True)
def jobs(request: pytest.FixtureRequest) -> Iterator[Jobs]:
    """Start what the chosen tests need of all that takes long, the longest first; give the futures by name.

    A test waits only for its own part. A part's name is that of the fixture that gives it, and of what it is for.
    """
    chosen = [item for item in request.session.items if isinstance(item, pytest.Function)]
    wanted = {name for item in chosen for name in item.fixturenames}
    with ThreadPoolExecutor(2) as pool:
        parts = wanted & {"commanded", "machines", "restarted", "visited"}
        yield dict(_submitted(request, parts, pool)) if parts else {}
        pool.shutdown(cancel_futures=True)


def _submitted(
    request: pytest.FixtureRequest, parts: set[str], pool: ThreadPoolExecutor
) -> Iterator[tuple[str, Future[Any]]]:
    built, left_out = request.getfixturevalue("targets")
    seconds, wheel = request.getfixturevalue("seconds"), request.getfixturevalue("device_wheel")
    place = request.getfixturevalue("tmp_path_factory").mktemp("jobs")

    def submit(what: str, target: str, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        def work() -> Any:
            if target not in built:
                raise TargetError(f"{target} is left out: {left_out[target]}")
            with stopwatch(seconds, what):
                say(what)
                return call(built[target], *arguments)

        return pool.submit(work)

    if "restarted" in parts:
        for number, device in enumerate(WITH_SUITE):
            how = run_starting_tests, device, wheel, place / f"restarted{number}"
            yield f"restarted {device.name}", submit(device.name, device.target, *how)
    if parts == {"restarted"}:
        return
    lab, picture = request.getfixturevalue("lab_bundle"), request.getfixturevalue("picture")
    if "machines" in parts:
        yield "machines", submit("machines of 512 MB", "arm64-debian12", measure_memory, wheel, lab, picture)
    if "visited" in parts:
        cnn = pool.submit(_convolutional_bundle, place / "cnn", seconds)
        yield "bundles", cnn
        for number, device in enumerate(DEVICES):
            arguments = device, {"lab": lambda: lab, "cnn": cnn.result}, picture, wheel, place / str(number)
            yield f"visits {device.name}", submit(device.name, device.target, visit, *arguments)
    if "commanded" in parts:
        for name in TARGETS:
            home = make_home(place / f"home-{name}", wheel, lab)
            yield f"pages {name}", submit(f"the page's commands on {name}", name, shell, SHELL[name], home)


def _convolutional_bundle(place: Path, seconds: dict[str, float]) -> Path:
    from pennyweight_export import export
    from pennyweight_train import train

    with stopwatch(seconds, "train and export the convolutional bundle"):
        # Three epochs: the kernels' rounding is looked at, not the network's accuracy.
        return export(train("cnn", "digits", seed=1234, epochs=3).model, "digits", place).path


@pytest.fixture(params=DEVICES, ids=lambda device: device.name)
def device(request: pytest.FixtureRequest) -> Device:
    found: Device = request.param
    return found


@pytest.fixture
def machines(jobs: Jobs) -> Any:
    """Give what was measured on machines of 512 MB."""
    return _outcome(jobs["machines"])


@pytest.fixture
def visited(device: Device, jobs: Jobs) -> Visit:
    """Give what came of a device; a device that couldn't be visited fails."""
    found: Visit = _outcome(jobs[f"visits {device.name}"])
    return found


@pytest.fixture
def restarted(device: Device, jobs: Jobs) -> subprocess.CompletedProcess[str]:
    """Give what came of a device's tests that start a Python of their own."""
    found: subprocess.CompletedProcess[str] = _outcome(jobs[f"restarted {device.name}"])
    return found


@pytest.fixture
def commanded(target: str, jobs: Jobs) -> subprocess.CompletedProcess[str]:
    """Give what came of the page's commands on a target."""
    found: subprocess.CompletedProcess[str] = _outcome(jobs[f"pages {target}"])
    return found


def _outcome(job: Future[Any]) -> Any:
    try:
        return job.result()
    except (AssertionError, TargetError, subprocess.SubprocessError) as error:
        pytest.fail(str(error))

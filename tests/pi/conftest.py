"""Builds the targets, visits every device once, and prints what came of it.

A target that can't be built fails its tests and says why; nothing is skipped.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pennyweight import open_bundle
from pennyweight_benchmarks.pi import Built, build_all
from pi_support import DEVICES, ROOT, Device, Visit, say, stopwatch, visit, workstation_answers
from support import command

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
    report("seconds by the clock and of the processors:")
    for name in noted:
        if not name.endswith(", processors"):
            report(f"  {name}: {noted[name]:.0f} s, {noted[f'{name}, processors']:.0f} s")


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
def bundles(lab_bundle: Path, seconds: dict[str, float], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Give two bundles made on this workstation: dense layers, and convolutions."""
    from pennyweight_export import export
    from pennyweight_train import train

    with stopwatch(seconds, "train and export the convolutional bundle"):
        # Three epochs: the kernels' rounding is looked at, not the network's accuracy.
        cnn = train("cnn", "digits", seed=1234, epochs=3).model
        return {"lab": lab_bundle, "cnn": export(cnn, "digits", tmp_path_factory.mktemp("cnn") / "cnn").path}


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


@pytest.fixture(scope="session")
def visits(
    targets: tuple[dict[str, Built], dict[str, str]],
    bundles: dict[str, Path],
    picture: Path,
    device_wheel: Path,
    seconds: dict[str, float],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Visit | str]:
    """Give what came of every device, or why it couldn't be visited."""
    place = tmp_path_factory.mktemp("devices")

    def one(number_device: tuple[int, Device]) -> Visit | str:
        number, device = number_device
        if device.target not in targets[0]:
            return f"{device.target} is left out: {targets[1][device.target]}"
        say(f"{device.name}: doctor, verify, parity, predict, every artifact{', the tests' * device.suite}")
        try:
            found = visit(device, targets[0][device.target], bundles, picture, device_wheel, place / str(number))
            say(f"{device.name}: done")
            return found
        except (AssertionError, subprocess.SubprocessError) as error:
            return str(error)

    with stopwatch(seconds, "run everything on the devices"), ThreadPoolExecutor(2) as pool:
        return dict(zip((device.name for device in DEVICES), pool.map(one, enumerate(DEVICES)), strict=True))


@pytest.fixture(params=DEVICES, ids=lambda device: device.name)
def device(request: pytest.FixtureRequest) -> Device:
    found: Device = request.param
    return found


@pytest.fixture
def visited(device: Device, visits: dict[str, Visit | str]) -> Visit:
    """Give what came of a device; a device that couldn't be visited fails."""
    found = visits[device.name]
    if isinstance(found, str):
        pytest.fail(found)
    return found

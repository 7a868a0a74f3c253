"""What `predict` and `parity` take of a machine's 512 MB on each engine, and that a smaller machine is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pennyweight import load
from pennyweight_benchmarks.pi import Built, build
from pennyweight_benchmarks.pi.errors import TargetError
from pennyweight_benchmarks.pi.machine import Measured, Run
from pennyweight_benchmarks.pi.memory import LEFT, SMALL, complaints, measure_memory, memory_table
from support import FIXTURE

ROOT = Path(__file__).parents[2]
TARGET = "arm64-debian12"


@pytest.fixture(scope="module")
def target() -> Built:
    return build(TARGET, print)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("wheel")
    words = ["wheel", "-q", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "-w", str(place)]
    subprocess.run([sys.executable, "-m", "pip", *words, str(ROOT / "runtime")], check=True)
    return next(place.glob("*.whl"))


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "picture.png"
    Image.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20)).save(path)
    return path


@pytest.mark.slow
def test_half_a_gigabyte_is_enough_on_each_engine(target: Built, wheel: Path, picture: Path) -> None:
    measured = measure_memory(target, wheel, FIXTURE, picture, progress=print)
    print(f"\n{memory_table(measured)}")
    assert set(measured) == {"ai-edge-litert", "tflite-runtime", "onnxruntime"}
    assert complaints(measured) == []
    pixels = np.asarray(Image.open(picture))
    with load(FIXTURE) as model:
        label, _ = model.classify(pixels)
    for engine, machine in measured.items():
        assert SMALL * 0.9 < machine.total <= SMALL, "the kernel keeps some of it for itself"
        predict, parity = machine.runs
        answered = json.loads(predict.output)
        assert (answered["engine"], answered["answers"][0]["classes"][0]["label"]) == (engine, label)
        rows = [row for row in json.loads(parity.output)["rows"] if row["status"] != "absent"]
        assert rows
        assert all(row["engine"] == engine and row["figures"]["agreement"] for row in rows)
        for run in machine.runs:
            # numpy alone takes 10 MB: less would mean that something else was measured.
            assert 10 < run.all_processes < machine.total - LEFT
            assert run.available_lowest < run.available_before


@pytest.mark.slow
@pytest.mark.parametrize(("megabytes", "reason"), [(96, "no room beside the kernel"), (300, "memory")])
def test_a_machine_that_is_too_small_is_refused_in_one_line(
    target: Built, wheel: Path, picture: Path, megabytes: int, reason: str
) -> None:
    with pytest.raises(TargetError, match=f"a machine with {megabytes} MB is too small") as caught:
        measure_memory(target, wheel, FIXTURE, picture, megabytes, ["ai-edge-litert"])
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_swap_a_failure_and_too_little_left_are_complained_of() -> None:
    good = Run(0, "", 50.0, 40.0, 300.0, 250.0, 1.0)
    assert complaints({"tflite-runtime": Measured(480.0, 0.0, (good, good._replace(exit=3)))}) == []
    bad = Measured(
        480.0, 100.0, (good._replace(exit=1, output="no\nkilled"), good._replace(available_lowest=LEFT - 1.0))
    )
    swapped, failed, tight = complaints({"tflite-runtime": bad})
    assert "100 MB of swap" in swapped
    assert "predict ended with 1: killed" in failed
    assert "parity left 127 MB" in tight

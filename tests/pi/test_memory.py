"""What `predict` and `parity` take of a machine's 512 MB on each engine, and that a smaller machine is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pennyweight import load
from pennyweight_benchmarks.pi import Built
from pennyweight_benchmarks.pi.errors import TargetError
from pennyweight_benchmarks.pi.machine import Measured, Run
from pennyweight_benchmarks.pi.memory import LEFT, SMALL, complaints, measure_memory, memory_table

# The first test waits for its part, and that for the parts before it.
pytestmark = [pytest.mark.pi, pytest.mark.slow, pytest.mark.timeout(2400)]


@pytest.fixture
def small(targets: tuple[dict[str, Built], dict[str, str]]) -> Built:
    """Give the target that every engine has a wheel for; one that couldn't be built fails."""
    built, left_out = targets
    if "arm64-debian12" not in built:
        pytest.fail(left_out["arm64-debian12"])
    return built["arm64-debian12"]


def test_half_a_gigabyte_is_enough_on_each_engine(
    machines: dict[str, Measured], lab_bundle: Path, picture: Path, report: Callable[[str], None]
) -> None:
    report("")
    report(f"on a whole machine of {SMALL} MB, emulated, with the bundle {lab_bundle.name}:")
    for line in memory_table(machines).splitlines():
        report(f"  {line}")
    assert set(machines) == {"ai-edge-litert", "tflite-runtime", "onnxruntime"}
    assert complaints(machines) == []
    with load(lab_bundle) as model:
        label, _ = model.classify(np.asarray(Image.open(picture)))
    for engine, machine in machines.items():
        assert SMALL * 0.9 < machine.total <= SMALL, "the kernel keeps some of it for itself"
        predict, parity = machine.runs
        answered = json.loads(predict.output)
        assert (answered["engine"], answered["answers"][0]["classes"][0]["label"]) == (engine, label)
        rows = [row for row in json.loads(parity.output)["rows"] if row["status"] != "absent"]
        assert rows
        assert all((row["engine"], row["status"]) == (engine, "pass") for row in rows), rows
        for run in machine.runs:
            # numpy alone takes 10 MB: less would mean that something else was measured.
            assert 10 < run.all_processes < machine.total - LEFT
            assert run.available_lowest < run.available_before


@pytest.mark.parametrize(("megabytes", "reason"), [(96, "no room beside the kernel"), (300, "memory")])
def test_a_machine_that_is_too_small_is_refused_in_one_line(
    small: Built, device_wheel: Path, lab_bundle: Path, picture: Path, megabytes: int, reason: str
) -> None:
    with pytest.raises(TargetError, match=f"a machine with {megabytes} MB is too small") as caught:
        measure_memory(small, device_wheel, lab_bundle, picture, megabytes, ["ai-edge-litert"])
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_swap_a_failure_and_too_little_left_are_complained_of() -> None:
    good = Run(0, "", 50.0, 40.0, 300.0, 250.0, 1.0)
    assert complaints({"tflite-runtime": Measured(480.0, 0.0, (good, good._replace(exit=3)))}) == []
    killed, near = good._replace(exit=1, output="no\nkilled"), good._replace(available_lowest=LEFT - 1.0)
    swapped, failed, tight = complaints({"tflite-runtime": Measured(480.0, 100.0, (killed, near))})
    assert "100 MB of swap" in swapped
    assert "predict ended with 1: killed" in failed
    assert "parity left 127 MB" in tight

"""The device package on every Pi target: its commands, its own tests, and its answers beside the workstation's."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pennyweight import open_bundle
from pennyweight_benchmarks.pi import TARGETS
from pi_support import LEFT_OUT, ROOT, ROWS, WITH_SUITE, Device, Visit, last_line, pairs, starting_tests

# The first test waits for everything that is run on the devices.
pytestmark = [pytest.mark.pi, pytest.mark.timeout(2400)]

# Of 1,000 digits so many labels may differ between two processors on the same engine: those that are all but a tie.
CHANGED = 1


def test_doctor_says_that_the_device_is_ready(device: Device, visited: Visit) -> None:
    done, told = visited.commands["doctor"], visited.json("doctor")
    target = TARGETS[device.target]
    assert done.returncode == 0, done.stderr
    assert told["ready"]
    assert told["remedy"] == []
    assert told["device"]["userland"] == target.architecture
    assert told["device"]["debian"] == {"bookworm": 12, "trixie": 13}[target.suite]
    assert {row["name"] for row in told["engines"] if row["status"] == "works"} == {"numpy", *device.engines}


def test_verify_passes_on_every_engine(device: Device, visited: Visit, bundles: dict[str, Path]) -> None:
    assert visited.commands["verify"].returncode == 0, visited.commands["verify"].stdout
    passed = {(row["artifact"], row["engine"]) for row in visited.json("verify")["rows"] if row["status"] == "pass"}
    assert passed == set(pairs(device, bundles["lab"]))


def test_parity_says_what_it_says_on_the_workstation(
    device: Device, visited: Visit, bundles: dict[str, Path], verdicts: dict[tuple[str, str], str]
) -> None:
    rows = {(row["artifact"], row["engine"]): row for row in visited.json("parity")["rows"] if row["figures"]}
    assert rows.keys() == set(pairs(device, bundles["lab"]))
    assert {pair: row["status"] for pair, row in rows.items()} == {pair: verdicts[pair] for pair in rows}
    assert "pass" in {row["status"] for row in rows.values()}
    assert {row["figures"]["samples"] for row in rows.values()} == {open_bundle(bundles["lab"]).evaluation().rows}


def test_predict_names_the_digit_in_a_picture(device: Device, visited: Visit, bundles: dict[str, Path]) -> None:
    (golden,) = open_bundle(bundles["lab"]).golden().outputs.values()
    for engine in device.engines:
        done = visited.commands[f"predict {engine}"]
        assert done.returncode == 0, done.stderr
        (answer,) = visited.json(f"predict {engine}")["answers"]
        assert answer["classes"][0]["label"] == str(golden[0].argmax())


def test_results_are_marked_as_emulated(device: Device, visited: Visit) -> None:
    core = TARGETS[device.target].core
    for name, done in visited.commands.items():
        if name != "suite":
            assert visited.json(name)["emulated"] == f"QEMU user mode, {core}", name
            assert "emulated" in done.stderr, name


@pytest.mark.parametrize("device", WITH_SUITE, indirect=True, ids=lambda one: one.name)
def test_the_runtimes_own_tests_pass(device: Device, visited: Visit, report: Callable[[str], None]) -> None:
    done = visited.commands["suite"]
    report(f"{device.name}: tests/runtime: {last_line(done)}")
    for line in done.stdout.splitlines():
        if line.startswith("SKIPPED"):
            report(f"  {line}")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("device", WITH_SUITE, indirect=True, ids=lambda one: one.name)
def test_the_runtimes_tests_that_start_a_python_pass(
    device: Device, restarted: subprocess.CompletedProcess[str], report: Callable[[str], None]
) -> None:
    report(f"{device.name}: tests/runtime, those that start a Python: {last_line(restarted)}")
    assert restarted.returncode == 0, restarted.stdout[-6000:] + restarted.stderr[-2000:]


def test_what_is_left_out_exists_and_is_said(report: Callable[[str], None]) -> None:
    for name, reason in LEFT_OUT.items():
        file, _, test = name.partition("::")
        assert f"def {test}" in (ROOT / "tests" / "runtime" / file).read_text()
        report(f"tests/runtime/{name} isn't run on targets: it {reason}")
    starting = starting_tests()
    assert "test_cli.py::test_ctrl_c_is_one_line" in starting
    assert "test_doctor.py::test_without_numpy_and_engines_it_still_runs" in starting
    assert not any("test_flips_are_counted_each_way" in name for name in starting)
    report(f"{len(starting)} tests that start a Python of their own are run on targets by `make test-pi-slow`")


def test_answers_are_the_originals_and_the_workstations(
    device: Device, visited: Visit, bundles: dict[str, Path], here: dict[str, Any], report: Callable[[str], None]
) -> None:
    for name, path in bundles.items():
        bundle = open_bundle(path)
        (original,) = bundle.evaluation().outputs.values()
        original = original[: ROWS[name]]
        assert visited.answers[name].keys() == set(pairs(device, path))
        for pair, answers in visited.answers[name].items():
            what = f"{device.name}: {name}, {pair[0]} on {pair[1]} {visited.versions[pair[1]]}"
            report(agreement_line(what, answers, original, here[name][pair]))
        for pair, answers in visited.answers[name].items():
            assert_agree(bundle.manifest.golden["tolerance"][pair[0]], answers, original, here[name][pair])


def agreement_line(what: str, answers: Any, original: Any, here: Any) -> str:
    """Say how far a device's answers lie from the original's and from those of the workstation's same engine."""
    cells = [f"{what}: {len(answers):,} digits"]
    for whom, theirs in (("the original", original), ("the workstation's", here)):
        largest = abs(answers - theirs).max()
        cells.append(f"from {whom} at most {largest:.2g}, {changed(answers, theirs)} labels changed")
    return "; ".join(cells)


def changed(answers: Any, theirs: Any) -> int:
    return int((answers.argmax(-1) != theirs.argmax(-1)).sum())


def assert_agree(allowed: float, answers: Any, original: Any, here: Any) -> None:
    """Hold a device's answers to the workstation's, and to the original as closely as the workstation's are.

    ``allowed`` is what the bundle itself allows the artifact anywhere: 1e-5 in float32, for sums in another order;
    what its rounding was seen to do when it was exported in the others.
    """
    assert abs(answers - here).max() <= allowed
    assert abs(answers - original).max() <= abs(here - original).max() + allowed
    assert changed(answers, here) <= CHANGED * -(-len(answers) // 1000)


@pytest.mark.parametrize(("allowed", "error"), [(1e-5, 3e-5), (0.064, 0.08), (1e-5, float("nan"))])
def test_a_wrong_answer_is_refused(allowed: float, error: float) -> None:
    original = np.full((1000, 10), 0.1, np.float32)
    wrong = original.copy()
    wrong[17, 3] += error
    assert_agree(allowed, original, original, original)
    with pytest.raises(AssertionError):
        assert_agree(allowed, wrong, original, original)
    swapped = np.eye(10, dtype=np.float32)[np.arange(1000) % 10] * 1e-6 + original
    with pytest.raises(AssertionError):
        assert_agree(allowed, swapped, original, original)

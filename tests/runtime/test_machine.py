"""The machine's facts, read from the kernel's files of a Raspberry Pi, of a PC, and of one that tells nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pennyweight.machine import (
    UNKNOWN,
    Activity,
    activity,
    busy_processes,
    machine_facts,
    machine_state,
    taints,
    temperatures,
)

CALM = Activity(busy=100.0, stolen=1.0, ours=10.0, clock=1000.0)


@pytest.fixture
def pi(tmp_path: Path) -> Path:
    """Give the kernel's files of a Raspberry Pi 4."""
    files = {
        "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd\n\nModel\t: Raspberry Pi 4 Model B Rev 1.4\n",
        "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
        "proc/meminfo": "MemTotal:        3884348 kB\n",
        "proc/1/cgroup": "0::/init.scope\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "600000\n",
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "1800000\n",
        "sys/class/thermal/thermal_zone0/temp": "48312\n",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def test_a_pi_is_read(pi: Path) -> None:
    facts, state = machine_facts(pi), machine_state(pi)
    assert facts["board"] == facts["cpu"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert (facts["governor"], facts["memory_mb"], facts["container"]) == ("ondemand", 3793, "none seen")
    assert (state["frequency_mhz"], state["temperature_c"], state["throttled"]) == (1800, 48.3, 0x50005)


def test_what_cannot_be_read_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    facts, state = machine_facts(tmp_path), machine_state(tmp_path)
    for name in ("board", "cpu", "memory_mb", "governor", "container", "virtual_machine", "emulation"):
        assert facts[name] == UNKNOWN, name
    for name in ("frequency_mhz", "temperature_c", "throttled"):
        assert state[name] == UNKNOWN, name
    assert activity(tmp_path).busy is None


def test_this_machine_is_read_as_json() -> None:
    json.dumps([machine_facts(), machine_state(), temperatures([machine_state()])], allow_nan=False)
    assert machine_facts()["cpus"] == os.cpu_count()


@pytest.mark.parametrize(("answer", "flag"), [("throttled=0x50000", 0x50000), ("VCHI initialization failed", UNKNOWN)])
def test_the_firmwares_command_may_answer_or_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, flag: object
) -> None:
    program = tmp_path / "vcgencmd"
    program.write_text(f"#!/bin/sh\necho '{answer}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert machine_state(tmp_path)["throttled"] == flag


def test_emulation_is_seen_where_another_processor_shines_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(
        "vendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\nflags\t: fpu hypervisor\n"
    )
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    facts = machine_facts(tmp_path)
    assert facts["emulation"] == "aarch64 programs on another processor"
    (taint,) = taints(facts, [machine_state(tmp_path)], [CALM, CALM._replace(clock=1010.0)])
    assert taint["kind"] == "emulated"
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    facts = machine_facts(tmp_path)
    assert (facts["emulation"], facts["virtual_machine"]) == ("none seen", "yes")


def test_emulation_is_seen_where_only_the_kernel_shines_through(pi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (pi / "proc/sys/kernel").mkdir(parents=True)
    for kernel, architecture, emulation in [
        ("x86_64", "aarch64", "aarch64 programs on another processor"),
        ("aarch64", "aarch64", "none seen"),
        ("aarch64", "armv8l", "none seen"),  # a 32-bit system on a 64-bit kernel
    ]:
        (pi / "proc/sys/kernel/arch").write_text(f"{kernel}\n")
        monkeypatch.setattr("platform.machine", lambda: architecture)  # noqa: B023  called in this turn
        assert machine_facts(pi)["emulation"] == emulation
    cpuinfo = pi / "proc/cpuinfo"
    cpuinfo.write_text(f"model name\t: QEMU user mode, cortex-a72\n{cpuinfo.read_text()}")
    assert machine_facts(pi)["emulation"] == "QEMU user mode, cortex-a72"


def kinds(*flags: object, end: Activity = CALM._replace(clock=1010.0)) -> list[str]:  # noqa: B008  an immutable value
    states = [{"throttled": flag} for flag in flags or (0, 0)]
    return [taint["kind"] for taint in taints({"emulation": "none seen"}, states, [CALM, end])]


def test_a_calm_run_is_not_tainted() -> None:
    # Ten seconds in which everything that was busy was ours.
    assert kinds(end=Activity(busy=112.0, stolen=1.0, ours=22.0, clock=1010.0)) == []
    assert kinds(UNKNOWN, UNKNOWN) == []


def test_other_work_taints() -> None:
    assert kinds(end=Activity(busy=115.0, stolen=1.0, ours=10.0, clock=1010.0)) == ["busy"]


def test_stolen_time_taints() -> None:
    stolen = 1.0 + 10 * (os.cpu_count() or 1) * 0.05
    assert kinds(end=Activity(busy=100.0, stolen=stolen, ours=10.0, clock=1010.0)) == ["stolen"]


@pytest.mark.parametrize(
    ("flags", "tainted"),
    [
        ((0, 0), False),
        ((0x50000, 0x50000), False),  # it happened once since the boot, and not now
        ((0, 0x4, 0), True),  # throttled in the middle
        ((0x10000, 0x50000), True),  # newly remembered at the end
    ],
)
def test_throttling_taints_when_it_happened_during_the_run(flags: tuple[int, ...], tainted: bool) -> None:
    assert kinds(*flags) == (["throttled"] if tainted else [])


def test_our_own_work_is_not_held_against_us() -> None:
    start = activity()
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    assert activity().ours - start.ours >= 0.19


def test_a_busy_neighbour_is_named(tmp_path: Path) -> None:
    spinner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        readings = [activity()]
        time.sleep(1.0)
        readings.append(activity())
    finally:
        spinner.kill()
        spinner.wait()
    named = {one["process"]: one["cores"] for one in busy_processes(readings)}
    # Four such spinners share two cores at worst while the tests run beside other work.
    assert any(f"({spinner.pid})" in name and cores > 0.2 for name, cores in named.items()), named
    assert not any(f"({os.getpid()})" in name for name in named)
    (taint,) = taints({"emulation": "none seen"}, [], readings)[:1]
    assert (taint["kind"], f"({spinner.pid})" in taint["cause"]) == ("busy", True)


def test_a_process_that_came_and_one_that_went_are_counted() -> None:
    readings = [
        CALM._replace(processes={"1": ("a", 5.0)}),
        CALM._replace(clock=1005.0, processes={"1": ("a", 8.0), "2": ("b", 1.0)}),
        CALM._replace(clock=1010.0, processes={"2": ("b, renamed", 3.0), "3": ("c", 0.1)}),
    ]
    assert busy_processes(readings) == [
        {"process": "b, renamed (2)", "cores": 0.3},
        {"process": "a (1)", "cores": 0.3},
    ]


def heat(*degrees: object) -> dict[str, object]:
    return temperatures([{"temperature_c": one} for one in degrees])


def test_temperature_at_the_start_at_most_and_settled() -> None:
    assert heat(40.0, 60.0, 71.5, 70.0, 70.5, 71.0) == {"start": 40.0, "peak": 71.5, "settled": 70.8}
    assert heat(40.0, 45.0, 50.0, 55.0, 60.0, 65.0)["settled"] == "still changing"
    assert heat(UNKNOWN, UNKNOWN) == {"start": UNKNOWN, "peak": UNKNOWN, "settled": UNKNOWN}


@pytest.mark.parametrize("mark", [".dockerenv", "run/.containerenv", "run/systemd/container"])
def test_a_container_is_seen(tmp_path: Path, mark: str) -> None:
    (tmp_path / mark).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / mark).write_text("lxc")
    assert machine_facts(tmp_path)["container"] in ("docker", "podman", "lxc")


def test_a_forbidden_firmware_command_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "vcgencmd"
    program.write_text("#!/bin/sh\necho 'Can't open device file: /dev/vcio' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert machine_state(tmp_path)["throttled"] == UNKNOWN

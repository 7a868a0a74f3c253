"""The machine that a measurement was made on: its facts, its state of the moment, and what spoils a measurement.

What can't be read is "unknown", never left out and never "fine".
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from types import MappingProxyType
from typing import Any, NamedTuple

from .emulation import NONE_SEEN, emulation
from .emulation import UNKNOWN as UNKNOWN

JsonObject = dict[str, Any]

# Other processes may use this many cores on average before a run counts as disturbed; an idle desktop stays below.
BUSY_CORES = 0.2
# So much of the processors' time, taken by the hypervisor for other guests, is already felt in a p99.
STOLEN_SHARE = 0.01
# Bits of the Raspberry Pi's firmware flag `throttled`; those 16 higher say that it happened since the boot.
THROTTLED_BITS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
GOVERNOR = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
# A device's temperature has settled when its last third of readings spans no more than this, in °C.
SETTLED_SPAN = 2.0
# Other processes that used less than this share of a core aren't worth naming.
NAMED_CORES = 0.05
REMEDY = {
    "busy": "stop other work and measure again",
    "stolen": "measure on a machine of its own",
    "throttled": "better power supply or cooling, then measure again",
    "emulated": "measure on the device itself; times under emulation say nothing of it",
}


class Activity(NamedTuple):
    """Counters at one moment, in seconds: CPU time of everybody, stolen by the hypervisor, our own; the clock.

    ``processes`` holds every other process's name and CPU time by its number, as far as /proc shows them.
    """

    busy: float | None
    stolen: float | None
    ours: float
    clock: float
    processes: Mapping[str, tuple[str, float]] = MappingProxyType({})


def machine_facts(root: Path = Path("/")) -> JsonObject:
    """Give what doesn't change during a run. ``root`` is where the kernel's files are looked for."""
    cpu = _cpu_fields(root)
    return {
        "board": _text(root / "proc/device-tree/model"),
        "cpu": cpu.get("model name") or cpu.get("Model") or cpu.get("Hardware") or UNKNOWN,
        "cpus": os.cpu_count() or UNKNOWN,
        "cpus_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else UNKNOWN,
        "architecture": platform.machine() or UNKNOWN,
        "memory_mb": _memory_mb(root),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "governor": _text(root / GOVERNOR),
        "container": _container(root),
        "virtual_machine": ("yes" if "hypervisor" in cpu["flags"].split() else "none seen")
        if "flags" in cpu
        else UNKNOWN,
        "emulation": emulation(root, platform.machine()),
    }


def machine_state(root: Path = Path("/")) -> JsonObject:
    """Give what changes: governor, frequency in MHz, temperature in °C, the firmware's throttling flag, the load."""
    return {
        "governor": _text(root / GOVERNOR),
        "frequency_mhz": _frequency_mhz(root),
        "temperature_c": _temperature_c(root),
        "throttled": _throttled(root),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else UNKNOWN,
    }


def activity(root: Path = Path("/")) -> Activity:
    """Read the counters that tell whether others used the processors meanwhile; children count once they have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    ours = sum(usage.ru_utime + usage.ru_stime for usage in used)
    try:
        line = (root / "proc/stat").read_text().split("\n", 1)[0].split()
        user, nice, system, _, _, irq, softirq, steal = (float(field) / os.sysconf("SC_CLK_TCK") for field in line[1:9])
    except (OSError, ValueError):
        return Activity(None, None, ours, monotonic())
    return Activity(user + nice + system + irq + softirq, steal, ours, monotonic(), _processes(root))


def busy_processes(readings: Sequence[Activity], most: int = 5) -> list[JsonObject]:
    """Name the other processes that used most over the readings: "process" and "cores", the average over all the time.

    One that started between two readings counts from nothing; what one used after the last that saw it is missed.
    """
    elapsed = max(readings[-1].clock - readings[0].clock, 1e-9)
    names: dict[str, str] = {}
    used: dict[str, float] = {}
    for start, end in zip(readings, readings[1:]):
        for number, (name, time) in end.processes.items():
            # The kernel renames its workers as they work, so the number is what a process is known by.
            before = start.processes.get(number, (name, 0.0))[1]
            names[number] = name
            used[number] = used.get(number, 0.0) + max(0.0, time - before) / elapsed
    ranked = sorted(((cores, f"{names[number]} ({number})") for number, cores in used.items()), reverse=True)
    return [{"process": name, "cores": round(cores, 2)} for cores, name in ranked[:most] if cores >= NAMED_CORES]


def temperatures(states: list[JsonObject]) -> JsonObject:
    """Give the temperature in °C at the "start", its "peak", and where it "settled" ("still changing" if it hasn't)."""
    known = [state["temperature_c"] for state in states if state["temperature_c"] != UNKNOWN]
    if not known:
        return {"start": UNKNOWN, "peak": UNKNOWN, "settled": UNKNOWN}
    last = known[-max(1, len(known) // 3) :]
    span = max(last) - min(last)
    settled = round(sum(last) / len(last), 1) if span <= SETTLED_SPAN and len(last) > 1 else "still changing"
    return {"start": known[0], "peak": max(known), "settled": settled}


def taints(facts: JsonObject, states: list[JsonObject], readings: Sequence[Activity]) -> list[JsonObject]:
    """Give what spoilt the run between readings, each with its "cause" and "remedy"; empty if nothing was seen."""
    found = []
    start, end = readings[0], readings[-1]
    elapsed = max(end.clock - start.clock, 1e-9)
    if start.busy is not None and end.busy is not None:
        others = (end.busy - start.busy - (end.ours - start.ours)) / elapsed
        if others > BUSY_CORES:
            names = ", ".join(f"{one['process']} {one['cores']:.2f}" for one in busy_processes(readings))
            found.append(("busy", f"other processes used {others:.1f} cores{f' ({names})' if names else ''}"))
    if start.stolen is not None and end.stolen is not None:
        stolen = (end.stolen - start.stolen) / elapsed / (os.cpu_count() or 1)
        if stolen > STOLEN_SHARE:
            found.append(("stolen", f"the hypervisor took {100 * stolen:.1f} % of the processors' time"))
    throttling = _throttling([state["throttled"] for state in states])
    if throttling:
        found.append(("throttled", f"the firmware reports {', '.join(throttling)}"))
    if facts["emulation"] not in (UNKNOWN, NONE_SEEN):
        found.append(("emulated", f"the processor is emulated ({facts['emulation']})"))
    return [{"kind": kind, "cause": cause, "remedy": REMEDY[kind]} for kind, cause in found]


def machine_line(facts: JsonObject, states: list[JsonObject]) -> str:
    """Put the processor, its clock, temperature, throttling and load into one line."""
    state, heat = states[-1], temperatures(states)
    text = f"{facts['cpu']}, {facts['cpus']} CPUs, governor {facts['governor']}, {state['frequency_mhz']} MHz"
    if heat["start"] == UNKNOWN:
        text += ", temperature unknown"
    else:
        text += f", {heat['start']} °C at the start, {heat['peak']} at most, settled: {heat['settled']}"
    return text + f", throttling {state['throttled']}, load {state['load']}"


def _throttling(flags: list[Any]) -> list[str]:
    """Name the bits set at any reading, and the sticky ones that were set between the first and the last."""
    known = [flag for flag in flags if isinstance(flag, int)]
    if not known:
        return []
    during = 0
    for flag in known:
        during |= flag & 0xF
    during |= ((known[-1] & ~known[0]) >> 16) & 0xF
    return [name for bit, name in THROTTLED_BITS.items() if during >> bit & 1]


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip("\0\n ") or UNKNOWN
    except OSError:
        return UNKNOWN


def _cpu_fields(root: Path) -> dict[str, str]:
    """Give /proc/cpuinfo's fields; of a field that stands there per processor, the first."""
    fields: dict[str, str] = {}
    for line in _text(root / "proc/cpuinfo").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    return fields


def _memory_mb(root: Path) -> Any:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) // 1024
    return UNKNOWN


def _processes(root: Path) -> dict[str, tuple[str, float]]:
    """Give name and CPU seconds by process number, for all but our own."""
    times, tick = {}, os.sysconf("SC_CLK_TCK")
    for place in (root / "proc").glob("[0-9]*/stat"):
        number, _, rest = _text(place).partition(" (")
        name, _, fields = rest.rpartition(") ")
        columns = fields.split()
        if len(columns) > 12 and number != str(os.getpid()):
            times[number] = name, (int(columns[11]) + int(columns[12])) / tick
    return times


def _container(root: Path) -> str:
    for name, mark in (("docker", ".dockerenv"), ("podman", "run/.containerenv")):
        if (root / mark).exists():
            return name
    told = _text(root / "run/systemd/container")
    if told != UNKNOWN:
        return told
    return "none seen" if _text(root / "proc/1/cgroup") != UNKNOWN else UNKNOWN


def _frequency_mhz(root: Path) -> Any:
    cpus = root / "sys/devices/system/cpu"
    found = [_text(path) for path in sorted(cpus.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))]
    values = [round(int(text) / 1000) for text in found if text.isdigit()]
    if values:
        return max(values)
    try:
        return round(float(_cpu_fields(root)["cpu MHz"]))
    except (KeyError, ValueError):
        return UNKNOWN


def _temperature_c(root: Path) -> Any:
    zones = [_text(path) for path in (root / "sys/class/thermal").glob("thermal_zone*/temp")]
    values = [int(text) / 1000 for text in zones if text.lstrip("-").isdigit()]
    return round(max(values), 1) if values else UNKNOWN


def _throttled(root: Path) -> Any:
    """Give the firmware's flag as a number, from the kernel's file or vcgencmd, which may be missing or forbidden."""
    text = _text(root / "sys/devices/platform/soc/soc:firmware/get_throttled")
    try:
        if text != UNKNOWN:
            return int(text, 16)
        answer = subprocess.run(["vcgencmd", "get_throttled"], capture_output=True, text=True, timeout=5, check=True)
        return int(answer.stdout.strip().partition("=")[2], 16)
    except (OSError, ValueError, subprocess.SubprocessError):
        return UNKNOWN

"""The first process of the small machine: runs commands one after the other, says what memory each took, switches off.

It runs on the machine itself, with nothing but Python's standard library, and is never imported here.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

MARK = "MEMORY "
GROUPS = Path("/sys/fs/cgroup")
POWER_OFF = 0x4321FEDC  # RB_POWER_OFF of reboot(2)


def main() -> None:
    """Answer every command of /jobs.json with one line on the console."""
    libc = ctypes.CDLL(None, use_errno=True)
    for kind, place in (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("cgroup2", str(GROUPS))):
        Path(place).mkdir(exist_ok=True)
        libc.mount(b"none", place.encode(), kind.encode(), 0, None)
    (GROUPS / "cgroup.subtree_control").write_text("+memory")
    memory = _memory()
    tell({"total": memory["MemTotal"], "swap": memory["SwapTotal"]})
    work = json.loads(Path("/jobs.json").read_text())
    os.environ.update(work["environment"])
    for number, words in enumerate(work["commands"]):
        tell(measured(GROUPS / str(number), words))
    libc.reboot(POWER_OFF)


def measured(group: Path, words: list[str]) -> dict[str, Any]:
    """Run a command in a control group of its own; give its exit code, output and memory in kB."""
    group.mkdir()
    start, before = time.monotonic(), _memory()["MemAvailable"]
    lowest = before
    with open("/output", "wb+") as output:  # noqa: PTH123
        child = subprocess.Popen(
            words,
            stdout=output,
            stderr=output,
            preexec_fn=lambda: (group / "cgroup.procs").write_text(str(os.getpid())),
        )
        while not (ended := os.wait4(child.pid, os.WNOHANG))[0]:
            lowest = min(lowest, _memory()["MemAvailable"])
            time.sleep(0.05)
        output.seek(0)
        said = output.read().decode(errors="replace")
    return {
        "exit": os.waitstatus_to_exitcode(ended[1]),
        "output": said,
        "seconds": round(time.monotonic() - start, 1),
        "memory": {
            "largest_process": ended[2].ru_maxrss,
            "all_processes": int((group / "memory.peak").read_text()) // 1024,
            "available_before": before,
            "available_lowest": lowest,
        },
    }


def tell(what: dict[str, Any]) -> None:
    """Print a line that the other side knows by its mark."""
    print(f"\n{MARK}{json.dumps(what)}", flush=True)


def _memory() -> dict[str, int]:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}


if __name__ == "__main__":
    main()

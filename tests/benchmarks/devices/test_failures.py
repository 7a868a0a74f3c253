"""A device that fails is one row that says how and what to do, and the others finish: one test for each way."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from loopback import Device, Network, free_port, require_namespaces
from support import FIXTURE, one_line

from .conftest import Workstation

# What Python 3.7 does with the line that is given to it.
TOO_OLD = '#!/bin/sh\ntest "$1" = -V && echo Python 3.7.3 && exit 0\nexit 93\n'


def failing(workstation: Workstation, *words: str | Path, outcome: str) -> dict[str, Any]:
    """Run on the device "bad" alone; hold it to its outcome, and give its row."""
    [bad] = workstation.rows(["bad"], *(words or ("verify",)), code=1)
    assert bad["outcome"] == outcome, bad
    assert bad["result"] is None
    assert bad["exit_code"] == 1
    assert bad["reason"]
    assert bad["remedy"]
    print(f"{outcome}: {bad['reason']}; {bad['remedy']}")
    return bad


def test_a_device_that_is_off(workstation: Workstation) -> None:
    workstation.network.name("bad", free_port())
    assert "Connection refused" in failing(workstation, outcome="unreachable")["reason"]


def test_an_unknown_host_key(workstation: Workstation, network: Network) -> None:
    network.device("bad", known=False).start()
    known = network.known_hosts.read_bytes()
    assert "ssh bad" in failing(workstation, outcome="unknown host key")["remedy"]
    assert network.known_hosts.read_bytes() == known


def test_a_changed_host_key(workstation: Workstation, network: Network) -> None:
    bad = network.device("bad", known=False)
    other = network.device("other").key.with_suffix(".pub").read_text().split()[:2]
    with network.known_hosts.open("a") as file:
        file.write(f"[127.0.0.1]:{bad.port} {' '.join(other)}\n")
    bad.start()
    failing(workstation, outcome="changed host key")


def test_a_key_that_is_refused(workstation: Workstation, network: Network, tmp_path: Path) -> None:
    key = tmp_path / "stranger"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    network.device("bad", key=key).start()
    assert "Permission denied" in failing(workstation, outcome="key refused")["reason"]


def test_no_python(workstation: Workstation, network: Network, tmp_path: Path) -> None:
    network.device("bad").start(prelude=f"PATH={tmp_path}")
    assert failing(workstation, outcome="no Python")["reason"] == "none found there"


def test_a_python_that_is_too_old(workstation: Workstation, network: Network, tmp_path: Path) -> None:
    old = sorted(Path.home().glob(".pyenv/versions/3.[678].*/bin/python3"))
    if old:
        prelude = f"PATH={old[-1].parent}"
    else:
        (tmp_path / "python3").write_text(TOO_OLD)
        (tmp_path / "python3").chmod(0o755)
        prelude = f"PATH={tmp_path}"
    network.device("bad").start(prelude=prelude)
    assert "only Python 3." in failing(workstation, outcome="no Python")["reason"]


def test_a_full_disk(workstation: Workstation, network: Network) -> None:
    require_namespaces()
    bad = network.device("bad")
    bad.start(before=f"mount -t tmpfs -o size=1m tmpfs '{bad.home}'", mounts=True)
    reason = failing(workstation, outcome="full")["reason"]
    assert "1 MB are free" in reason or "0 MB are free" in reason


def test_a_disk_without_a_byte(workstation: Workstation, network: Network) -> None:
    require_namespaces()
    bad = network.device("bad")
    fill = f"mount -t tmpfs -o size=64k tmpfs '{bad.home}'; cat /dev/zero 2>/dev/null >'{bad.home}/filler' || true"
    bad.start(before=fill, mounts=True)
    assert "No space left" in failing(workstation, outcome="full")["reason"]


@pytest.mark.slow
def test_a_disk_that_fills_up_meanwhile(workstation: Workstation, network: Network) -> None:
    require_namespaces()
    bad = network.device("bad")
    filler = '(sleep 2; cat /dev/zero >"$HOME/filler" 2>/dev/null) & '
    bad.start(prelude=filler, before=f"mount -t tmpfs -o size=300m tmpfs '{bad.home}'", mounts=True)
    assert "installing" in failing(workstation, outcome="full")["reason"]


# From too little for Python itself to too little for numpy.
@pytest.mark.parametrize(
    "kilobytes", [12_000, *(pytest.param(size, marks=pytest.mark.slow) for size in (20_000, 100_000)), 40_000]
)
def test_too_little_memory(workstation: Workstation, network: Network, prepared: Path, kilobytes: int) -> None:
    network.device("bad", prepared).start(prelude=f"ulimit -v {kilobytes}")
    [bad] = workstation.rows(["bad"], "verify", "--keep", code=1)
    assert bad["outcome"] == "out of memory", bad
    print(bad["reason"])


@pytest.mark.slow
def test_rows_without_memory_keep_the_others(workstation: Workstation, network: Network, prepared: Path) -> None:
    network.device("bad", prepared).start()
    words = ("--memory-limit", "50", "--rounds", "1", "--seconds", "0.05", "--keep")
    [bad] = workstation.rows(["bad"], "bench", *words, code=1)
    assert bad["outcome"] == "out of memory", bad
    assert {row["status"] for row in bad["result"]["rows"]} >= {"failed"}
    assert bad["remedy"]


def test_a_program_that_the_kernel_kills(workstation: Workstation, network: Network, prepared: Path) -> None:
    bad = network.device("bad", prepared).start()
    command = running(workstation, "bad")
    # The verb is the agent's child, and leads a group of its own; the kernel takes the largest.
    programs = [
        number for number in bad.processes() if b"pennyweight.cli" in cmdline(number) and b"bench" in cmdline(number)
    ]
    os.kill(programs[0], signal.SIGKILL)
    [row] = finished(command, 1)
    assert row["outcome"] == "out of memory"
    assert "SIGKILL" in row["reason"]


def test_a_reboot_half_way(workstation: Workstation, network: Network, prepared: Path) -> None:
    bad = network.device("bad", prepared).start()
    command = running(workstation, "bad", "--rounds", "5", "--seconds", "3")
    bad.drop_sessions()
    bad.stop()
    [row] = finished(command, 1)
    assert row["outcome"] == "connection lost"
    assert "running bench" in row["reason"]


def test_a_device_that_takes_too_long_to_answer(workstation: Workstation, network: Network) -> None:
    network.device("bad").start(prelude="sleep 60")
    start = time.monotonic()
    bad = failing(workstation, "verify", "--timeout", "3s", outcome="slow")
    assert "while connecting" in bad["reason"]
    # Nobody waits for the 60.
    assert time.monotonic() - start < 30


@pytest.mark.slow
def test_a_verb_that_takes_too_long(workstation: Workstation, network: Network, prepared: Path) -> None:
    bad = network.device("bad", prepared).start()
    [row] = workstation.rows(["bad"], "bench", "--for", "60s", "--timeout", "6s", "--keep", code=1)
    assert row["outcome"] == "slow"
    assert "running bench" in row["reason"]
    assert not [number for number in bad.processes() if b"pennyweight" in cmdline(number)]


def test_no_wheel_for_its_python(workstation: Workstation, network: Network) -> None:
    found = sorted(Path.home().glob(".pyenv/versions/3.1[23].*/bin/python3"))
    if not found:
        pytest.skip("no Python 3.12 or 3.13 here, for which tflite-runtime has no wheel")
    network.device("bad").start()
    words = ("--device-python", found[-1], "--device-engine", "tflite-runtime")
    [bad] = workstation.rows(["bad"], "verify", *words, code=1)
    assert bad["outcome"] == "no wheel"
    assert "wheels only up to Python 3.11" in bad["reason"]
    assert not (network.devices[0].home / ".cache").exists()


@pytest.mark.slow
def test_an_index_without_the_wheel(workstation: Workstation, network: Network) -> None:
    network.device("bad").start(prelude="export PIP_NO_INDEX=1 PIP_FIND_LINKS=")
    [bad] = workstation.rows(["bad"], "verify", code=1)
    assert bad["outcome"] == "no wheel"
    assert "ai-edge-litert" in bad["reason"]


@pytest.mark.slow
def test_an_index_that_is_out_of_reach(workstation: Workstation, network: Network) -> None:
    prelude = f"export PIP_INDEX_URL=http://127.0.0.1:{free_port()}/simple PIP_RETRIES=1 PIP_CONFIG_FILE=/dev/null"
    network.device("bad").start(prelude=f"{prelude} PIP_FIND_LINKS= PIP_EXTRA_INDEX_URL=")
    [bad] = workstation.rows(["bad"], "verify", code=1)
    assert bad["outcome"] == "no package index"
    assert "--offline" in bad["remedy"]


def test_another_session_there(workstation: Workstation, network: Network, prepared: Path) -> None:
    bad = network.device("bad", prepared).start()
    with (bad.folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        [row] = workstation.rows(["bad"], "verify", "--keep", code=1)
    assert row["outcome"] == "busy"


def test_a_folder_that_cannot_be_written(workstation: Workstation, network: Network) -> None:
    device = network.device("bad")
    (device.home / ".cache").write_text("a file")
    device.start()
    [row] = workstation.rows(["bad"], "verify", code=1)
    assert row["outcome"] == "refused"
    assert ".cache" in row["reason"]


def test_an_account_without_a_shell(workstation: Workstation, network: Network) -> None:
    network.device("bad").start(prelude="echo This account is currently not available.; exit 1")
    [row] = workstation.rows(["bad"], "verify", code=1)
    assert row["outcome"] == "ssh failed"


def test_the_verbs_own_answers_stay_theirs(workstation: Workstation, network: Network, prepared: Path) -> None:
    network.device("bad", prepared).start()
    # 32 samples can't show a loss below half a point: inconclusive, with the result.
    [row] = workstation.rows(["bad"], "parity", "--keep", code=3)
    assert (row["outcome"], row["exit_code"]) == ("inconclusive", 3)
    assert row["result"]["rows"][0]["status"] == "inconclusive"
    [row] = workstation.rows(["bad"], "install", "--to", "/proc/no/such/place", "--keep", code=2)
    assert row["outcome"] == "wrong use"
    assert "/proc/no" in row["reason"]


def test_the_others_finish(workstation: Workstation, network: Network, prepared: Path) -> None:
    network.name("off", free_port())
    network.device("good", prepared).start()
    off, good = workstation.rows(["off", "good"], "verify", "--keep", code=1)
    assert (off["outcome"], good["outcome"]) == ("unreachable", "ok")
    assert [row["status"] for row in good["result"]["rows"]].count("pass") == 2


@pytest.mark.slow
def test_all_of_them_in_one_table(workstation: Workstation, network: Network, prepared: Path, tmp_path: Path) -> None:
    require_namespaces()
    network.device("good", prepared).start()
    network.name("off", free_port())
    network.device("stranger", known=False).start()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    network.device("locked", key=tmp_path / "key").start()
    network.device("bare").start(prelude=f"PATH={tmp_path}")
    full = network.device("full")
    full.start(before=f"mount -t tmpfs -o size=1m tmpfs '{full.home}'", mounts=True)
    network.device("tiny").start(prelude="ulimit -v 20000")
    changed = network.device("changed", known=False)
    with network.known_hosts.open("a") as file:
        file.write(f"[127.0.0.1]:{changed.port} {' '.join(full.key.with_suffix('.pub').read_text().split()[:2])}\n")
    changed.start()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "python3").write_text(TOO_OLD)
    (tmp_path / "old" / "python3").chmod(0o755)
    network.device("old").start(prelude=f"PATH={tmp_path / 'old'}")
    network.device("poor").start(prelude="export PIP_NO_INDEX=1 PIP_FIND_LINKS=")
    network.device("slow").start(prelude="sleep 60")
    network.device("flaky").start(prelude="(sleep 3; kill -9 $PPID) & ")
    wanted = {
        "good": "ok",
        "off": "unreachable",
        "stranger": "unknown host key",
        "locked": "key refused",
        "bare": "no Python",
        "full": "full",
        "tiny": "out of memory",
        "changed": "changed host key",
        "old": "no Python",
        "poor": "no wheel",
        "slow": "slow",
        "flaky": "connection lost",
    }
    done = workstation.on(list(wanted), "verify", "--keep", "--timeout", "40s")
    print(done.stdout)
    assert done.returncode == 1
    for line, (host, outcome) in zip(done.stdout.splitlines()[2:], wanted.items(), strict=False):
        assert line.startswith(host)
        assert f"  {outcome}" in line
    assert "float32.tflite" in done.stdout


def running(workstation: Workstation, host: str, *words: str) -> subprocess.Popen[str]:
    """Start a bench on a host; give the command once it runs there."""
    arguments = [sys.executable, "-m", "pennyweight", "bench", FIXTURE, "--on", host, "--keep", "--json", *words]
    child = subprocess.Popen(
        [*map(str, arguments), "--ssh-config", str(workstation.network.config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    guard = threading.Timer(120, child.kill)
    guard.start()
    assert child.stderr is not None
    said = []
    for line in child.stderr:
        said.append(line)
        if f"{host}: running bench" in line:
            break
    guard.cancel()
    assert "running bench" in said[-1], said
    time.sleep(1.5)
    return child


def finished(command: subprocess.Popen[str], code: int) -> list[dict[str, Any]]:
    """Wait for a command's end; give its rows."""
    output, noise = command.communicate(timeout=120)
    assert command.returncode == code, noise
    rows: list[dict[str, Any]] = json.loads(output)["devices"]
    return rows


def cmdline(number: int) -> bytes:
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes()
    except OSError:
        return b""


def test_ctrl_c_cleans_the_device_up(network: Network) -> None:
    # Nothing was kept there before, so nothing may be left: half-way through making the environment.
    device = network.device("one").start()
    words = ["verify", FIXTURE, "--on", "one", "--ssh-config", network.config]
    child = subprocess.Popen(
        [sys.executable, "-m", "pennyweight", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 60
    while not (device.folder / "environment").exists() and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(0.3)
    child.send_signal(signal.SIGINT)
    output, noise = child.communicate(timeout=60)
    assert child.returncode == 130, noise
    assert "interrupted" in one_line(subprocess.CompletedProcess([], 130, output, noise), 130)
    gone(device)


def test_a_killed_workstation_leaves_nothing_behind(network: Network) -> None:
    device = network.device("one").start()
    words = ["verify", FIXTURE, "--on", "one", "--ssh-config", network.config]
    child = subprocess.Popen(
        [sys.executable, "-m", "pennyweight", *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 60
    while not (device.folder / "environment").exists() and time.monotonic() < end:
        time.sleep(0.02)
    child.kill()
    child.communicate()
    gone(device)


def gone(device: Device) -> None:
    """Hold a device to having nothing of ours, no file and no process, within some seconds."""
    end = time.monotonic() + 30
    while time.monotonic() < end and ((device.home / ".cache").exists() or ours(device)):
        time.sleep(0.05)
    assert not (device.home / ".cache").exists()
    assert not ours(device)


def ours(device: Device) -> list[int]:
    return [number for number in device.processes() if b"python" in cmdline(number)]

"""The demo: the whole way, and nothing half-made when it is stopped."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pennyweight.errors import OutputError
from pennyweight_benchmarks.demo import check_place, next_commands
from support import command, one_line


@pytest.mark.slow
def test_the_whole_way(tmp_path: Path) -> None:
    place = tmp_path / "my digits"
    start = time.monotonic()
    result = command("demo", "-o", place)
    seconds = time.monotonic() - start
    assert result.returncode == 0, result.stderr
    results = json.loads((place / "results.json").read_text())
    assert [row["parity"] for row in results["rows"]].count("original") == 3
    assert {row["parity"] for row in results["rows"]} <= {"original", "pass", "absent"}
    assert (place / "results.md").read_text().count("| ") > 50
    assert len(list((place / "pictures").glob("*.png"))) == 5
    # Nothing in it may name the temporary folder that it was built in.
    for file in place.rglob("*"):
        assert ".part" not in file.name
        assert not file.is_file() or b".part" not in file.read_bytes()
    for line in result.stdout.splitlines()[-3:]:
        tried = subprocess.run(line.strip(), shell=True, capture_output=True, text=True, timeout=300, check=False)
        assert tried.returncode == 0, tried.stderr
    print(f"the demo took {seconds:.0f} s; its budget is 90 s on two cores of its own")
    assert "exists already" in one_line(command("demo", "-o", place), 2)


@pytest.mark.skipif(sys.platform == "win32", reason="signals as here are POSIX's")
def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    place = tmp_path / "digits"
    child = subprocess.Popen(
        [sys.executable, "-m", "pennyweight", "demo", "-o", place],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert child.stderr is not None
    # The first line is printed when the temporary folder stands.
    first = child.stderr.readline()
    assert "train" in first
    assert list(tmp_path.iterdir())
    os.killpg(child.pid, signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_refused(tmp_path: Path) -> None:
    assert "exists already" in one_line(command("demo", "-o", tmp_path), 2)
    (tmp_path / "precious.txt").write_text("mine")
    assert "is no demo's folder" in one_line(command("demo", "-o", tmp_path, "--force"), 2)
    assert (tmp_path / "precious.txt").exists()


def test_a_place_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can't be made"):
        check_place(tmp_path / "file" / "demo", force=False)


def test_an_earlier_demo_may_be_replaced(tmp_path: Path) -> None:
    earlier = tmp_path / "digits"
    (earlier / "bundle").mkdir(parents=True)
    (earlier / "results.json").write_text("{}")
    check_place(earlier, force=True)


def test_the_next_commands_survive_a_shell(tmp_path: Path) -> None:
    place = tmp_path / "it's my folder"
    for line in next_commands(place):
        assert f"{place}/bundle" in shlex.split(line)

"""What a child process does must stay there. The tasks below run in the child; this file is their package."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from pennyweight.errors import EngineError, InputError
from pennyweight.isolation import run_isolated

TASKS = """
import os, signal, sys, time
from pennyweight.errors import InputError

def echo(arguments):
    print("noise on standard output")
    os.write(1, b"more noise")
    return {"got": arguments, "pid": os.getpid()}

def crash(arguments):
    os.kill(os.getpid(), getattr(signal, arguments["signal"]))

def hang(arguments):
    time.sleep(60)

def refuse(arguments):
    raise InputError("a clear reason")

def fault(arguments):
    raise ZeroDivisionError("not one of ours")

def leave(arguments):
    os._exit(3)
"""


@pytest.fixture(autouse=True)
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pennyweight_tasks.py").write_text(TASKS)
    # An empty entry would stand for the working folder.
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


def test_a_task_answers_whatever_else_is_printed() -> None:
    answer = run_isolated("pennyweight_tasks:echo", {"text": "ä", "number": 1.5})
    assert answer["got"] == {"text": "ä", "number": 1.5}
    assert answer["pid"] != os.getpid()


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGKILL", "SIGABRT"])
def test_a_crash_is_an_error_that_names_the_signal(name: str) -> None:
    with pytest.raises(EngineError, match=f"crashed .{name}."):
        run_isolated("pennyweight_tasks:crash", {"signal": name})


def test_a_hang_ends_at_the_time_limit() -> None:
    start = time.monotonic()
    with pytest.raises(EngineError, match="no answer within 1 s"):
        run_isolated("pennyweight_tasks:hang", {}, timeout=1)
    # Far below the task's own minute: the child was stopped, not waited for.
    assert time.monotonic() - start < 30


def test_our_errors_come_back_as_themselves() -> None:
    with pytest.raises(InputError, match="a clear reason"):
        run_isolated("pennyweight_tasks:refuse", {})


@pytest.mark.parametrize("task", ["fault", "leave", "absent"])
def test_any_other_end_is_one_line(task: str) -> None:
    with pytest.raises(EngineError, match="ended without an answer") as caught:
        run_isolated(f"pennyweight_tasks:{task}", {})
    assert "\n" not in str(caught.value)


def test_only_our_own_functions_can_be_called() -> None:
    with pytest.raises(EngineError, match="none of ours"):
        run_isolated("os:getcwd", {})


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_child_is_left_behind() -> None:
    def children() -> set[str]:
        return set(Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split())

    before = children()
    with pytest.raises(EngineError):
        run_isolated("pennyweight_tasks:hang", {}, timeout=0.5)
    assert children() <= before


def test_modules_in_the_working_folder_are_not_taken_for_real_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stray = tmp_path / "stray"
    stray.mkdir()
    for name in ("numpy", "json", "statistics"):
        (stray / f"{name}.py").write_text("raise SystemExit('a stray module was imported')")
    monkeypatch.chdir(stray)
    assert run_isolated("pennyweight_tasks:echo", {"a": 1})["got"] == {"a": 1}

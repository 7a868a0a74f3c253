"""What a child process does must stay there. The tasks below run in the child; this file is their package."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pennyweight.errors import EngineError, InputError, PennyweightError
from pennyweight.isolation import Outcome, run_each, run_isolated

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

def anything(arguments):
    return globals()[arguments["do"]](arguments)

def kill_the_parent(arguments):
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)

def leak(arguments):
    leaked.append(1)
    return {"leaked": len(leaked)}

leaked = []
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


def test_each_call_gets_what_it_would_get_alone() -> None:
    kinds = ["echo", "refuse", "crash", "echo", "fault", "leave", "absent", "hang", "echo"]
    each = [{"do": kind, "signal": "SIGSEGV"} for kind in kinds]
    found = [str(one) if isinstance(one, Exception) else one["got"]["do"] for one in together(each, timeout=5)]
    alone = []
    for arguments in each:
        try:
            alone.append(run_isolated("pennyweight_tasks:anything", arguments, timeout=5)["got"]["do"])
        except PennyweightError as error:
            alone.append(str(error))
    assert found == alone
    assert found[::3] == ["echo", "echo", alone[6]]
    assert "crashed (SIGSEGV)" in found[2]
    assert "no answer within 5 s" in found[7]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks")
def test_calls_share_a_start_and_nothing_else() -> None:
    # 4 calls of one process would leak 4 times.
    answers = together([{"do": "leak"}] * 4)
    assert answers == [{"leaked": 1}] * 4
    echoes = together([{"do": "echo"}] * 3)
    assert len({one["pid"] for one in echoes if isinstance(one, dict)}) == 3


def test_a_call_that_takes_its_parent_along_is_one_error() -> None:
    first, killed, last = together([{"do": "leak"}, {"do": "kill_the_parent"}, {"do": "leak"}])
    assert first == last == {"leaked": 1}
    assert "crashed (SIGKILL" in str(killed)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_whoever_stops_asking_leaves_nothing_behind() -> None:
    before = children()
    calls = run_each("pennyweight_tasks:anything", [{"do": "echo"}, {"do": "hang"}])
    answer = next(calls)
    assert isinstance(answer, dict)
    del calls
    assert children() <= before
    assert not Path(f"/proc/{answer['pid']}").exists()


def test_a_module_that_is_missing_is_the_calls_own_affair() -> None:
    (answer,) = run_each("pennyweight_tasks:leak", [{}], module="pennyweight.engines.none")
    assert answer == {"leaked": 1}
    (refused,) = run_each("os:getcwd", [{}])
    assert isinstance(refused, EngineError)
    assert "none of ours" in str(refused)


def together(each: list[dict[str, str]], timeout: float = 60.0) -> list[Outcome]:
    return list(run_each("pennyweight_tasks:anything", each, timeout))


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split())


def test_a_python_that_cannot_be_run_is_an_error_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert [str(one) for one in run_each("pennyweight_tasks:leak", [{}, {}])] == [
        "/nowhere/python can't be run (No such file or directory)"
    ] * 2


def test_ctrl_c_ends_it_at_once() -> None:
    code = "from pennyweight.isolation import run_each\nprint(1, flush=True)\n"
    words = [sys.executable, "-c", f"{code}list(run_each('pennyweight_tasks:hang', [{{}}]))"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=interruptible) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        # Far below the task's own minute, and the five that a call may take.
        _, said = process.communicate(timeout=30)
    assert b"KeyboardInterrupt" in said


def interruptible() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)

"""Run functions in child processes, so that an engine's crash, hang or memory leak stays there.

The parent sends ``{"task": "module:function", "arguments": {…}}`` on standard input and gets one JSON answer back.
Only functions of packages named ``pennyweight…`` may be called.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable, NamedTuple, Union

from . import errors
from .errors import EngineError, PennyweightError

JsonObject = dict[str, Any]
Outcome = Union[JsonObject, PennyweightError]
# With -c or -m Python looks for modules in the working folder first: a stray numpy.py there must not be ours.
_CHILD = "import sys; sys.path[0] or sys.path.pop(0); from pennyweight.isolation import {0}; sys.exit({0}())"


class _Rights(NamedTuple):
    user: int | None
    group: int | None
    groups: list[int] | None
    environment: dict[str, str]


def run_isolated(
    task: str,
    arguments: JsonObject,
    timeout: float = 300.0,
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
    memory_mb: int | None = None,
) -> JsonObject:
    """Call ``module:function`` with ``arguments`` in a child process and give its JSON object.

    Args:
        task: such as ``pennyweight.parity:parity_task``; the function takes and gives one JSON object.
        arguments: what it is called with.
        timeout: seconds until the child is killed.
        environment: variables to set for the child besides the parent's own.
        user: whose rights and home folder the child gets; only root may give them.
        memory_mb: address space that the child may have, in 2**20 bytes; only Linux can hold it to that.

    Raises:
        EngineError: the child crashed, ran out of memory, gave no answer in time, or can't be started.
        PennyweightError: the same error that the function raised in the child.
    """
    request = json.dumps({"task": task, "arguments": arguments}).encode()
    return run_child([sys.executable, "-c", _CHILD.format("serve")], request, timeout, environment, user, memory_mb)


def run_each(task: str, each: Sequence[JsonObject], timeout: float = 300.0, module: str = "") -> Iterator[Outcome]:
    """Call ``module:function`` with each of ``each``, isolated from one another, and give what came of each in turn.

    On Linux Python, numpy and ``module``, an engine's adapter, start once: each call has a copy of that process. It
    gives what ``run_isolated`` would, in a fraction of the time, and gives errors instead of raising them.

    Args:
        task: as of ``run_isolated``.
        each: what it is called with.
        timeout: seconds for one call until its process is killed.
        module: what is imported ahead of the calls, if it is there.
    """
    if not hasattr(os, "memfd_create"):
        yield from (_caught(lambda: run_isolated(task, arguments, timeout)) for arguments in each)  # noqa: B023
        return
    done = 0
    while done < len(each):
        # One more child wherever the last one crashed, hung or couldn't start.
        for outcome in _forked({"task": task, "each": each[done:], "module": module}, timeout):
            done += 1
            yield outcome


def _forked(request: JsonObject, timeout: float) -> Iterator[Outcome]:
    """Give the outcomes from one child that forks, up to the first call that takes the child itself along."""
    with os.fdopen(os.memfd_create("noise"), "rb") as noise:  # in memory, as a device may have no folder to write in
        try:
            child: subprocess.Popen[bytes] = subprocess.Popen(
                [sys.executable, "-c", _CHILD.format("serve_each")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=noise,
                start_new_session=True,  # a group of its own, so that what it forked is stopped with it
            )
        except OSError as error:
            yield EngineError(f"{sys.executable} can't be run ({error.strerror})")
            return
        assert child.stdin is not None
        assert child.stdout is not None
        stopped = threading.Event()

        def stop() -> None:
            stopped.set()
            _kill_group(child.pid)

        try:
            with contextlib.suppress(BrokenPipeError), child.stdin:
                child.stdin.write(json.dumps(request).encode())
            start = 0
            for _ in request["each"]:
                watch = threading.Timer(timeout, stop)
                watch.start()
                try:
                    line = child.stdout.readline()
                    status = None if line else child.wait()
                finally:
                    watch.cancel()  # after Ctrl-C too, as Python would wait for it
                if stopped.is_set():
                    yield EngineError(f"gave no answer within {timeout:g} s and was stopped")
                    return
                ended: JsonObject = json.loads(line) if line else {"answer": "", "status": status, "said": None}
                end = os.fstat(noise.fileno()).st_size if ended["said"] is None else ended["said"]
                # Not by seek and read: the child writes where this file's one position is.
                said = os.pread(noise.fileno(), end - start, start)
                start = end
                yield _caught(lambda: _answer(ended["answer"].encode(), said, ended["status"]))  # noqa: B023
                if not line:
                    return
        finally:
            _kill_group(child.pid)
            child.wait()
            child.stdout.close()


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _caught(call: Callable[[], JsonObject]) -> Outcome:
    try:
        return call()
    except PennyweightError as error:
        return error


def run_child(
    command: Sequence[str],
    request: bytes,
    timeout: float,
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
    memory_mb: int | None = None,
) -> JsonObject:
    """Run a command that reads ``request`` and prints ``{"result": {…}}``; errors as in ``run_isolated``."""
    rights = _rights(user) if user else _Rights(None, None, None, {})
    try:
        child: subprocess.Popen[bytes] = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **rights.environment, **(environment or {})},
            user=rights.user,
            group=rights.group,
            extra_groups=rights.groups,
        )
    except OSError as error:
        raise EngineError(f"{command[0]} can't be run{f' as {user}' if user else ''} ({error.strerror})") from error
    try:
        if memory_mb is not None:
            _limit_memory(child.pid, memory_mb)
        answer, noise = child.communicate(request, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"gave no answer within {timeout:g} s and was stopped") from error
    finally:
        if child.poll() is None:
            child.kill()
            child.communicate()
    return _answer(answer, noise, child.returncode)


def _limit_memory(process: int, megabytes: int) -> None:
    import resource

    if not hasattr(resource, "prlimit"):
        raise EngineError("a limit of memory can be set on Linux only; leave it out")
    # Set from here, the limit holds before the child has imported anything, whatever command it is.
    resource.prlimit(process, resource.RLIMIT_AS, (megabytes * 2**20, megabytes * 2**20))


def _rights(name: str) -> _Rights:
    import pwd

    try:
        entry = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
    except KeyError as error:
        raise EngineError(f"no user {name!r} on this system") from error
    home = {"HOME": entry.pw_dir, "USER": entry.pw_name, "XDG_CACHE_HOME": f"{entry.pw_dir}/.cache"}
    return _Rights(entry.pw_uid, entry.pw_gid, os.getgrouplist(entry.pw_name, entry.pw_gid), home)


def _answer(answer: bytes, noise: bytes, status: int) -> JsonObject:
    lines = noise.decode(errors="replace").strip().splitlines()
    if status and any("MemoryError" in line or "bad_alloc" in line for line in lines[-3:]):
        raise EngineError(f"ran out of memory ({lines[-1][:200]})")
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        raise EngineError(f"crashed ({name}{', as the kernel does when memory runs out' if name == 'SIGKILL' else ''})")
    try:
        content = json.loads(answer)
    except ValueError as error:
        last = lines[-1:] or [f"exit status {status}"]
        raise EngineError(f"its process ended without an answer ({last[0][:200]})") from error
    if "error" in content:
        kind = getattr(errors, content["error"]["class"], EngineError)
        raise kind(content["error"]["message"])
    result: JsonObject = content["result"]
    return result


def serve() -> int:
    """Be the child: answer one request. What engines print on standard output goes to standard error."""
    reply = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    request = json.load(sys.stdin)
    content = _called(_function(request["task"]), request["arguments"])
    with reply:
        json.dump(content, reply)
    return 0


def serve_each() -> int:
    """Be the child that forks: answer each request from a process of its own, on a line with how that one ended."""
    reply = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    request = json.load(sys.stdin)
    function = _function(request["task"])
    for module in ("pennyweight.loading", request["module"]):
        with contextlib.suppress(ImportError, ValueError):
            importlib.import_module(module)
    for arguments in request["each"]:
        reading, writing = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of threads that don't come along: numpy sees to its own
            process = os.fork()
        if not process:
            os.close(reply.fileno())  # so that the parent sees when the process that answers has ended
            _answer_and_exit(function, arguments, writing)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            answer = pipe.read()
        _, status = os.waitpid(process, 0)
        ended = {"answer": answer, "status": os.waitstatus_to_exitcode(status), "said": os.fstat(2).st_size}
        print(json.dumps(ended), file=reply, flush=True)
    return 0


def _answer_and_exit(function: Callable[[JsonObject], JsonObject], arguments: JsonObject, writing: int) -> None:
    status = 1
    try:
        with os.fdopen(writing, "w") as pipe:
            json.dump(_called(function, arguments), pipe)
        status = 0
    except BaseException:  # noqa: BLE001  nothing may run on in this copy
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(status)  # what the parent of this copy has open isn't to be closed or flushed twice


def _function(task: str) -> Callable[[JsonObject], JsonObject]:
    module, _, name = task.partition(":")
    if module.partition(".")[0].partition("_")[0] != "pennyweight":
        raise SystemExit(f"{module} is none of ours")
    function: Callable[[JsonObject], JsonObject] = getattr(importlib.import_module(module), name)
    return function


def _called(function: Callable[[JsonObject], JsonObject], arguments: JsonObject) -> JsonObject:
    try:
        return {"result": function(arguments)}
    except PennyweightError as error:
        return {"error": {"class": type(error).__name__, "message": str(error)}}

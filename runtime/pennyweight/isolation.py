"""Run one function in a fresh child process, so that an engine's crash, hang or memory leak stays there.

The parent sends ``{"task": "module:function", "arguments": {…}}`` on standard input and gets one JSON answer back.
Only functions of packages named ``pennyweight…`` may be called.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from . import errors
from .errors import EngineError, PennyweightError

JsonObject = dict[str, Any]
# With -c or -m Python looks for modules in the working folder first: a stray numpy.py there must not be ours.
_CHILD = "import sys; sys.path[0] or sys.path.pop(0); from pennyweight.isolation import serve; sys.exit(serve())"


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
    return run_child([sys.executable, "-c", _CHILD], request, timeout, environment, user, memory_mb)


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
    module, _, function = request["task"].partition(":")
    if module.partition(".")[0].partition("_")[0] != "pennyweight":
        raise SystemExit(f"{module} is none of ours")
    try:
        content = {"result": getattr(importlib.import_module(module), function)(request["arguments"])}
    except PennyweightError as error:
        content = {"error": {"class": type(error).__name__, "message": str(error)}}
    with reply:
        json.dump(content, reply)
    return 0

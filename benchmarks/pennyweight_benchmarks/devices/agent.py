"""What runs on a device: one process that does what the workstation asks over SSH, and cleans up after itself.

It is sent as source text and never written to a disk there, so it needs nothing but Python 3.9's standard library. A
request is one line of JSON, followed by as many bytes as its "size" says; each is answered by one line. When the
requests end, for whatever reason, what was started is stopped and the folder is removed unless it is to be kept.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import platform
import select
import shutil
import signal
import subprocess
import sys
import threading
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

HELLO = b"PENNYWEIGHT-AGENT 1\n"
FOLDER = "pennyweight-devices"
LOCK = "lock"
FULL = (errno.ENOSPC, errno.EDQUOT)
BLOCK = 2**20
# Of a program's standard error, what can explain its end.
KEPT_NOISE = 20_000
LIBRARIES = {
    "numpy": "numpy",
    "ai-edge-litert": "ai_edge_litert",
    "tflite-runtime": "tflite_runtime",
    "onnxruntime": "onnxruntime",
}
JsonObject = dict[str, Any]


class RefusedError(Exception):
    """What can't be done here, of a kind that the workstation knows."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Agent:
    """The folder on the device, and the requests on it. Every name in a request is a path inside the folder."""

    def __init__(self, requests: BinaryIO, answers: BinaryIO) -> None:
        self._requests = requests
        self._answers = answers
        self._folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", FOLDER)
        self._made: list[Path] = []
        self._lock: int | None = None
        self._keep = True

    def serve(self) -> None:
        """Answer requests until there are no more."""
        try:
            while line := self._requests.readline():
                request = json.loads(line)
                payload = self._requests.read(request.get("size", 0))
                try:
                    answer = {"ok": getattr(self, "do_" + request["do"])(request, payload)}
                except RefusedError as refusal:
                    answer = {"refused": refusal.kind, "text": str(refusal)}
                except MemoryError:
                    answer = {"refused": "out of memory", "text": "the memory ran out"}
                except OSError as error:
                    kind = {**dict.fromkeys(FULL, "full"), errno.ENOMEM: "out of memory"}.get(
                        error.errno or 0, "refused"
                    )
                    answer = {"refused": kind, "text": f"{error.filename or self._folder}: {error.strerror or error}"}
                self._answers.write(json.dumps(answer).encode() + b"\n")
                self._answers.flush()
        finally:
            self._leave()

    def do_hello(self, request: JsonObject, payload: bytes) -> JsonObject:
        """Say what can be said without writing anything."""
        place = next(one for one in (self._folder, *self._folder.parents) if one.exists())
        return {
            "python": platform.python_version(),
            "executable": sys.executable,
            "home": str(Path.home()),
            "boot_id": _text("/proc/sys/kernel/random/boot_id"),
            "machine_id": _text("/etc/machine-id"),
            "free_mb": shutil.disk_usage(place).free // 2**20,
            "installed": {name: _version(name) for name, library in LIBRARIES.items() if find_spec(library)},
        }

    def do_open(self, request: JsonObject, payload: bytes) -> JsonObject:
        """Make the folder and lock it: two sessions on one device would disturb each other's measurement."""
        for place in reversed((self._folder, *self._folder.parents)):
            if not place.exists():
                place.mkdir(mode=0o700)
                self._made.append(place)
        while True:
            descriptor = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(descriptor)
                raise RefusedError("busy", "another session works in " + str(self._folder)) from error
            # Whoever held it may have removed the folder meanwhile.
            with contextlib.suppress(OSError):
                if os.fstat(descriptor).st_ino == (self._folder / LOCK).stat().st_ino:
                    break
            os.close(descriptor)
            self._folder.mkdir(mode=0o700, exist_ok=True)
        self._lock, self._keep = descriptor, request["keep"]
        # The folders above that an earlier session made, and kept, are ours to remove too.
        self._made = [*map(Path, json.loads(os.read(descriptor, BLOCK) or b"[]")), *self._made]
        os.pwrite(descriptor, json.dumps(list(map(str, self._made))).encode(), 0)
        (self._folder / "tmp").mkdir(exist_ok=True)
        return {"folder": str(self._folder)}

    def do_have(self, request: JsonObject, payload: bytes) -> JsonObject:
        """Say how much of a file is here already: all of it if its hash is right, else what an earlier try left."""
        place = self._folder / request["name"]
        if place.is_file() and _sha256(place) == request["sha256"]:
            return {"bytes": place.stat().st_size, "whole": True}
        part = _part(place)
        return {"bytes": part.stat().st_size if part.is_file() else 0, "whole": False}

    def do_append(self, request: JsonObject, payload: bytes) -> JsonObject:
        """Write a piece of a file after the ``offset`` bytes that are here."""
        part = _part(self._folder / request["name"])
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("r+b" if part.exists() else "wb") as file:
            file.truncate(request["offset"])
            file.seek(request["offset"])
            file.write(payload)
        return {}

    def do_seal(self, request: JsonObject, payload: bytes) -> JsonObject:
        """Give a file its name if its hash is right; remove it otherwise."""
        place = self._folder / request["name"]
        part = _part(place)
        right = _sha256(part) == request["sha256"]
        if right:
            part.replace(place)
        else:
            part.unlink()
        return {"right": right}

    def do_read(self, request: JsonObject, payload: bytes) -> JsonObject:
        """Give a small text file, None where there is none."""
        place = self._folder / request["name"]
        return {"text": place.read_text(encoding="utf-8") if place.is_file() else None}

    def do_remove(self, request: JsonObject, payload: bytes) -> JsonObject:
        """Remove a folder."""
        shutil.rmtree(self._folder / request["name"], ignore_errors=True)
        return {}

    def do_run(self, request: JsonObject, payload: bytes) -> JsonObject:
        """Run a program to its end; give its exit code, negative for a signal, and what it printed."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment.update(request["environment"], TMPDIR=str(self._folder / "tmp"))
        environment.update(PYTHONUTF8="1", XDG_CACHE_HOME=str(self._folder / "cache"))
        child = subprocess.Popen(
            request["words"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=request["cwd"],
            start_new_session=True,
        )
        outputs: list[bytes] = []
        ended, ends = os.pipe()

        def gather() -> None:
            with contextlib.suppress(MemoryError):
                outputs.extend(child.communicate())
            os.close(ends)

        reader = threading.Thread(target=gather, daemon=True)
        try:
            reader.start()
            # The workstation says nothing while it waits: whatever can be read now is the connection's end.
            if 0 in select.select([0, ended], [], [])[0]:
                raise SystemExit
            reader.join()
        finally:
            # Its children too, which may outlive it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            os.close(ended)
        if not outputs:
            raise MemoryError
        answer, noise = (output.decode(errors="replace") for output in outputs)
        return {"code": child.returncode, "output": answer, "noise": noise[-KEPT_NOISE:]}

    def do_finish(self, request: JsonObject, payload: bytes) -> JsonObject:
        """Leave the device as told; give whether the folder is still there."""
        self._leave()
        return {"kept": self._folder.exists()}

    def _leave(self) -> None:
        if self._lock is None:
            return
        if not self._keep:
            shutil.rmtree(self._folder, ignore_errors=True)
            for place in reversed(self._made):
                with contextlib.suppress(OSError):
                    place.rmdir()
        os.close(self._lock)
        self._lock = None


def _part(place: Path) -> Path:
    return place.with_name(place.name + ".part")


def _sha256(place: Path) -> str:
    digest = hashlib.sha256()
    with place.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def main() -> NoReturn:
    """Serve standard input. What is printed by accident must not come between the answers."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(1))
    with contextlib.suppress(BrokenPipeError):
        answers.write(HELLO)
        answers.flush()
        Agent(sys.stdin.buffer, answers).serve()
    # Python's own goodbye would complain about a connection that is gone.
    os._exit(0)


if __name__ == "__main__":
    main()

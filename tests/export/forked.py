"""The real command many times over, in children of a process that has TensorFlow imported already.

Run as a script, this file is that process: it reads one request a line and answers with one line.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


class Forked:
    """Runs ``pennyweight`` in forked children; a context. ``whole`` is what the last run took that wasn't stopped."""

    whole = 0.0

    def __enter__(self) -> Forked:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def run(
        self,
        *arguments: str | Path,
        log: Path,
        after: float | None = None,
        sent: signal.Signals = signal.SIGKILL,
        largest_file: int | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run the command; send it a signal ``after`` so many seconds, or let no file grow beyond ``largest_file``.

        ``log`` is a folder for what it prints, which stays there.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"arguments": [*map(str, arguments)], "log": str(log), "after": after, "sent": int(sent)}
        self._process.stdin.write(json.dumps({**request, "largest_file": largest_file}) + "\n")
        self._process.stdin.flush()
        code, seconds = json.loads(self._process.stdout.readline())
        if not code:
            self.whole = seconds
        said = ((log / name).read_text() for name in ("stdout", "stderr"))
        return subprocess.CompletedProcess([*map(str, arguments)], code, *said)


def child(request: dict[str, Any]) -> int:
    import resource

    from pennyweight.cli import main

    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(Path(request["log"]) / name, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), number)
    if request["largest_file"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["largest_file"], request["largest_file"]))
    code = main(request["arguments"])
    sys.stdout.flush()
    return code


def serve() -> None:
    # Imported, not used: TensorFlow's threads would not live on in a fork.
    import pennyweight_export._tensorflow
    import pennyweight_export.artifacts
    import pennyweight_export.command  # noqa: F401

    for line in sys.stdin:
        request, started = json.loads(line), time.monotonic()
        process = os.fork()
        if process == 0:
            status = 70
            try:
                status = child(request)
            except KeyboardInterrupt:
                # Before the command had begun, which a shell would show as the same code.
                status = 130
            finally:
                os._exit(status)
        # A group of its own, all of which Ctrl-C reaches in a terminal.
        os.setpgid(process, process)
        if request["after"] is not None:
            with contextlib.suppress(ProcessLookupError):
                time.sleep(request["after"])
                stop = os.killpg if request["sent"] == signal.SIGINT else os.kill
                stop(process, request["sent"])
        _, status = os.waitpid(process, 0)
        answer = [os.waitstatus_to_exitcode(status), time.monotonic() - started]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()

"""One device over the user's own OpenSSH: their keys, configuration, jump hosts and known hosts.

Only one fixed line is ever given to a shell there. Everything that a user or a bundle names goes to the agent as JSON.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from pennyweight.errors import UsageError

from .agent import HELLO
from .failures import NO_PYTHON, DeviceError, connection_failure

JsonObject = dict[str, Any]
# Nothing may wait for an answer that nobody gives; the user's forwardings and commands aren't for us.
OPTIONS = (
    "BatchMode=yes",
    "ConnectTimeout=15",
    "ServerAliveInterval=10",
    "ServerAliveCountMax=3",
    "ClearAllForwardings=yes",
    "RemoteCommand=none",
    "PermitLocalCommand=no",
    "LogLevel=INFO",
)
PYTHONS = ("python3", "python3.13", "python3.12", "python3.11", "python3.10", "python3.9")
# No single quotes, backslashes or exclamation marks: it stands in single quotes in whatever login shell there is.
START = (
    'for p in {pythons}; do if command -v "$p" >/dev/null 2>&1; then '
    '"$p" -I -c "import sys; sys.exit({none} * (sys.version_info < (3, 9)))"; r=$?; '
    'if test $r = 0; then exec "$p" -I -c "import sys; exec(sys.stdin.buffer.read({size}))"; fi; '
    'if test $r = {none}; then echo "found $("$p" -V 2>&1)" >&2; fi; fi; done; exit {none}'
)
# A login that greets on standard output may say this much before the agent does.
GREETING_BYTES = 2**20
KEPT_WORDS = 8000
# What a device may need to stop what runs and to remove its folder.
CLEANING_SECONDS = 15.0


def check_host(host: str) -> str:
    """Give a host as ssh takes it, ``[user@]name`` or ``ssh://[user@]name[:port]``; raise UsageError for others.

    The characters that newer versions of ssh refuse are refused whatever the version: a ProxyCommand of the user's
    configuration may pass the name through a shell.
    """
    if not host or host.startswith("-") or "@-" in host or "/-" in host:
        raise UsageError(f"--on {host!r} is no host; give [user@]name, an alias of your SSH configuration or ssh://…")
    found = re.search(r"[\s\x00-\x1f\x7f'`\"$\\;&<>|(){}]", host)
    if found or not host.isprintable():
        raise UsageError(f"--on {host!r} is no host: {found[0] if found else 'a character'!r} can't stand in one")
    return host


def ssh_program() -> str:
    """Give the ssh program; raise UsageError where there is none."""
    program = shutil.which("ssh")
    if program is None:
        raise UsageError("no ssh on this workstation; install OpenSSH's client (`apt install openssh-client`)")
    return program


class Connection:
    """A device that does what it is asked, one request after the other.

    ``step`` is what is being done, in words for messages; ``sent_bytes`` counts what files took. Every method raises
    DeviceError once the device can't.
    """

    def __init__(self, host: str, config: str | None = None, python: str | None = None) -> None:
        self.host = host
        self.step = "connecting"
        self.sent_bytes = 0
        self._started = False
        self._stopped: DeviceError | None = None
        agent = files(__package__).joinpath("agent.py").read_bytes()
        command = start_line(len(agent), python)
        options = [word for option in OPTIONS for word in ("-o", option)]
        words = [ssh_program(), "-T", "-x", *(["-F", config] if config else []), *options, "--", host, command]
        # A session of its own: Ctrl-C is for us, who then let the device clean up.
        self._ssh = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        self._said = ""
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._agent = agent

    def start(self) -> None:
        """Wait until the device's Python answers."""
        assert self._ssh.stdout is not None
        self._send(self._agent)
        greeting = 0
        while True:
            line = self._receive()
            if line.endswith(HELLO):
                break
            greeting += len(line)
            if greeting > GREETING_BYTES:
                raise DeviceError("ssh failed", "it prints without end instead of starting Python")
        self._started = True

    def ask(self, do: str, payload: bytes = b"", **fields: Any) -> JsonObject:
        """Send a request; give the answer."""
        self.sent_bytes += len(payload)
        self._send(json.dumps({"do": do, "size": len(payload), **fields}).encode() + b"\n" + payload)
        try:
            answer: JsonObject = json.loads(self._receive())
        except ValueError as error:
            raise DeviceError("fault", f"while {self.step}: an answer that is no JSON") from error
        if "refused" in answer:
            raise DeviceError(answer["refused"], f"while {self.step}: {answer['text']}")
        result: JsonObject = answer["ok"]
        return result

    def run(self, *words: str, cwd: str, environment: dict[str, str] | None = None) -> tuple[int, str, str]:
        """Run a program there; give its exit code, standard output and the end of its standard error."""
        answer = self.ask("run", words=list(words), cwd=cwd, environment=environment or {})
        return answer["code"], answer["output"], answer["noise"]

    def stop(self, failure: DeviceError) -> None:
        """Break off, from any thread: who waits for the device gets this failure, and the device cleans up."""
        self._stopped = self._stopped or failure
        if not self._started:
            self._ssh.kill()
            return
        with contextlib.suppress(OSError, ValueError):
            assert self._ssh.stdin is not None
            # Not through the buffer, which a writer that waits for the device may hold.
            self._ssh.stdin.raw.close()  # type: ignore[attr-defined]
        killer = threading.Timer(CLEANING_SECONDS, self._ssh.kill)
        killer.daemon = True
        killer.start()

    def close(self) -> None:
        """End the connection and wait for its end."""
        with contextlib.suppress(OSError, ValueError):
            assert self._ssh.stdin is not None
            self._ssh.stdin.close()
        try:
            self._ssh.wait(CLEANING_SECONDS)
        except subprocess.TimeoutExpired:
            self._ssh.kill()
            self._ssh.wait()
        self._listener.join(1)
        assert self._ssh.stdout is not None
        self._ssh.stdout.close()

    def _send(self, content: bytes) -> None:
        assert self._ssh.stdin is not None
        try:
            self._ssh.stdin.write(content)
            self._ssh.stdin.flush()
        except (OSError, ValueError) as error:
            raise self._ended() from error

    def _receive(self) -> bytes:
        assert self._ssh.stdout is not None
        line = self._ssh.stdout.readline()
        if not line.endswith(b"\n"):
            raise self._ended()
        return line

    def _ended(self) -> DeviceError:
        self.close()
        return self._stopped or connection_failure(self._ssh.returncode, self._said, self.step, self._started)

    def _listen(self) -> None:
        assert self._ssh.stderr is not None
        with self._ssh.stderr as said:
            for line in said:
                self._said = (self._said + line.decode(errors="replace"))[-KEPT_WORDS:]


def start_line(size: int, python: str | None = None) -> str:
    """Give the shell line that starts an agent of ``size`` bytes on a Python of the device, or on this one."""
    script = START.format(pythons=shlex.quote(python) if python else " ".join(PYTHONS), size=size, none=NO_PYTHON)
    return f"exec /bin/sh -c {shlex.quote(script)}"


@contextlib.contextmanager
def patience(connection: Connection, seconds: float) -> Iterator[None]:
    """Break a connection off that takes longer than this."""

    def give_up() -> None:
        connection.stop(DeviceError("slow", f"nothing came back in {seconds:g} s while {connection.step}"))

    timer = threading.Timer(seconds, give_up)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()

"""One device's course: look, make the environment, bring the bundle, run the verb, bring the result back, leave."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from pennyweight.doctor import Device
from pennyweight.errors import PennyweightError
from pennyweight.machine import UNKNOWN

from .connection import Connection, patience
from .environment import Environment, engines_wanted
from .failures import MEMORY, REMEDIES, DeviceError, program_failure
from .job import Job
from .transfer import missing_mb, send_bundle, send_bytes
from .wheels import device_wheel

JsonObject = dict[str, Any]
OUTCOMES = {0: "ok", 1: "check failed", 2: "wrong use", 3: "inconclusive"}
NOT_EMULATED = ("none seen", UNKNOWN)
READ_DEVICE = (
    "import json; from pennyweight.doctor import read_device; from pennyweight.machine import machine_facts; "
    "print(json.dumps([read_device()._asdict(), machine_facts()]))"
)


class Settings(NamedTuple):
    """How devices are worked on; ``engines`` is what they get, empty for the doctor's choice, or ``["all"]``."""

    config: str | None
    python: str | None
    engines: list[str]
    offline: bool
    keep: bool
    seconds: float


class DeviceResult(NamedTuple):
    """What became of one device. ``result`` is the verb's own JSON, None where there is none.

    ``outcome`` is "ok", "check failed", "inconclusive", "wrong use" or a kind of failure; ``exit_code`` is the verb's,
    and 1 for a device that gave no result. ``machine`` is as in a bench's JSON and ``device`` as in the doctor's, both
    empty where they couldn't be read; ``there`` are the versions of numpy and engines that its own Python had.
    """

    host: str
    outcome: str
    reason: str
    remedy: str
    exit_code: int
    machine: JsonObject
    device: JsonObject
    there: dict[str, str]
    engines: list[str]
    installed: list[str]
    sent_bytes: int
    result: JsonObject | None

    @property
    def emulation(self) -> str:
        """How the processor is emulated; empty where it isn't or nobody knows."""
        found = str(self.machine.get("emulation", UNKNOWN))
        return "" if found in NOT_EMULATED else found


class Session:
    """A device and the job for it. ``turn`` gives what is held while a machine, known by its identity, is worked on."""

    def __init__(
        self,
        host: str,
        job: Job,
        settings: Settings,
        turn: Callable[[str, str], AbstractContextManager[None]],
        say: Callable[[str], None],
    ) -> None:
        self._host = host
        self._job = job
        self._settings = settings
        self._turn = turn
        self._say = say
        self._connection = Connection(host, settings.config, settings.python)
        self._machine: JsonObject = {}
        self._device: JsonObject = {}
        self._there: dict[str, str] = {}
        self._engines: list[str] = []
        self._installed: list[str] = []

    def work(self) -> DeviceResult:
        """Do it all; a device that fails is a result that says so."""
        connection, seconds = self._connection, self._settings.seconds
        try:
            with patience(connection, seconds):
                connection.start()
                facts = connection.ask("hello")
            identity = facts["boot_id"] or facts["machine_id"] or self._host
            with self._turn(identity, self._host), patience(connection, seconds):
                return self._visit(facts)
        except DeviceError as failure:
            return self._result(failure.kind, failure.reason, failure.remedy(self._host), 1, None)
        except (PennyweightError, OSError, ValueError, KeyError, TypeError) as error:
            # The other devices finish whatever this one does.
            reason = f"while {connection.step}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            return self._result("fault", reason, REMEDIES["fault"], 1, None)
        finally:
            connection.close()

    def stop(self) -> None:
        """Break off, from another thread; the device cleans up."""
        self._connection.stop(DeviceError("interrupted", "interrupted here", "run again"))

    def _visit(self, facts: JsonObject) -> DeviceResult:
        connection, job = self._connection, self._job
        connection.step = "looking at it"
        folder = connection.ask("open", keep=self._settings.keep)["folder"]
        device = self._read_device(facts, folder)
        self._engines = engines_wanted(self._settings.engines, device, facts["installed"])
        bundle_mb = missing_mb(connection, job.bundle, job.with_evaluation) if job.bundle else 0.0
        environment = Environment(connection, folder, facts, device)
        self._say(f"{self._host}: {_describe(self._machine, device)}; preparing {', '.join(self._engines)}")
        self._installed = environment.make(self._engines, self._settings.offline, bundle_mb)
        words = self._words(folder)
        connection.step = f"running {job.verb}"
        self._say(f"{self._host}: running {job.verb}")
        # In the home folder, so that a relative path means what it does for scp.
        code, output, noise = connection.run(*environment.command, *words, cwd=facts["home"])
        result = self._judge(code, output, noise)
        connection.step = "cleaning up"
        connection.ask("finish")
        return result

    def _read_device(self, facts: JsonObject, folder: str) -> Device:
        """Have the device's own Python look at the device, with the runtime's eyes, out of the wheel."""
        wheel = device_wheel()
        name = f"files/{wheel.sha256[:16]}/{wheel.name}"
        send_bytes(self._connection, name, wheel.content)
        code, output, noise = self._connection.run(
            facts["executable"], "-c", READ_DEVICE, cwd=folder, environment={"PYTHONPATH": f"{folder}/{name}"}
        )
        if code:
            raise program_failure(self._connection.step, code, noise)
        self._device, self._machine = json.loads(output)
        self._there = facts["installed"]
        return Device(**{**self._device, "python": tuple(self._device["python"])})

    def _words(self, folder: str) -> list[str]:
        """Bring bundle and files over; give the verb's words there."""
        job, connection = self._job, self._connection
        words = [job.verb]
        for option, path in job.files.items():
            connection.step = f"bringing {path.name} over"
            content = path.read_bytes()
            send_bytes(connection, f"files/{option}", content)
            words.append(f"--{option}={folder}/files/{option}")
        words += [*job.words, "--json"]
        if job.bundle:
            connection.step = "bringing the bundle over"
            words += ["--", f"{folder}/{send_bundle(connection, job.bundle, job.with_evaluation)}"]
        return words

    def _judge(self, code: int, output: str, noise: str) -> DeviceResult:
        said = [line.removeprefix("pennyweight: ") for line in noise.splitlines() if line.startswith("pennyweight: ")]
        try:
            result: JsonObject | None = json.loads(output, parse_constant=_refuse)
        except ValueError:
            result = None
        if result is None and (code not in OUTCOMES or not said):
            raise program_failure(self._connection.step, code, noise)
        if result is not None:
            # Extra fields, by which a file of one device says where it is from; readers of results pass over them.
            result["on"] = {"host": self._host, "machine": self._machine, "device": self._device}
            if self._job.verb == "parity":
                result["environment"] = self._machine
        reason = said[-1] if said else _failed_rows(result)
        if code and MEMORY.search(reason):
            # Rows that had enough memory keep their figures.
            return self._result("out of memory", reason, DeviceError("out of memory", "").remedy(self._host), 1, result)
        return self._result(OUTCOMES.get(code, "fault"), reason, "", code if code in OUTCOMES else 1, result)

    def _result(
        self, outcome: str, reason: str, remedy: str, exit_code: int, result: JsonObject | None
    ) -> DeviceResult:
        about = (self._machine, self._device, self._there, self._engines, self._installed, self._connection.sent_bytes)
        return DeviceResult(self._host, outcome, reason, remedy, exit_code, *about, result)


def _describe(machine: JsonObject, device: Device) -> str:
    board = machine["board"] if machine["board"] != UNKNOWN else machine["cpu"]
    emulated = "" if machine["emulation"] in NOT_EMULATED else ", emulated"
    python = ".".join(map(str, device.python))
    return f"{board}, {device.userland}{emulated}, {device.memory_mb} MB, Python {python}"


def _failed_rows(result: JsonObject | None) -> str:
    """Name the rows of a verb's result that failed, with the first one's reason."""
    rows = (result or {}).get("rows") or (result or {}).get("engines") or []
    bad = [row for row in rows if row.get("status") in ("fail", "failed", "inconclusive", "broken")]
    if not bad:
        return ""
    first = " on ".join(str(bad[0][name]) for name in ("artifact", "engine", "name") if name in bad[0])
    return f"{len(bad)} of {len(rows)} rows: {first}: {bad[0].get('reason', '')}"


def _refuse(text: str) -> float:
    raise ValueError(f"{text} is not JSON")

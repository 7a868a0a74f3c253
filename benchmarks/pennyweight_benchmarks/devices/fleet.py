"""Several devices at the same time, but never two sessions on one machine, by whatever names."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from .job import Job
from .session import DeviceResult, Session, Settings

# Each is an ssh process that mostly waits.
MOST_AT_ONCE = 16


class Turns:
    """Who works on which machine: a second session on one waits for the first one's end."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._first: dict[str, str] = {}

    @contextlib.contextmanager
    def turn(self, identity: str, host: str) -> Iterator[None]:
        """Hold the machine."""
        with self._guard:
            lock = self._locks.setdefault(identity, threading.Lock())
            first = self._first.setdefault(identity, host)
        if first != host:
            self._say(f"{host}: the same machine as {first}; they take turns")
        with lock:
            yield


def work_on(hosts: Sequence[str], job: Job, settings: Settings, say: Callable[[str], None]) -> list[DeviceResult]:
    """Do a job on every host; give one result each, in the hosts' order. When interrupted, the devices clean up."""
    turns = Turns(say)
    sessions: list[Session] = []
    guard = threading.Lock()
    interrupted = threading.Event()

    def work(host: str) -> DeviceResult:
        session = Session(host, job, settings, turns.turn, say)
        with guard:
            sessions.append(session)
            if interrupted.is_set():
                session.stop()
        result = session.work()
        say(f"{host}: {result.outcome}")
        return result

    with ThreadPoolExecutor(min(len(hosts), MOST_AT_ONCE)) as pool:
        futures = [pool.submit(work, host) for host in hosts]
        try:
            return [future.result() for future in futures]
        except KeyboardInterrupt:
            interrupted.set()
            for future in futures:
                future.cancel()
            with guard:
                for session in sessions:
                    session.stop()
            raise

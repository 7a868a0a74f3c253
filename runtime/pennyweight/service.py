"""A systemd service that is restarted after a switch and watched for a while."""

from __future__ import annotations

import subprocess
import time

from .errors import CheckFailedError, UsageError

SETTLE = 5.0
LONGEST_SETTLE = 3600.0
# Longer than systemd itself waits for a start (90 s) and a stop (90 s).
TIMEOUT = 200


class Service:
    """A loaded unit, and ``settle``, the seconds for which it must keep running after a restart.

    ``environment`` is what decides where `load` looks for `select`'s choice. Raises UsageError for an unknown unit,
    and for one without a user of its own before its start.
    """

    def __init__(self, unit: str, settle: float = SETTLE) -> None:
        if not 0 <= settle <= LONGEST_SETTLE:
            raise UsageError(f"--settle {settle:g}: give seconds from 0 to {LONGEST_SETTLE:g}")
        self.unit = unit
        self._settle = settle
        facts = self._show("LoadState", "User", "DynamicUser", "CacheDirectory")
        if facts.get("LoadState") != "loaded":
            raise UsageError(f"--restart {unit}: systemd knows no such unit; `systemctl list-units` names them")
        if facts.get("DynamicUser") == "yes":
            # That user exists only while the service runs, so nobody could test a bundle with its rights beforehand.
            raise UsageError(f"--restart {unit}: it has DynamicUser=; give it User= with a user that stays")
        self.user = facts.get("User") or "root"
        cache = facts.get("CacheDirectory", "").split()
        self.environment = {"CACHE_DIRECTORY": f"/var/cache/{cache[0]}"} if cache else {}

    def restart(self) -> None:
        """Restart it; raise CheckFailedError unless it then runs on in one and the same process."""
        # One that died too often with the bundle before is at its start limit, which this takes back.
        self._systemctl("reset-failed", "--", self.unit)
        done = self._systemctl("restart", "--", self.unit)
        if done.returncode:
            reason = done.stderr.strip().splitlines()[:1] or [f"exit status {done.returncode}"]
            raise CheckFailedError(f"{self.unit} can't be restarted ({reason[0][:150]})")
        first = self._running()
        end = time.monotonic() + self._settle
        while time.monotonic() < end:
            time.sleep(min(0.25, self._settle))
            # A unit that restarts itself is "active" again soon, so its process counts too.
            if self._running() != first:
                raise CheckFailedError(f"{self.unit} died within {self._settle:g} s of its start")

    def _running(self) -> str:
        facts = self._show("ActiveState", "MainPID")
        if facts.get("ActiveState") != "active":
            raise CheckFailedError(f"{self.unit} is {facts.get('ActiveState') or 'in no known state'} after its start")
        return facts.get("MainPID", "")

    def _show(self, *names: str) -> dict[str, str]:
        done = self._systemctl("show", *(f"--property={name}" for name in names), "--", self.unit)
        return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)

    def _systemctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                ["systemctl", *arguments], capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise CheckFailedError(f"systemctl {arguments[0]} {self.unit} took longer than {TIMEOUT} s") from error
        except OSError as error:
            raise UsageError(f"--restart needs systemd's systemctl, which can't be run here ({error})") from error

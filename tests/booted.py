"""A real systemd for tests: PID 1 of namespaces of its own, on this machine's files, with writable copies over some.

It knows only the units that a test gives it. What is written below /etc, /opt, /srv, /run and /var/cache, and every
process, ends with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

SYSTEMD = Path("/lib/systemd/systemd")
STUBS = ("sysinit.target", "basic.target", "shutdown.target", "multi-user.target")
COPIES = ("/etc", "/opt", "/srv", "/var/cache")
BOOT = """
set -eu
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /run/over
for folder in $COPIES; do
    mkdir -p "/run/over$folder/upper" "/run/over$folder/work"
    layers="lowerdir=$folder,upperdir=/run/over$folder/upper,workdir=/run/over$folder/work"
    mount -t overlay overlay -o "$layers" "$folder"
done
# Of each hierarchy of control groups, only what lies below this machine's own group.
grep -E " cgroup2? " /proc/self/mounts > /run/groups
umount -R /sys/fs/cgroup
mount -t tmpfs tmpfs /sys/fs/cgroup
while read -r _ place kind options _; do
    case "$kind $options " in
        "cgroup "*name=systemd*) options=none,name=systemd ;;
        "cgroup "*) options=${place##*/} ;;
    esac
    mkdir -p "$place"
    mount -t "$kind" -o "$options" cgroup "$place"
done < /run/groups
export container=pennyweight SYSTEMD_GENERATOR_PATH=/nowhere
exec /lib/systemd/systemd --unit=multi-user.target --log-target=null --show-status=no
"""


class Booted:
    """A running systemd; ``command`` runs something beside it, with ``environment``.

    Raises RuntimeError where it can't be booted.
    """

    def __init__(self, units: Path) -> None:
        for name in STUBS:
            (units / name).write_text("[Unit]\nDefaultDependencies=no\n")
        self._groups = [group / f"pennyweight-test-{os.getpid()}" for group in _own_groups()]
        self.environment = {**os.environ, "COPIES": " ".join(COPIES), "SYSTEMD_UNIT_PATH": str(units)}
        for group in self._groups:
            group.mkdir()
        self._process = subprocess.Popen(
            ["unshare", *self._namespaces("--fork", "--kill-child", "--mount-proc"), "sh", "-c", BOOT],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=self._join,
        )
        deadline = time.monotonic() + 30
        while self.command("systemctl", "is-active", "multi-user.target").stdout.strip() != "active":
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(self.stop() or "it ended without a word")
            time.sleep(0.1)

    def command(self, *words: str | Path, timeout: float = 100) -> subprocess.CompletedProcess[str]:
        """Run a command in the namespaces."""
        target = ["nsenter", f"--target={self._first()}", *self._namespaces()]
        return subprocess.run(
            [*target, *map(str, words)],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def stop(self) -> str:
        """End it and everything that it started; give what it complained of."""
        self._process.kill()
        said, _ = self._process.communicate()
        for group in self._groups:
            for _ in range(50):
                # The kernel takes a moment to bury them.
                for folder in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
                    _remove(folder)
                if _remove(group):
                    break
                time.sleep(0.1)
        return said.strip()

    def _join(self) -> None:
        for group in self._groups:
            (group / "cgroup.procs").write_text(str(os.getpid()))

    def _first(self) -> str:
        """Give the process id, out here, of what is the first process in there."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return (children.read_text().split() or [str(self._process.pid)])[0] if children.exists() else "0"

    @staticmethod
    def _namespaces(*more: str) -> list[str]:
        return ["--pid", "--mount", "--cgroup", "--ipc", "--uts", "--net", *more]


def why_not() -> str | None:
    """Say why systemd can't be booted here, or None."""
    if os.geteuid() != 0:
        return "only root can boot a systemd of its own"
    missing = [name for name in ("unshare", "nsenter", "systemctl", "systemd-sysusers") if not shutil.which(name)]
    if missing or not SYSTEMD.exists():
        return f"not here: {', '.join(missing) or SYSTEMD} (Debian's packages systemd and util-linux)"
    return None


def _own_groups() -> list[Path]:
    """Give this process's control group in every hierarchy that one can be made below."""
    own = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own[controllers.removeprefix("name=")] = path.lstrip("/")
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        name = "" if kind == "cgroup2" else Path(place).name
        # A new group of cpuset takes nobody before it has processors of its own, and systemd leaves that one alone.
        if kind in ("cgroup", "cgroup2") and name in own and name != "cpuset":
            found.append(Path(place, own[name]))
    return found


def _remove(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True

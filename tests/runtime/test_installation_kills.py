"""Installs killed at random moments and after each of their steps. Run as a script, this file is the killer."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pennyweight import load, open_bundle
from pennyweight.golden import replay_golden
from pennyweight.installation import install
from pennyweight.manifest import dump_manifest

MOMENTS = 300
STEPS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "shutil.rmtree", "fcntl.flock")


def test_killed_at_any_moment_the_old_or_the_new_bundle_answers(bundle: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(bundle, other)
    (other / "manifest.json").write_bytes(dump_manifest(open_bundle(bundle).manifest._replace(name="other")))
    arguments = [sys.executable, __file__, str(tmp_path / "place"), str(bundle), str(other), str(MOMENTS)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    print(counts)
    assert counts["old"] + counts["new"] == counts["killed"] + counts["finished"] == MOMENTS
    # The moments must have hit both sides of the switch, or this tests nothing.
    assert counts["old"] >= MOMENTS // 10
    assert counts["new"] >= MOMENTS // 20
    assert counts["steps"] >= 20
    assert counts["leftovers"] > 0, "no kill left anything to clean up, so cleaning up wasn't tested"
    assert counts["after"] == 3, "the last whole install must have left itself and two to go back to"


class Killer:
    """Starts installs in forked children, which have everything imported, and kills them."""

    def __init__(self, place: Path, bundles: tuple[Path, Path]) -> None:
        self.place = place
        self.bundles = bundles
        self.names = [open_bundle(path).manifest.name for path in bundles]
        self.current = 0
        install(bundles[0], place, self_test=untested)

    def attempt(self, delay: float | None = None, step: int | None = None) -> bool:
        """Install the bundle that isn't current, kill it after ``delay`` or before ``step``; say if it finished."""
        child = os.fork()
        if child == 0:
            if step is not None:
                kill_before(step)
            install(self.bundles[1 - self.current], self.place, self_test=untested)
            os._exit(0)
        if delay is not None:
            time.sleep(delay)
            os.kill(child, signal.SIGKILL)
        return os.waitpid(child, 0)[1] == 0

    def look(self) -> bool:
        """Hold what is installed to being whole and answering; say whether it is the new one."""
        bundle = open_bundle(self.place / "current")
        for release in (self.place / "releases").glob("[0-9]*"):
            assert open_bundle(release).check() == [], "what has a name may be gone back to"
        with load(bundle) as model:
            assert replay_golden(model, bundle.golden()).passed
        found = self.names.index(bundle.manifest.name)
        changed = found != self.current
        self.current = found
        return changed


def untested(*_: object) -> dict[str, Any]:
    return {}


def kill_before(step: int) -> None:
    """Have this process killed before its ``step``-th step that may change a file."""
    left = step

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in STEPS and not (event == "open" and not (isinstance(arguments[2], int) and arguments[2] & 3)):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def leftovers(place: Path) -> int:
    return sum(path.name.startswith(".") for path in (place / "releases").iterdir())


def main(place: Path, bundles: tuple[Path, Path], moments: int) -> dict[str, Any]:
    """Kill at every step once, then at ``moments`` random moments; give the counts."""
    killer = Killer(place, bundles)
    steps = 0
    while not killer.attempt(step=steps):
        killer.look()
        steps += 1
    killer.look()
    durations = []
    for _ in range(7):
        start = time.perf_counter()
        assert killer.attempt()
        durations.append(time.perf_counter() - start)
        assert killer.look(), "an install that isn't killed must switch"
    duration = statistics.median(durations)
    randomly = random.Random(1)
    counts = {"old": 0, "new": 0, "killed": 0, "finished": 0, "leftovers": 0}
    for _ in range(moments):
        counts["finished" if killer.attempt(delay=randomly.uniform(0, 1.1 * duration)) else "killed"] += 1
        counts["leftovers"] += leftovers(place) > 0
        counts["new" if killer.look() else "old"] += 1
    for _ in range(3):
        assert killer.attempt()
        assert killer.look()
    assert leftovers(place) == 0
    after = len(list((place / "releases").iterdir()))
    return {**counts, "steps": steps, "duration_ms": round(1000 * duration, 2), "after": after}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), (Path(sys.argv[2]), Path(sys.argv[3])), int(sys.argv[4]))))

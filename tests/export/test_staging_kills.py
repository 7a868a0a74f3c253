"""Bundles whose writing is killed or interrupted before each of its steps. Run as a script, this file is the killer."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pennyweight.errors import OutputError
from pennyweight_export import staging
from pennyweight_export.staging import staged

STEPS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "ctypes.dlsym", "shutil.rmtree", "fcntl.flock")
NAMES = ("manifest.json", "float32.tflite", "evaluation.npz")
SIGNALS = {"kill": signal.SIGKILL, "interrupt": signal.SIGINT}


@pytest.mark.parametrize("sent", SIGNALS)
@pytest.mark.parametrize("name", ["bundle", "bundle.pennyweight"])
@pytest.mark.parametrize("renames", ["exchange", "two-renames"])
def test_stopped_before_any_step_the_old_or_the_new_bundle_stands(
    tmp_path: Path, name: str, sent: str, renames: str
) -> None:
    arguments = [sys.executable, __file__, str(tmp_path / name), sent, renames]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    print(counts)
    assert counts["stopped"] >= 12
    assert counts["old"] > 0
    assert counts["new"] > 0
    if sent == "kill":
        assert counts["leftovers"] > 0, "no kill left anything to clear, so clearing wasn't tested"
    else:
        assert counts["leftovers"] == 0


def test_a_running_exports_staging_is_left_alone(tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    with staged(output) as slow:
        slow.write(NAMES[0], b"slow")
        code = (
            "from pathlib import Path; from pennyweight_export.staging import staged\n"
            f"with staged(Path({str(output)!r})) as stage: stage.write('manifest.json', b'quick'); stage.commit()"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
        assert (output / NAMES[0]).read_bytes() == b"quick"
        assert slow.folder.is_dir()
        slow.write(NAMES[1], b"slow")
        slow.commit()
    assert (output / NAMES[0]).read_bytes() == b"slow"
    assert list(tmp_path.iterdir()) == [output]


def test_only_leftovers_of_this_bundle_are_cleared(tmp_path: Path) -> None:
    others = [tmp_path / name for name in (".other.1.2.part", ".bundle.part", "bundle.1.2.part", ".bundle.1.x.part")]
    for place in others:
        place.mkdir()
    left = tmp_path / ".bundle.1.2.part"
    left.mkdir()
    (left / "half").write_bytes(b"half")
    (tmp_path / ".bundle.3.4.part.pennyweight").write_bytes(b"half")
    with staged(tmp_path / "bundle") as stage:
        stage.write(NAMES[0], b"new")
        stage.commit()
    assert sorted(tmp_path.iterdir()) == sorted([*others, tmp_path / "bundle"])


def content(place: Path) -> dict[str, bytes] | None:
    """Give what stands under the bundle's name."""
    if place.is_dir():
        return {entry.name: entry.read_bytes() for entry in place.iterdir()}
    if not place.exists():
        return None
    with zipfile.ZipFile(place) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def bundle(text: str) -> dict[str, bytes]:
    return {name: f"{text} {name}".encode() * 1000 for name in NAMES}


def put(place: Path, text: str) -> None:
    with staged(place, force=True) as stage:
        for name, what in bundle(text).items():
            stage.write(name, what)
        stage.commit()


def stop_before(step: int, sent: signal.Signals) -> None:
    """Send this process a signal before its ``step``-th step that may change a file."""
    left = step

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in STEPS and not (event == "open" and not (isinstance(arguments[2], int) and arguments[2] & 3)):
            left -= 1
            if left == -1:
                os.kill(os.getpid(), sent)

    sys.addaudithook(hook)


def attempt(work: Callable[[], None], step: int, sent: signal.Signals) -> bool:
    """Do the work in a forked child that is sent a signal before ``step``; say whether it was done all the same."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        status = 1
        with contextlib.suppress(KeyboardInterrupt):
            stop_before(step, sent)
            work()
            status = 0
        os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def main(place: Path, sent: str, renames: str) -> dict[str, int]:
    if renames == "two-renames":
        staging._exchanged = lambda one, other: False
    counts = {"stopped": 0, "old": 0, "new": 0, "none": 0, "leftovers": 0}
    step, done = 0, False
    while not done:
        put(place, "old")
        assert list(place.parent.iterdir()) == [place], "a whole run must clear what was left"
        done = attempt(lambda: put(place, "new"), step, SIGNALS[sent])
        counts["stopped"] += not done
        found = content(place)
        leftovers = [path.name for path in place.parent.iterdir() if path != place]
        counts["leftovers"] += bool(leftovers)
        if found is None:
            # Between two renames, where the system can't exchange names: the next run puts the old one back.
            assert (sent, renames) == ("kill", "two-renames"), "no bundle stands there"
            counts["none"] += 1
            with contextlib.suppress(OutputError), staged(place):
                pass
            found = content(place)
            assert list(place.parent.iterdir()) == [place]
        assert found in (bundle("old"), bundle("new"))
        counts["old" if found == bundle("old") else "new"] += 1
        step += 1
    return counts


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), *sys.argv[2:])))

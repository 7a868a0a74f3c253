from __future__ import annotations

import json
import os
import pwd
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pennyweight import load, open_bundle
from pennyweight.errors import BundleError, CheckFailedError
from pennyweight.golden import replay_golden
from pennyweight.installation import Installation, install
from pennyweight.isolation import run_child
from pennyweight.service import Service
from support import FIXTURE, broken, command, one_line, renamed


def untested(*_: object) -> dict[str, Any]:
    """Stand for the self-test where a test is about files only; the real one takes a second."""
    return {}


def result(*arguments: str | Path) -> dict[str, Any]:
    done = command(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def answering(place: Path) -> str:
    """Hold what is installed to answering right, and give its name."""
    bundle = open_bundle(place / "current")
    with load(bundle) as model:
        assert replay_golden(model, bundle.golden()).passed
    return bundle.manifest.name


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "place"


def test_install_repeat_install_another_and_go_back(bundle: Path, place: Path) -> None:
    first, second = open_bundle(bundle).manifest.name, renamed(bundle, "second")
    done = result("install", bundle, "--to", place)
    assert (done["changed"], done["before"], done["self_test"]["passed"]) == (True, None, True)
    assert answering(place) == first
    before = state(place)
    again = result("install", bundle, "--to", place)
    assert (again["changed"], again["release"]) == (False, done["release"])
    assert state(place) == before, "a repetition must change nothing"
    assert result("install", second, "--to", place)["before"] == done["release"]
    assert answering(place) == "second"
    told = result("status", place)
    assert (told["name"], told["problem"], [one["name"] for one in told["previous"]]) == ("second", None, [first])
    assert abs(time.mktime(time.strptime(told["since"][:19], "%Y-%m-%dT%H:%M:%S")) - time.time()) < 300
    assert result("rollback", place)["release"] == done["release"]
    assert answering(place) == first
    assert "no earlier release" in one_line(command("rollback", place), 2)
    assert answering(place) == first


def state(folder: Path) -> dict[str, Any]:
    """Give everything about a folder's contents that a change would change."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_ino, path.lstat().st_mtime_ns)
        for path in [folder, *folder.rglob("*")]
        if path.name != ".lock"
    }


def test_a_dry_run_says_what_would_happen_and_writes_nothing(bundle: Path, place: Path) -> None:
    assert result("install", bundle, "--to", place, "--dry-run")["changed"] is True
    assert not place.exists()
    install(bundle, place, self_test=untested)
    before = state(place)
    assert result("install", bundle, "--to", place, "--dry-run")["changed"] is False
    assert result("install", renamed(bundle, "second"), "--to", place, "--dry-run")["changed"] is True
    one_line(command("install", broken(bundle), "--to", place, "--dry-run"), 1)
    assert state(place) == before


def test_the_evaluation_set_stays_behind_unless_asked_for(bundle: Path, archive: Path, place: Path) -> None:
    install(archive, place, self_test=untested)
    current = open_bundle(place / "current")
    assert current.evaluation_left_behind
    assert current.check() == []
    assert not open_bundle(bundle).evaluation_left_behind
    with pytest.raises(BundleError, match="--with-evaluation"):
        current.evaluation()
    verified = command("verify", place / "current")
    assert verified.returncode == 0
    assert "stayed behind" in verified.stderr
    assert install(archive, place, with_evaluation=True, self_test=untested)["changed"] is True
    assert open_bundle(place / "current").evaluation().rows > 0
    assert install(archive, place, with_evaluation=True, self_test=untested)["changed"] is False
    assert install(archive, place, self_test=untested)["changed"] is True, "it must leave again"
    assert open_bundle(place / "current").evaluation_left_behind


@pytest.mark.parametrize("name", ["golden.npz", "float32.tflite", "manifest.json"])
def test_only_the_evaluation_set_may_be_absent(bundle: Path, place: Path, name: str) -> None:
    install(bundle, place, self_test=untested)
    (place / "current" / name).unlink()
    assert command("verify", place / "current").returncode == 2
    assert command("status", place).returncode == 1
    assert install(bundle, place, self_test=untested)["changed"] is True, "installing it again mends it"
    assert answering(place) == open_bundle(bundle).manifest.name


def test_a_bundle_that_fails_its_self_test_is_refused(bundle: Path, place: Path) -> None:
    bad = broken(bundle)
    assert open_bundle(bad).check() == [], "its hashes must be right, or this tests nothing"
    assert "self-test failed" in one_line(command("install", bad, "--to", place), 1)
    assert "nothing is installed" in one_line(command("status", place), 2)
    install(bundle, place, self_test=untested)
    before = state(place / "current")
    assert "self-test failed" in one_line(command("install", bad, "--to", place), 1)
    assert state(place / "current") == before
    assert len(list((place / "releases").iterdir())) == 1


def test_a_damaged_bundle_is_refused(bundle: Path, place: Path) -> None:
    second = renamed(bundle, "second")
    install(bundle, place, self_test=untested)
    content = bytearray((second / "float32.onnx").read_bytes())
    content[1000] ^= 1
    (second / "float32.onnx").write_bytes(content)
    assert "isn't what was exported" in one_line(command("install", second, "--to", place), 2)
    assert answering(place) == open_bundle(bundle).manifest.name
    assert len(list((place / "releases").iterdir())) == 1


def test_rollback_passes_over_a_release_that_cannot_run(bundle: Path, place: Path) -> None:
    for source in (bundle, renamed(bundle, "second"), renamed(bundle, "third")):
        install(source, place, self_test=untested)
    damaged = Installation(place).release(Installation(place).previous()[0]) / "golden.npz"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert result("rollback", place)["name"] == open_bundle(bundle).manifest.name
    install(broken(bundle), place, self_test=untested)
    install(renamed(bundle, "fifth"), place, self_test=untested)
    shutil.rmtree(Installation(place).release(Installation(place).previous()[1]))
    assert "no earlier release can run" in one_line(command("rollback", place), 1)
    assert answering(place) == "fifth"


def test_two_previous_bundles_are_kept_and_one_rolled_back_from_is_not(bundle: Path, place: Path) -> None:
    for name in ("a", "b", "c", "d"):
        install(renamed(bundle, name), place, self_test=untested)
    assert [one["name"] for one in result("status", place)["previous"]] == ["c", "b"]
    assert len(list((place / "releases").iterdir())) == 3
    result("rollback", place)
    install(renamed(bundle, "e"), place, self_test=untested)
    told = result("status", place)
    assert [told["name"], *(one["name"] for one in told["previous"])] == ["e", "c", "b"], "d was left for a reason"


def test_a_bundle_may_be_installed_from_where_it_was_rolled_back_from(bundle: Path, place: Path) -> None:
    install(bundle, place, self_test=untested)
    release = install(renamed(bundle, "second"), place, self_test=untested)["release"]
    result("rollback", place)
    install(place / "releases" / release, place, self_test=untested)
    assert answering(place) == "second"


def test_a_model_that_was_loaded_before_keeps_answering(bundle: Path, place: Path) -> None:
    install(bundle, place, self_test=untested)
    golden = open_bundle(bundle).golden()
    with load(place / "current") as model:
        for name in ("a", "b", "c", "d"):
            install(renamed(bundle, name), place, self_test=untested)
        assert len(Installation(place).previous()) == 2, "the release it came from must be gone"
        assert replay_golden(model, golden).passed


def test_a_bundle_that_was_opened_before_a_switch_stays_the_same(bundle: Path, place: Path) -> None:
    install(bundle, place, self_test=untested)
    opened = open_bundle(place / "current")
    install(broken(bundle), place, self_test=untested)
    assert opened.check() == []
    with pytest.raises(AssertionError):
        answering(place)


def test_every_load_during_switches_is_whole(bundle: Path, place: Path) -> None:
    bundles = [bundle, renamed(bundle, "second")]
    install(bundle, place, self_test=untested)
    stop = threading.Event()

    def switch() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            install(bundles[number % 2], place, self_test=untested)
            # A load may take as long as two switches, after which its release is removed.
            time.sleep(0.05)

    switching = threading.Thread(target=switch)
    switching.start()
    try:
        names = {answering(place) for _ in range(100)}
    finally:
        stop.set()
        switching.join()
    assert names == {open_bundle(bundle).manifest.name, "second"}


def test_installs_at_the_same_time_wait_for_each_other(bundle: Path, place: Path) -> None:
    bundles = [renamed(bundle, name) for name in ("a", "b", "c", "d")]
    code = (
        "import sys; from pennyweight.installation import install;"
        "print(install(sys.argv[1], sys.argv[2], self_test=lambda *_: {})['changed'])"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, source, place], stdout=subprocess.PIPE, text=True)
        for source in bundles
    ]
    assert [child.communicate()[0].strip() for child in running] == ["True"] * 4
    assert answering(place) in ("a", "b", "c", "d")
    assert len(Installation(place).previous()) == 2


def test_what_stands_in_the_way_is_refused_and_kept(bundle: Path, place: Path) -> None:
    place.write_text("mine")
    one_line(command("install", bundle, "--to", place), 2)
    one_line(command("status", place), 2)
    assert place.read_text() == "mine"
    place.unlink()
    (place / "current").mkdir(parents=True)
    assert "stands in the way" in one_line(command("install", bundle, "--to", place), 2)
    (place / "current").rmdir()
    for target in ("/etc", "releases/../../elsewhere", "releases/mine"):
        (place / "current").symlink_to(target)
        assert "isn't ours" in one_line(command("install", bundle, "--to", place), 2)
        assert str((place / "current").readlink()) == target
        (place / "current").unlink()
    assert list(place.iterdir()) == []
    for verb in ("status", "rollback"):
        assert one_line(command(verb, place / "absent"), 2)
        assert not (place / "absent").exists()


def test_files_of_others_in_the_folder_are_left_alone(bundle: Path, place: Path) -> None:
    (place / "releases").mkdir(parents=True)
    (place / "releases" / ".mine").write_text("mine")
    (place / "releases" / "notes").write_text("mine")
    for source in (bundle, renamed(bundle, "second")):
        install(source, place, self_test=untested)
    assert (place / "releases" / ".mine").exists()
    assert (place / "releases" / "notes").exists()


def test_a_file_size_limit_is_one_line(bundle: Path, place: Path) -> None:
    install(bundle, place, self_test=untested)
    second = renamed(bundle, "second")
    done = subprocess.run(
        [sys.executable, "-m", "pennyweight", "install", second, "--to", place],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),  # below the largest file
        check=False,
    )
    assert "can't be written (File too large)" in one_line(done, 2)
    assert answering(place) == open_bundle(bundle).manifest.name
    assert len(list((place / "releases").iterdir())) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    # Room for one bundle, not for two.
    size = sum(file.stat().st_size for file in FIXTURE.iterdir()) * 3 // 2
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk can be mounted by root only, and not in every container")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_the_old_bundle(bundle: Path, small_disk: Path) -> None:
    place = small_disk / "place"
    install(bundle, place, self_test=untested)
    second = renamed(bundle, "second")
    assert "No space left" in one_line(command("install", second, "--to", place), 2)
    assert answering(place) == open_bundle(bundle).manifest.name
    assert len(list((place / "releases").iterdir())) == 1


def test_a_folder_that_may_not_be_written_is_one_line(bundle: Path, tmp_path: Path) -> None:
    place = tmp_path / "locked" / "place"
    if os.geteuid() == 0:
        # Root may write everywhere but in the kernel's own files.
        place = Path("/sys/kernel/pennyweight")
    else:
        (tmp_path / "locked").mkdir(mode=0o555)
    if not place.parent.exists():
        pytest.skip("no folder here that root may not write")
    assert "can't be written" in one_line(command("install", bundle, "--to", place), 2)


SYSTEMCTL = """#!/bin/sh
# systemd as far as `install --restart` knows it. The service fails with the bundle that FAKE/bad names.
echo "$1" >> "$FAKE/calls"
case "$1 $*" in
  "show "*LoadState*) cat "$FAKE/unit" ;;
  "show "*)
    if [ -e "$FAKE/bad" ] && grep -qs "$(cat "$FAKE/bad")" "$FAKE/place/current/manifest.json"
    then echo ActiveState=failed; else echo ActiveState=active; fi
    if [ -e "$FAKE/restarts" ]; then echo MainPID=$$; else echo MainPID=1; fi ;;
  "restart "*)
    [ -e "$FAKE/slow" ] && sleep 30
    if [ -e "$FAKE/refuse" ]; then echo "Access denied" >&2; exit 4; fi ;;
esac
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a `systemctl` that only notes what it is asked first on PATH: systemd doesn't run where tests do."""
    folder = tmp_path / "fake"
    folder.mkdir()
    (folder / "systemctl").write_text(SYSTEMCTL)
    (folder / "systemctl").chmod(0o755)
    (folder / "unit").write_text("LoadState=loaded\nUser=\n")
    (folder / "place").symlink_to(tmp_path / "place")
    monkeypatch.setenv("FAKE", str(folder))
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


RESTART = ("--restart", "camera.service", "--settle", "0.3")


def test_a_service_is_restarted_after_a_switch_and_only_then(bundle: Path, place: Path, fake: Path) -> None:
    assert result("install", bundle, "--to", place, *RESTART)["self_test"]["passed"]
    assert (fake / "calls").read_text().split().count("restart") == 1
    assert result("status", place)["confirmed"] is True
    assert result("install", bundle, "--to", place, *RESTART)["changed"] is False
    assert result("install", renamed(bundle, "second"), "--to", place, *RESTART, "--dry-run")["changed"] is True
    assert (fake / "calls").read_text().split().count("restart") == 1
    install(renamed(bundle, "third"), place, self_test=untested)
    assert result("rollback", place, *RESTART)["changed"] is True
    assert (fake / "calls").read_text().split().count("restart") == 2


def test_a_service_that_fails_with_the_new_bundle_gets_the_old_one_back(bundle: Path, place: Path, fake: Path) -> None:
    install(bundle, place, self_test=untested)
    old = (place / "current").readlink()
    (fake / "bad").write_text('"second"')
    error = one_line(command("install", renamed(bundle, "second"), "--to", place, *RESTART), 1)
    assert "camera.service is failed" in error
    assert "rolled back to" in error
    assert (place / "current").readlink() == old
    assert (fake / "calls").read_text().split().count("restart") == 2
    assert result("status", place)["confirmed"] is True
    assert len(list((place / "releases").iterdir())) == 1
    (fake / "bad").unlink()
    assert result("install", bundle.with_name("second"), "--to", place, *RESTART)["changed"] is True


def test_a_service_that_keeps_dying_is_noticed(bundle: Path, place: Path, fake: Path) -> None:
    (fake / "restarts").touch()
    error = one_line(command("install", bundle, "--to", place, *RESTART), 1)
    assert "died within" in error
    assert "nothing is installed now" in error
    assert not (place / "current").is_symlink()


def test_a_restart_that_is_refused_is_rolled_back(bundle: Path, place: Path, fake: Path) -> None:
    install(bundle, place, self_test=untested)
    (fake / "refuse").touch()
    error = one_line(command("install", renamed(bundle, "second"), "--to", place, *RESTART), 1)
    assert "Access denied" in error
    assert "and yet" in error, "the old bundle's restart was refused as well, and that must be said"
    assert answering(place) == open_bundle(bundle).manifest.name


def test_a_self_test_that_fails_after_the_switch_is_rolled_back(bundle: Path, place: Path, fake: Path) -> None:
    install(bundle, place, self_test=untested)

    def fails_when_current(folder: Path, _: Service | None) -> dict[str, Any]:
        if folder.name == "current":
            raise CheckFailedError("no")
        return {}

    with pytest.raises(CheckFailedError, match="rolled back"):
        install(renamed(bundle, "second"), place, service=Service("camera", 0.0), self_test=fails_when_current)
    assert answering(place) == open_bundle(bundle).manifest.name


def test_a_unit_that_systemd_does_not_know_changes_nothing(bundle: Path, place: Path, fake: Path) -> None:
    (fake / "unit").write_text("LoadState=not-found\n")
    assert "no such unit" in one_line(command("install", bundle, "--to", place, *RESTART), 2)
    assert not place.exists()


def test_without_systemctl_restart_is_refused(
    bundle: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "systemctl" in one_line(command("install", bundle, "--to", place, *RESTART), 2)
    assert not place.exists()


def test_an_install_killed_before_the_service_ran_is_finished_by_the_next(
    bundle: Path, place: Path, fake: Path
) -> None:
    install(bundle, place, self_test=untested)
    second = renamed(bundle, "second")
    child = install_until_restart(second, place, fake)
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()
    assert answering(place) == "second"
    assert result("status", place)["confirmed"] is False
    assert result("install", second, "--to", place, *RESTART)["changed"] is True
    assert result("status", place)["confirmed"] is True
    assert result("install", second, "--to", place, *RESTART)["changed"] is False


def install_until_restart(bundle: Path, place: Path, fake: Path) -> subprocess.Popen[str]:
    """Start an install in a process group of its own, and give it while its service takes long to restart."""
    (fake / "slow").touch()
    arguments = [sys.executable, "-m", "pennyweight", "install", str(bundle), "--to", str(place), *RESTART]
    child = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while "restart" not in ((fake / "calls").read_text().split() if (fake / "calls").exists() else []):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (fake / "slow").unlink()
    return child


def test_an_install_interrupted_while_the_service_starts_is_undone(bundle: Path, place: Path, fake: Path) -> None:
    install(bundle, place, self_test=untested)
    child = install_until_restart(renamed(bundle, "second"), place, fake)
    os.killpg(child.pid, signal.SIGINT)
    said = child.communicate()[1]
    assert (child.returncode, said) == (130, "pennyweight: interrupted; nothing was left half-written\n")
    assert answering(place) == open_bundle(bundle).manifest.name
    assert result("status", place)["confirmed"] is True
    assert len(list((place / "releases").iterdir())) == 1
    assert (fake / "calls").read_text().split().count("restart") == 2


@pytest.mark.parametrize("seconds", ["nan", "-1", "inf"])
def test_a_settle_time_that_would_watch_nothing_or_for_ever_is_refused(
    bundle: Path, place: Path, fake: Path, seconds: str
) -> None:
    words = ("install", bundle, "--to", place, "--restart", "camera.service", f"--settle={seconds}")
    assert "give seconds from 0 to" in one_line(command(*words), 2)
    assert not place.exists()


def test_what_an_unset_variable_leaves_is_refused(bundle: Path, place: Path, fake: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    for words in (["install", bundle, "--to", ""], ["status", ""], ["rollback", ""]):
        assert "has no name" in one_line(command(*words, cwd=tmp_path), 2)
    (fake / "unit").write_text("")
    assert "knows no such unit" in one_line(command("install", bundle, "--to", place, "--restart", ""), 2)
    assert sorted(tmp_path.iterdir()) == before


def test_a_bundle_is_no_place_to_install_in(bundle: Path, place: Path) -> None:
    """The program loads DIR/current, and DIR is what `install` wants: the two are easily mixed up."""
    install(bundle, place, self_test=untested)
    before = state(place)
    for folder in (place / "current", bundle):
        assert "is a bundle itself" in one_line(command("install", bundle, "--to", folder), 2)
    assert state(place) == before


@pytest.fixture
def open_place() -> Iterator[Path]:
    """Give a folder that every user may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder, "place")


def test_a_child_gets_a_users_rights_and_home() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may become another user")
    script = 'printf \'{"result": {"id": "%s", "groups": "%s", "home": "%s"}}\' "$(id -u)" "$(id -G)" "$HOME"'
    nobody = pwd.getpwnam("nobody")
    told = run_child(["sh", "-c", script], b"", 30.0, user="nobody")
    assert told == {"id": str(nobody.pw_uid), "groups": str(nobody.pw_gid), "home": nobody.pw_dir}
    assert run_child(["sh", "-c", script], b"", 30.0)["id"] == "0"


def test_the_self_test_has_the_rights_of_the_services_user(
    bundle: Path, place: Path, open_place: Path, fake: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may become the service's user")
    try:
        done = subprocess.run([sys.executable, "-c", "import pennyweight"], user="nobody", stderr=-1, check=False)
    except PermissionError:
        pytest.skip(f"the user nobody may not run {sys.executable}")
    if done.returncode:
        pytest.skip(f"the user nobody may not read this package: {done.stderr!r}")
    (fake / "unit").write_text("LoadState=loaded\nUser=nobody\n")
    (fake / "place").unlink()
    assert result("install", bundle, "--to", open_place, *RESTART)["changed"] is True
    place.parent.chmod(0o700)
    assert "self-test failed" in one_line(command("install", bundle, "--to", place, *RESTART), 1)
    (fake / "unit").write_text("LoadState=loaded\nUser=no-such-user\n")
    second = renamed(bundle, "second")
    assert "no user 'no-such-user'" in one_line(command("install", second, "--to", open_place, *RESTART), 1)
    assert answering(open_place) == open_bundle(bundle).manifest.name

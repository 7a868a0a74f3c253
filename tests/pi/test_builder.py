"""Building the targets: what is refused, what is said when something is missing, and that no privilege is needed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pennyweight_benchmarks.pi import TARGETS, build, debian
from pennyweight_benchmarks.pi.boards import cpuinfo
from pennyweight_benchmarks.pi.cache import cache, kept
from pennyweight_benchmarks.pi.errors import TargetError
from pennyweight_benchmarks.pi.lock import RENEW, read_lock, write_lock
from pennyweight_benchmarks.pi.packages import compare, moved_on, package_folder
from pennyweight_benchmarks.pi.rootfs import unpack
from pennyweight_benchmarks.pi.targets import PACKAGE_SETS, PackageSet
from pi_support import ROOT, is_root

SMALL = PackageSet("small", "bookworm", "arm64", ("zlib1g",))
PACKAGE = ROOT / "benchmarks" / "pennyweight_benchmarks" / "pi"


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    return cache()


def test_the_lock_has_everything_and_names_no_host() -> None:
    lock = read_lock()
    assert lock.debian.keys() == {one.name for one in PACKAGE_SETS}
    for wanted in PACKAGE_SETS:
        assert set(wanted.packages) <= lock.debian[wanted.name].keys()
    for name, target in TARGETS.items():
        assert lock.wheels[name].keys() == target.wheels.keys()
    for path in PACKAGE.glob("*.*"):
        assert "://" not in path.read_text(), path


def test_the_lock_survives_being_written(tmp_path: Path) -> None:
    write_lock(read_lock(), tmp_path / "lock.json")
    assert (tmp_path / "lock.json").read_text() == (PACKAGE / "lock.json").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["lock.json"]


def test_a_locked_version_with_another_content_is_refused() -> None:
    locked = {"libc6": ("2.36", "a" * 64)}
    assert compare(locked, {"libc6": ("2.36", "a" * 64)}) == []
    assert compare(locked, {"libc6": ("2.37", "b" * 64)}) == ["libc6 2.36 → 2.37"]
    assert compare(locked, {**locked, "new": ("1", "c" * 64)}) == ["new none → 1"]
    with pytest.raises(TargetError, match=r"libc6 2\.36 has the sha256 b+, and the lock says a+: it is refused"):
        compare(locked, {"libc6": ("2.36", "b" * 64)})


def test_nothing_half_made_stays(own_cache: Path) -> None:
    def fail(root: Path, final: Path) -> None:
        (root / "half").touch()
        raise TargetError("the network is gone")

    with pytest.raises(TargetError):
        kept("thing", 1, fail)
    assert [path.suffix for path in own_cache.iterdir()] == [".lock"]
    place = kept("thing", 1, lambda root, final: (root / "whole").touch())
    assert (place / "whole").exists()
    assert kept("thing", 1, fail) == place
    assert kept("thing", 2, lambda root, final: None) != place


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(TargetError, match="can't be made"):
        cache()


def test_cpuinfo_is_the_boards_and_says_that_it_is_emulated() -> None:
    for target in TARGETS.values():
        assert cpuinfo(target.core).count(f"model name\t: QEMU user mode, {target.core}\n") == 4


def test_what_cannot_be_fetched_leaves_every_target_out_and_fails(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "apt-get").write_text("#!/bin/sh\necho 'E: Could not resolve the archive' >&2\nexit 100\n")
    (programs / "apt-get").chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "pennyweight_benchmarks.pi", "build"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    for name, line in zip(TARGETS, lines, strict=False):
        assert line.startswith(f"{name}: left out: "), line
        assert "E: Could not resolve the archive" in line
    assert lines[-1].startswith("0 of 4 targets")
    assert "Traceback" not in done.stderr


def test_an_unknown_target_is_wrong_use() -> None:
    command = [sys.executable, "-m", "pennyweight_benchmarks.pi", "build", "arm128"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no target 'arm128'; the targets are arm64-debian12, " in done.stderr


@pytest.mark.pi
def test_an_archive_that_nobody_signed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = tmp_path / "debian" / "dists" / "bookworm"
    (suite / "main" / "binary-arm64").mkdir(parents=True)
    (suite / "main" / "binary-arm64" / "Packages").touch()
    (suite / "Release").write_text("Origin: Debian\nSuite: bookworm\nCodename: bookworm\nComponents: main\n")
    (suite / "InRelease").write_text((suite / "Release").read_text())
    monkeypatch.setattr(debian, "archive_address", lambda: f"file:{tmp_path / 'debian'}")
    with pytest.raises(TargetError, match="apt-get -qq update: E: "), debian.open_archive("bookworm", "arm64"):
        pass


@pytest.mark.pi
def test_without_the_keyring_nothing_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "KEYRING", tmp_path / "none.gpg")
    with pytest.raises(TargetError, match="install debian-archive-keyring"), debian.open_archive("bookworm", "arm64"):
        pass


@pytest.mark.pi
def test_a_package_that_the_archive_moved_on_from_is_said_and_its_successor_taken(own_cache: Path) -> None:
    lock = read_lock()
    locked = lock.debian["arm64-debian12"]
    names = ("gcc-12-base", "libc6", "libgcc-s1", "zlib1g")
    old = {**{name: locked[name] for name in names}, "zlib1g": ("1:1.2.0-1", "0" * 64)}
    said: list[str] = []
    root = package_folder(SMALL, lock._replace(debian={"small": old}), said.append)
    assert len(said) == 2
    assert re.fullmatch(
        rf"small: the archive has moved on from the lock \(.*zlib1g 1:1\.2\.0-1 → 1:1\.2\.13.*\); what it signs now is "
        rf"taken; renew: `{re.escape(RENEW)}`",
        said[1],
    )
    assert any(line.startswith("zlib1g 1:1.2.0-1 → ") for line in moved_on(root))
    assert (root / "usr" / "lib" / "aarch64-linux-gnu" / "libz.so.1").exists()
    wrong = {**old, "zlib1g": (re.findall(r"→ (\S+)", said[1])[-1].rstrip(");"), "0" * 64)}
    with pytest.raises(TargetError, match="it is refused"):
        package_folder(SMALL, lock._replace(debian={"small": wrong}), said.append)
    assert [path for path in own_cache.iterdir() if path.is_dir()] == [root]


@pytest.mark.pi
def test_a_wheel_that_is_not_the_locked_one_is_refused() -> None:
    lock = read_lock()
    (file,) = lock.wheels["armhf-debian12"]["tflite-runtime"]
    wheels = {**lock.wheels["armhf-debian12"], "tflite-runtime": {file: "0" * 64}}
    with pytest.raises(TargetError, match=r"armhf-debian12: .*(?i:hash)"):
        build("armhf-debian12", lock=lock._replace(wheels={**lock.wheels, "armhf-debian12": wheels}))


def test_a_package_that_is_damaged_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken_1_arm64.deb").write_bytes(b"!<arch>\nno package")
    with pytest.raises(TargetError, match=r"broken_1_arm64\.deb can't be unpacked"):
        unpack([tmp_path / "broken_1_arm64.deb"], tmp_path / "root")


@pytest.mark.pi
def test_no_privilege_is_needed(tmp_path: Path) -> None:
    """A target starts, and packages are fetched and unpacked, without any of root's capabilities."""
    without = ["setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"] if is_root() else []
    script = tmp_path / "script.py"
    script.write_text("import platform\nprint(platform.machine(), open('/proc/self/status').read())\n")
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    fetch = (
        "from pennyweight_benchmarks.pi.lock import read_lock\n"
        "from pennyweight_benchmarks.pi.packages import package_folder\n"
        "from pennyweight_benchmarks.pi.targets import PackageSet\n"
        "wanted = PackageSet('small', 'bookworm', 'arm64', ('zlib1g',))\n"
        "lock = read_lock()\n"
        "print(package_folder(wanted, lock._replace(debian={'small': {}}), print))\n"
    )
    fetched = subprocess.run([*without, sys.executable, "-c", fetch], capture_output=True, text=True, env=environment)
    assert fetched.returncode == 0, fetched.stderr
    command = [*without, sys.executable, "-m", "pennyweight_benchmarks.pi", "run", "arm64-debian12", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("aarch64 ")
    assert re.search(r"^CapEff:\s+0+$", done.stdout, re.MULTILINE)

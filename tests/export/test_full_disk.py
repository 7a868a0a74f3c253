"""A disk that fills up half-way: one line, exit code 2, nothing half-written, and the old bundle untouched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pennyweight import open_bundle
from pennyweight.errors import OutputError
from pennyweight_data import Dataset
from pennyweight_export.staging import staged
from support import command, one_line

from .forked import Forked
from .test_command import save
from .test_staging_kills import bundle, content, put

Disk = Callable[[int], Path]
FORMS = pytest.mark.parametrize("name", ["bundle", "bundle.pennyweight"])


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Give a function that makes a disk of so many bytes, or sets its size anew."""
    place = tmp_path / "disk"
    place.mkdir()

    def sized(size: int) -> Path:
        again = ["-o", f"{'remount,' if os.path.ismount(place) else ''}size={size}"]
        done = subprocess.run(["mount", "-t", "tmpfs", *again, "tmpfs", place], capture_output=True, check=False)
        if done.returncode:
            pytest.skip(f"only root may mount a small disk: {done.stderr.decode().strip()}")
        return place

    yield sized
    if os.path.ismount(place):
        subprocess.run(["umount", place], check=True)


@FORMS
def test_writing_ends_well_however_much_room_there_is(disk: Disk, name: str) -> None:
    output = disk(2**20) / name
    put(output, "old")
    failed: dict[int, str] = {}
    for size in range(16 * 4096, 60 * 4096, 4096):
        disk(size)
        begun: list[str] = []
        try:
            with staged(output, force=True) as stage:
                for file, what in bundle("new").items():
                    begun.append(file)
                    stage.write(file, what)
                stage.commit()
        except OutputError as error:
            failed[len(begun)] = str(error)
            assert content(output) == bundle("old")
        else:
            assert content(output) == bundle("new")
            put(output, "old")
            enough = size
        assert list(output.parent.iterdir()) == [output]
    # It failed while one file was written and while another was, and with the most room it did not.
    assert len(failed) >= 2
    assert enough == size
    assert all("No space left on device" in line for line in failed.values())
    assert content(output) == bundle("old")


@pytest.fixture(scope="module")
def forked() -> Iterator[Forked]:
    with Forked() as server:
        yield server


@pytest.fixture
def files(tiny_model: Any, data: Dataset, tmp_path: Path) -> list[str | Path]:
    """Give the command's arguments but the output."""
    tiny_model.save(tmp_path / "model.keras")
    save(tmp_path / "data.npz", data)
    return ["export", tmp_path / "model.keras", "--data", tmp_path / "data.npz"]


# Room for: nothing at all; the artifacts, but not the evaluation set; all files, but not the zip of them.
@pytest.mark.parametrize(
    ("name", "room"),
    [("b", 0), ("b", 40_000), ("b.pennyweight", 0), ("b.pennyweight", 40_000), ("b.pennyweight", 160_000)],
)
def test_the_command_says_so_in_one_line_and_the_old_bundle_stays(
    disk: Disk, forked: Forked, files: list[str | Path], tiny_bundle: Path, tmp_path: Path, name: str, room: int
) -> None:
    output = disk(2**20) / name
    if output.suffix:
        put_bundle(output, tiny_bundle)
    else:
        shutil.copytree(tiny_bundle, output)
    before = content(output)
    used = shutil.disk_usage(output.parent).used
    disk(used + room + 4096 - (used + room) % 4096)
    result = forked.run(*files, "-o", output, "--force", log=tmp_path)
    line = one_line(result, 2)
    assert str(output) in line
    assert "No space left on device" in line
    assert result.stdout == ""
    assert content(output) == before
    assert list(output.parent.iterdir()) == [output]
    assert open_bundle(output).check() == []


def put_bundle(place: Path, source: Path) -> None:
    with staged(place) as stage:
        for path in source.iterdir():
            stage.write(path.name, path.read_bytes())
        stage.commit()


def test_a_full_disk_for_temporary_files_is_named(
    disk: Disk, files: list[str | Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(disk(64 * 1024)))
    line = one_line(command(*map(str, files), "-o", tmp_path / "out"), 2)
    assert "set TMPDIR to another folder" in line
    assert str(tmp_path / "disk") in line
    assert not (tmp_path / "out").exists()


def test_a_limit_on_the_size_of_files_is_an_error_of_writing(tmp_path: Path) -> None:
    # What a quota does, for whoever can't mount a disk.
    code = (
        "import resource, sys; from pathlib import Path; from pennyweight.errors import OutputError\n"
        "from pennyweight_export.staging import staged\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "try:\n"
        "    with staged(Path(sys.argv[1])) as stage:\n"
        "        stage.write('a', bytes(4000)); stage.write('b', bytes(4000)); stage.commit()\n"
        "except OutputError as error: print(error)\n"
    )
    for name, says in (("bundle", ""), ("bundle.pennyweight", "can't be written (File too large)")):
        place = tmp_path / name
        done = subprocess.run([sys.executable, "-c", code, str(place)], capture_output=True, text=True, check=True)
        assert says in done.stdout
        assert bool(says) != place.exists()
        assert not list(tmp_path.glob(".*"))

"""A bundle appears under its name whole or not at all; what --force replaces stays until then."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from pennyweight.errors import OutputError
from pennyweight_export import staging
from pennyweight_export.staging import check_output, staged


def put(output: Path, content: bytes, force: bool = False) -> None:
    with staged(output, force) as stage:
        stage.write("manifest.json", content)
        stage.commit()


def content(output: Path) -> bytes:
    if output.is_dir():
        return (output / "manifest.json").read_bytes()
    with zipfile.ZipFile(output) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        return archive.read("manifest.json")


@pytest.fixture(params=["bundle", "bundle.pennyweight"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / str(request.param)


def test_a_bundle_appears_when_it_is_committed(output: Path) -> None:
    with staged(output) as stage:
        stage.write("manifest.json", b"new")
        assert not output.exists()
        stage.commit()
    assert content(output) == b"new"
    assert list(output.parent.iterdir()) == [output]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_what_goes_wrong_before_leaves_nothing(output: Path, error: type[BaseException]) -> None:
    def stopped_half_way() -> None:
        with staged(output) as stage:
            stage.write("manifest.json", b"new")
            raise error

    with pytest.raises(error):
        stopped_half_way()
    assert list(output.parent.iterdir()) == []


def test_an_existing_name_is_refused_and_replaced_by_force(output: Path) -> None:
    put(output, b"old")
    with pytest.raises(OutputError, match="exists already"):
        put(output, b"new")
    assert content(output) == b"old"
    with staged(output, force=True) as stage:
        stage.write("manifest.json", b"new")
        assert content(output) == b"old"
        stage.commit()
    assert content(output) == b"new"
    assert list(output.parent.iterdir()) == [output]


def test_without_the_exchange_of_names_two_renames_do_it(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "_exchanged", lambda one, other: False)
    put(output, b"old")
    put(output, b"new", force=True)
    assert content(output) == b"new"
    assert list(output.parent.iterdir()) == [output]


def test_a_file_takes_a_folders_place_by_force(tmp_path: Path) -> None:
    output = tmp_path / "b.pennyweight"
    output.mkdir()
    (output / "manifest.json").write_bytes(b"old")
    put(output, b"new", force=True)
    assert output.is_file()
    assert content(output) == b"new"


def test_force_replaces_bundles_only(tmp_path: Path) -> None:
    photos, text = tmp_path / "photos", tmp_path / "notes.txt"
    photos.mkdir()
    (photos / "dear.jpg").write_bytes(b"memories")
    text.write_text("notes")
    for place in (photos, text):
        with pytest.raises(OutputError, match="is no bundle"):
            check_output(place, force=True)
    assert (photos / "dear.jpg").read_bytes() == b"memories"


def test_a_dangling_link_counts_as_existing(tmp_path: Path) -> None:
    link = tmp_path / "b"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="exists already"):
        check_output(link, force=False)


@pytest.mark.parametrize("place", ["missing/bundle", "file/bundle"])
def test_a_place_that_is_no_folder_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="doesn't exist"):
        check_output(tmp_path / place, force=False)


def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="can't be written"), staged(tmp_path / "b") as stage:
        stage.write("x" * 300, b"a name longer than the file system takes stands for any error of the disk")
    assert list(tmp_path.iterdir()) == []

from __future__ import annotations

import os
import re
import shutil
import stat
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pennyweight import load, open_bundle
from pennyweight.errors import BundleError, IntegrityError
from support import FIXTURE, command, one_line


def test_folder_and_archive_hold_the_same(bundle: Path, archive: Path) -> None:
    folder, zipped = open_bundle(bundle), open_bundle(archive)
    assert folder.manifest == zipped.manifest
    assert all(folder.read(name) == zipped.read(name) for name in folder.manifest.files)
    assert folder.check() == zipped.check() == []
    np.testing.assert_array_equal(next(iter(folder.golden().inputs.values())), _golden_inputs(archive))


def _golden_inputs(path: Path) -> Any:
    return next(iter(open_bundle(path).golden().inputs.values()))


def test_every_file_of_the_manifest_is_hashed(bundle: Path) -> None:
    for name in open_bundle(FIXTURE).manifest.files:
        content = bytearray((bundle / name).read_bytes())
        content[len(content) // 2] ^= 1
        (bundle / name).write_bytes(content)
        with pytest.raises(IntegrityError, match=re.escape(name)):
            open_bundle(bundle).read(name)
        with pytest.raises(IntegrityError, match=re.escape(name)):
            open_bundle(bundle).check()
        shutil.copy(FIXTURE / name, bundle / name)
    assert open_bundle(bundle).check() == []


def test_longer_and_shorter_files_are_refused(bundle: Path) -> None:
    content = (bundle / "golden.npz").read_bytes()
    for wrong in (content[:-1], content + b"\0", b""):
        (bundle / "golden.npz").write_bytes(wrong)
        with pytest.raises(IntegrityError):
            open_bundle(bundle).golden()


def test_unlisted_files_are_named_and_never_read(bundle: Path) -> None:
    (bundle / "notes.txt").write_text("mine")
    assert open_bundle(bundle).check() == ["notes.txt"]
    with pytest.raises(BundleError, match=r"no file 'notes\.txt'"):
        open_bundle(bundle).read("notes.txt")


def test_a_pipe_under_a_files_name_does_not_hang(bundle: Path) -> None:
    (bundle / "golden.npz").unlink()
    os.mkfifo(bundle / "golden.npz")
    with pytest.raises(BundleError, match="not a regular file"):
        open_bundle(bundle).golden()


@pytest.mark.parametrize(
    ("name", "mode", "compression", "says"),
    [
        ("../evil", 0o100644, zipfile.ZIP_STORED, "not a plain file name"),
        ("/evil", 0o100644, zipfile.ZIP_STORED, "not a plain file name"),
        ("folder/", 0o040755, zipfile.ZIP_STORED, "not a plain file name"),
        ("link", stat.S_IFLNK | 0o777, zipfile.ZIP_STORED, "not a regular file"),
        ("bomb", 0o100644, zipfile.ZIP_DEFLATED, "compressed"),
        ("golden.npz", 0o100644, zipfile.ZIP_STORED, "twice"),
    ],
)
def test_archives_with_tricks_are_refused(archive: Path, name: str, mode: int, compression: int, says: str) -> None:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.compress_type = compression
    with zipfile.ZipFile(archive, "a") as zipped:
        if says == "twice":
            with pytest.warns(UserWarning, match="Duplicate name"):
                zipped.writestr(info, b"0" * 1000)
        else:
            zipped.writestr(info, b"0" * 1000)
    with pytest.raises(BundleError, match=says):
        open_bundle(archive)


def test_a_member_that_lies_about_its_size_is_refused(archive: Path) -> None:
    raw = archive.read_bytes()
    with zipfile.ZipFile(archive) as zipped:
        size = zipped.getinfo("golden.npz").file_size
    for factor in (2, 1000):
        archive.write_bytes(raw.replace(size.to_bytes(4, "little"), (size * factor).to_bytes(4, "little")))
        with pytest.raises(BundleError):
            open_bundle(archive).golden()


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"not a zip", b"\0" * 100_000], ids=["empty", "two bytes", "text", "zeros"]
)
def test_a_file_that_is_no_bundle(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pennyweight"
    path.write_bytes(content)
    assert "neither a bundle's folder nor a whole .pennyweight file" in one_line(command("info", path), 2)


def test_missing_bundles_and_files(tmp_path: Path, bundle: Path) -> None:
    assert "no such bundle" in one_line(command("info", tmp_path / "absent"), 2)
    assert "manifest.json is missing" in one_line(command("verify", tmp_path), 2)
    (bundle / "golden.npz").unlink()
    assert "golden.npz is missing" in one_line(command("verify", bundle), 2)
    with pytest.raises(BundleError, match="no such bundle"):
        load("a\0b")


def test_one_changed_bit_is_found_by_every_verb(bundle: Path) -> None:
    for name in ("float32.tflite", "float32.onnx", "int8.tflite"):
        content = bytearray((bundle / name).read_bytes())
        content[100] ^= 4
        (bundle / name).write_bytes(content)
    assert "isn't what was exported" in one_line(command("verify", bundle), 1)
    np.save(bundle.parent / "x.npy", next(iter(open_bundle(bundle).golden().inputs.values())))
    assert "isn't what was exported" in one_line(command("predict", bundle, bundle.parent / "x.npy"), 2)


def test_an_edited_manifest_is_found(bundle: Path) -> None:
    text = (bundle / "manifest.json").read_text()
    (bundle / "manifest.json").write_text(text.replace('"int8"', '"int4"', 1))
    assert "the manifest was changed" in one_line(command("info", bundle), 2)

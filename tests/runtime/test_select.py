from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from pennyweight import load, open_bundle
from pennyweight.choices import Choice, bundle_digest, cache_folder, device_name, read_choice, write_choice
from pennyweight.engines import engine_version
from pennyweight.errors import OutputError
from support import FIXTURE, command, installed_pairs, one_line

BUNDLE = open_bundle(FIXTURE)
ARTIFACT, ENGINE = installed_pairs()[-1]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def choice(**changes: Any) -> Choice:
    made = Choice(bundle_digest(BUNDLE), device_name(), ARTIFACT, ENGINE, engine_version(ENGINE), 2, "today", 1.0)
    return made._replace(**changes)


def test_what_select_chose_is_what_load_takes(bundle: Path) -> None:
    result = command("select", bundle, "--quick", "--threads", "1", "--json")
    assert result.returncode == 0, result.stderr
    chosen = json.loads(result.stdout)["choice"]
    described = load(bundle).describe()
    assert [described[key] for key in ("artifact", "engine", "threads")] == [
        chosen[key] for key in ("artifact", "engine", "threads")
    ]
    assert "select found it fastest" in described["reason"]
    rows = [row for row in json.loads(result.stdout)["bench"]["rows"] if row["status"] == "ok"]
    assert len(rows) == len(installed_pairs())
    assert "select found it fastest" in command("info", bundle).stdout


def test_a_choice_is_read_back_and_an_explicit_one_goes_first(cache: Path) -> None:
    assert read_choice(BUNDLE) is None
    path = write_choice(BUNDLE, choice())
    assert path is not None
    assert path.parent == cache / "pennyweight"
    assert read_choice(BUNDLE) == choice()
    assert load(BUNDLE).describe()["threads"] == 2
    assert load(BUNDLE, threads=1).describe()["threads"] == 1
    other = installed_pairs()[0]
    assert load(BUNDLE, artifact=other[0], engine=other[1]).describe()["engine"] == other[1]


@pytest.mark.parametrize(
    "changes",
    [{"engine_version": "0.0.1"}, {"device": "another Pi"}, {"bundle": "0" * 64}, {"engine": "none"}, {"threads": 0}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_stale_choice_is_ignored(changes: dict[str, Any]) -> None:
    write_choice(BUNDLE, choice(**changes))
    assert "select" not in load(BUNDLE).describe()["reason"]


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b"{}", b"\xff", b"[" * 50_000], ids=["empty", "list", "bare", "no text", "deep"]
)
def test_a_damaged_choice_is_ignored(content: bytes) -> None:
    path = write_choice(BUNDLE, choice())
    assert path is not None
    path.write_bytes(content)
    assert "select" not in load(BUNDLE).describe()["reason"]


def test_the_cache_folder_is_systemds_then_xdgs_then_homes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    monkeypatch.setenv("CACHE_DIRECTORY", "/var/cache/a:/var/cache/b")
    assert cache_folder() == Path("/var/cache/a/pennyweight")
    monkeypatch.delenv("CACHE_DIRECTORY")
    assert cache_folder() == tmp_path / "cache" / "pennyweight"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path("/home/x/.cache/pennyweight")
    monkeypatch.delenv("HOME")
    assert cache_folder() is None
    assert write_choice(BUNDLE, choice()) is None
    assert load(BUNDLE).describe()["threads"] == 1


def test_a_cache_that_cannot_be_made_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="set XDG_CACHE_HOME"):
        write_choice(BUNDLE, choice())


def test_an_engine_that_reads_nothing_here_is_refused() -> None:
    assert "no engine 'x'" in one_line(command("select", FIXTURE, "--engine", "x"), 2)


def test_a_pair_without_a_verdict_is_judged_by_the_gate_of_the_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    select = importlib.import_module("pennyweight.commands.select")
    monkeypatch.setattr(select, "engine_version", lambda name: "0.0.1")
    verdict = select._verdict(BUNDLE, ARTIFACT, ENGINE, argparse.Namespace(quiet=True))
    # By the default gate of half a point, so few samples would decide nothing.
    assert BUNDLE.manifest.gate["max_drop"] == 0.3
    assert (verdict["verdict"], "allowed 30.00 points" in verdict["reason"]) == ("pass", True)

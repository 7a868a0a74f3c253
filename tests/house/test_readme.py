"""The README is true: its commands run as written, its make targets, files and verbs exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pennyweight.cli import VERBS, WORKSTATION_VERBS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
TESTED = re.findall(r"<!-- tested -->\n```(sh|python)\n(.*?)```", README, re.DOTALL)


def test_the_commands_run_as_written(tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert [kind for kind, _ in TESTED] == ["sh", "python"]
    for kind, text in TESTED:
        words = ["bash", "-euc", text] if kind == "sh" else [sys.executable, "-c", text]
        done = subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_its_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)`|^make ([a-z-]+)", README, re.MULTILINE))
    assert {first or second for first, second in named} <= targets
    assert "make demo" in README.split("##")[0]
    assert "make test" in README.split("##")[0]


def test_its_links_and_folders_exist() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
    for folder in re.findall(r"^\| `([a-z]+)/` \|", README, re.MULTILINE):
        assert (ROOT / folder).is_dir(), folder


def test_it_names_every_verb() -> None:
    for verb in (*VERBS, *WORKSTATION_VERBS):
        assert f"`{verb}" in README, verb


@pytest.mark.parametrize("word", ["Coral", "Hailo", "GPUs", "microcontrollers"])
def test_it_says_what_pennyweight_is_not_for(word: str) -> None:
    assert word in README.split("not for")[-1]

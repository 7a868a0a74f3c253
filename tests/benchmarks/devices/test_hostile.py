"""What anybody may name: hosts, homes, folders and bundles that would be commands if anything quoted them wrongly."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from loopback import Network
from pennyweight.commands import bench, doctor, install, parity, verify
from pennyweight.errors import UsageError
from pennyweight_benchmarks.devices.command import add_device_arguments
from pennyweight_benchmarks.devices.connection import check_host, start_line
from support import FIXTURE, command, one_line

from .conftest import Workstation

HOSTS = ["", "-oProxyCommand=touch pwned", "pi@-oProxyCommand=x", "ssh://-oProxyCommand=x", "a b", "a;touch pwned"]
HOSTS += ["$(id)", "`id`", "a'b", 'a"b', "a\nb", "a|b", "a&b", "a>b", "a\\b", "a\x1b[2J"]
WORST = "-o 'it' \"s\" $(touch pwned) `touch pwned`\n;touch pwned #größe 🍓"
NAMES = [
    "with space",
    "it's",
    'say "hi"',
    "line\nbreak",
    "$(touch pwned)",
    "`touch pwned`",
    "-rf",
    "größe 🍓",
    "a;touch pwned",
]


@pytest.mark.parametrize("host", HOSTS)
def test_no_such_host(host: str) -> None:
    with pytest.raises(UsageError, match="is no host"):
        check_host(host)


def test_the_command_takes_no_such_host(tmp_path: Path) -> None:
    line = one_line(command("verify", FIXTURE, f"--on={HOSTS[1]}", cwd=tmp_path), 2)
    assert "is no host" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("host", ["pi", "pi@10.0.0.7", "pi@fe80::1%eth0", "ssh://pi@h:2222", "küche", "a_b-c.local"])
def test_hosts(host: str) -> None:
    assert check_host(host) == host


@pytest.mark.parametrize("name", [WORST, *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES)])
def test_bundles_and_folders_of_any_name(
    workstation: Workstation, network: Network, prepared: Path, tmp_path: Path, name: str
) -> None:
    network.device("one", prepared).start()
    bundle = tmp_path / name
    shutil.copytree(FIXTURE, bundle)
    target = tmp_path / "installed" / name
    target.parent.mkdir()
    [row] = workstation.rows(["one"], "install", "--to", target, "--keep", bundle=bundle)
    assert row["outcome"] == "ok", row
    assert (target / "current" / "manifest.json").is_file()
    assert not list(prepared.glob("pwned")) + list(tmp_path.rglob("pwned"))


@pytest.mark.slow
def test_a_home_of_any_name(workstation: Workstation, network: Network, tmp_path: Path) -> None:
    home = tmp_path / "a home's $(touch pwned) größe"
    network.device("one", home).start()
    (home / "numpy.py").write_text("raise SystemExit('a stray file of the user')")
    [row] = workstation.rows(["one"], "verify")
    assert row["outcome"] == "ok", row
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize("shell", ["sh", "dash", "bash", "zsh", "fish", "tcsh", "ksh"])
def test_the_line_starts_python_in_each_login_shell(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    source = b"print('it runs', sys.stdin.buffer.read(3))"
    done = subprocess.run(
        [shell, "-c", start_line(len(source))], input=source + b"xyz", capture_output=True, check=False
    )
    assert done.stdout == b"it runs b'xyz'\n", done.stderr


@pytest.mark.parametrize("python", ["no; touch pwned", "$(touch pwned)", "it's", "-c"])
def test_a_python_of_any_name(python: str, tmp_path: Path) -> None:
    done = subprocess.run(["sh", "-c", start_line(1, python)], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 93
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("verb", "words", "given_on"),
    [
        (
            bench,
            ["B", "--threads", "1", "2", "--rate", "30", "--quick"],
            ["--threads", "1", "2", "--quick", "--rate=30"],
        ),
        (bench, ["B", "--for", "10m", "--artifact=-x $(id)"], ["--artifact=-x $(id)", "--for=10m"]),
        (parity, ["B", "--max-drop", "0.5pt", "--max-drop", "0.7pt"], ["--max-drop=0.7pt"]),
        (verify, ["B", "--trust", "signers", "--engine", "onnxruntime"], ["--engine=onnxruntime"]),
        (install, ["B", "--to", "my dir", "--restart=a.service"], ["--to=my dir", "--restart=a.service"]),
        (doctor, [], []),
    ],
)
def test_arguments_are_given_on_as_they_were_written(verb: object, words: list[str], given_on: list[str]) -> None:
    parser = argparse.ArgumentParser()
    add_device_arguments(parser, verb)
    args = parser.parse_args(words)
    again = args.device_arguments.words(args)
    assert again == given_on
    # And there they mean the same.
    plain = argparse.ArgumentParser()
    verb.add_arguments(plain)  # type: ignore[attr-defined]
    there = vars(plain.parse_args([*again, *(["--", "B"] if "B" in words else [])]))
    for name, value in there.items():
        if name not in ("trust", "data"):
            assert getattr(args, name) == value, name


def test_results_have_plain_names(workstation: Workstation, network: Network, prepared: Path, tmp_path: Path) -> None:
    device = network.device("one", prepared).start()
    user = network.config.read_text().split("User ")[1].split()[0]
    host = f"ssh://{user}@one:{device.port}"
    workstation.rows([host], "verify", "--keep", "--results", tmp_path / "results")
    [file] = (tmp_path / "results").iterdir()
    assert file.name == f"ssh___{user}@one_{device.port}-verify.json"
    assert json.loads(file.read_text())["on"]["host"] == host
    assert shlex.quote(file.name) == file.name

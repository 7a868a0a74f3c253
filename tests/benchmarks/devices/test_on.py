"""Verbs on devices: what comes back, what stays there, and what the results say."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from loopback import Network, require_namespaces
from pennyweight.cli import main
from support import FIXTURE, command

from .conftest import Workstation

QUICK = ("--rounds", "2", "--seconds", "0.05")
# /proc/cpuinfo of a Raspberry Pi 4, as a program sees it that QEMU runs for another processor.
PI_CPU = "processor\t: 0\nBogoMIPS\t: 108.00\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\nModel\t\t: Raspberry Pi 4\n"


def left(home: Path) -> list[str]:
    """Give what is left in a home; pip asks for `rustc --version`, and rustup's stand-in for it makes a folder."""
    return sorted(path.name for path in home.iterdir() if path.name != ".rustup")


@pytest.mark.slow
def test_without_keep_nothing_is_left(workstation: Workstation, network: Network) -> None:
    device = network.device("one")
    (device.home / "mine").write_text("the user's own")
    device.start(prelude="echo Welcome to this device; echo; date")
    [row] = workstation.rows(["one"], "verify")
    assert row["outcome"] == "ok"
    assert row["engines"] == ["ai-edge-litert"]
    assert left(device.home) == ["mine"]


def test_with_keep_the_next_time_brings_nothing(workstation: Workstation, network: Network, prepared: Path) -> None:
    network.device("one", prepared).start()
    [row] = workstation.rows(["one"], "verify", "--keep")
    assert (row["installed"], row["sent_bytes"]) == ([], 0)
    assert row["result"]["on"]["host"] == "one"
    # One file that was damaged there is brought again, alone.
    [place] = prepared.glob(".cache/pennyweight-devices/bundles/*/int8.tflite")
    place.write_bytes(b"damaged")
    [row] = workstation.rows(["one"], "verify", "--keep")
    assert (row["outcome"], row["sent_bytes"]) == ("ok", (FIXTURE / "int8.tflite").stat().st_size)


@pytest.mark.slow
def test_every_verb(workstation: Workstation, network: Network, prepared: Path, tmp_path: Path) -> None:
    network.device("one", prepared).start()
    done = workstation.on(["one"], "bench", *QUICK, "--threads", "1", "2", "--keep", "--results", tmp_path / "bench")
    assert done.returncode == 0, done.stderr
    bench = json.loads((tmp_path / "bench" / "one-bench.json").read_text())
    assert {row["threads"] for row in bench["rows"] if row["status"] == "ok"} == {1, 2}
    assert bench["plan"]["rounds"] == 2
    assert "2 threads" in done.stdout
    done = workstation.on(["one"], "parity", "--max-drop", "50pt", "--keep", "--results", tmp_path / "parity")
    assert done.returncode == 0, done.stderr
    parity = json.loads((tmp_path / "parity" / "one-parity.json").read_text())
    assert parity["max_drop"] == 0.5
    [row] = workstation.rows(["one"], "doctor", "--keep", bundle=None)
    assert row["result"]["ready"] is True
    [row] = workstation.rows(["one"], "install", "--to", "a digit's folder", "--keep")
    assert row["result"]["changed"] is True
    assert (prepared / "a digit's folder" / "current" / "manifest.json").is_file()
    [row] = workstation.rows(["one"], "install", "--to", "a digit's folder", "--dry-run", "--keep")
    assert row["result"]["changed"] is False
    # The files are the verbs' own: what reads those reads these.
    page = command("report", *tmp_path.rglob("one-*.json"), "--markdown")
    assert page.returncode == 0, page.stderr
    assert "float32.tflite" in page.stdout
    file = tmp_path / "bench" / "one-bench.json"
    assert command("compare", file, file).returncode == 0


@pytest.mark.slow
def test_the_answers_are_the_ones_given_here(workstation: Workstation, network: Network, prepared: Path) -> None:
    network.device("one", prepared).start()
    [row] = workstation.rows(["one"], "parity", "--max-drop", "50pt", "--keep")
    here = json.loads(command("parity", FIXTURE, "--max-drop", "50pt", "--json").stdout)
    there = {(one["artifact"], one["engine"]): one["figures"] for one in row["result"]["rows"]}
    for one in here["rows"]:
        figures = there[one["artifact"], one["engine"]]
        if figures is not None:
            assert figures["accuracy"] == one["figures"]["accuracy"]
            assert figures["agreement"] == one["figures"]["agreement"]


@pytest.mark.slow
def test_own_data_and_trust_travel(workstation: Workstation, network: Network, prepared: Path, tmp_path: Path) -> None:
    network.device("one", prepared).start()
    data = tmp_path / "my data.npz"
    shutil.copy(FIXTURE / "evaluation.npz", data)
    [row] = workstation.rows(["one"], "parity", "--data", data, "--max-drop", "50pt", "--keep")
    assert row["outcome"] == "ok"
    key, signed = tmp_path / "key", tmp_path / "signed"
    shutil.copytree(FIXTURE, signed)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    sign = ["ssh-keygen", "-Y", "sign", "-n", "pennyweight", "-f", str(key), str(signed / "manifest.json")]
    subprocess.run(sign, check=True, capture_output=True)
    signers = tmp_path / "signers"
    signers.write_text(f"me@here {key.with_suffix('.pub').read_text()}")
    [row] = workstation.rows(["one"], "verify", "--trust", signers, "--keep", bundle=signed)
    assert row["result"]["signed_by"] == "me@here"


def test_two_names_of_one_machine_take_turns(workstation: Workstation, network: Network, prepared: Path) -> None:
    device = network.device("one", prepared).start()
    network.name("again", device.port)
    done = workstation.on(["one", "again"], "verify", "--keep")
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    assert any("the same machine as" in line for line in said), said
    # The second begins only when the first has ended.
    first = next(line.partition(":")[0] for line in said if "preparing" in line)
    second = {"one": "again", "again": "one"}[first]
    lines = [line for line in said if "preparing" in line or line.endswith(": ok")]
    assert [line.partition(":")[0] for line in lines] in (
        [first, first, second, second],
        [first, second, first, second],
    )
    assert lines.index(f"{first}: ok") <= 2


def test_different_machines_work_at_the_same_time(workstation: Workstation, network: Network) -> None:
    require_namespaces()
    for name in ("one", "two"):
        network.device(name).start(mounts=True, prelude="sleep 2")
    done = workstation.on(["one", "two"], "verify", "--device-engine", "tflite-runtime", "--timeout", "1s")
    assert "same machine" not in done.stderr
    assert [line.partition(":")[2] for line in done.stderr.splitlines()] == [" slow", " slow"]


@pytest.mark.slow
def test_emulation_is_marked_everywhere(
    workstation: Workstation, network: Network, prepared: Path, tmp_path: Path
) -> None:
    require_namespaces()
    cpu = tmp_path / "cpuinfo"
    cpu.write_text(PI_CPU)
    network.device("native", prepared).start()
    device = network.device("emulated", prepared)
    device.start(before=f"mount --bind '{cpu}' /proc/cpuinfo", mounts=True)
    results = tmp_path / "results"
    shapes = {}
    for name in ("native", "emulated"):
        done = workstation.on([name], "bench", *QUICK, "--artifact", "float32.tflite", "--keep", "--results", results)
        assert done.returncode == 0, done.stderr
        shapes[name] = json.loads((results / f"{name}-bench.json").read_text())
        assert ("EMULATED" in done.stdout) == (name == "emulated")
        assert ("emulated  " in done.stdout or "(emulated)" in done.stdout) == (name == "emulated")
    # The mark itself is all that one has and the other hasn't.
    assert shapes["emulated"].pop("emulated") == "x86_64 programs on another processor"
    assert shape(shapes["native"]) == shape(shapes["emulated"])
    assert "emulated" in [taint["kind"] for taint in shapes["emulated"]["taints"]]
    [row] = workstation.rows(["emulated"], "parity", "--max-drop", "50pt", "--keep", "--results", results)
    assert row["emulation"] == "x86_64 programs on another processor"
    assert row["result"]["environment"]["emulation"] == row["emulation"]
    page = command("report", results / "emulated-parity.json", results / "emulated-bench.json", "--markdown").stdout
    assert "the processor is emulated" in page
    alone = command("report", results / "emulated-parity.json", "--markdown").stdout
    assert "emulation x86\\_64 programs on another processor" in alone


def shape(value: object) -> object:
    """Give a result's form: its fields and their types, lists by their first item; taints differ by their nature."""
    if isinstance(value, dict):
        return {name: shape(one) for name, one in value.items() if name not in ("taints", "busy", "samples")}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    # What can't be read is a text where a number would be.
    return "value"


@pytest.mark.slow
def test_a_jump_host_of_the_users_configuration(workstation: Workstation, network: Network, prepared: Path) -> None:
    network.device("gate").start()
    far = network.device("far", prepared).start()
    with network.config.open("a") as file:
        file.write("Host far\nProxyJump gate\n")
    [row] = workstation.rows(["far"], "verify", "--keep")
    assert row["outcome"] == "ok"
    assert "Accepted publickey" in network.devices[0].log
    assert "Accepted publickey" in far.log


@pytest.mark.slow
def test_offline_the_wheels_travel(workstation: Workstation, network: Network) -> None:
    network.device("one").start(prelude="export PIP_NO_INDEX=1 PIP_FIND_LINKS=")
    found = sorted(Path.home().glob(".pyenv/versions/3.13.*/bin/python3"))
    more = ("--device-python", found[-1]) if found else ()
    [row] = workstation.rows(["one"], "verify", "--offline", "--device-engine", "onnxruntime", *more)
    assert row["outcome"] == "ok"
    assert row["engines"] == ["onnxruntime"]
    # The wheels went over the connection, as nothing else could bring them.
    assert row["sent_bytes"] > 10**7
    assert [one["status"] for one in row["result"]["rows"] if one["engine"] == "onnxruntime"] == ["pass"]


@pytest.mark.slow
def test_all_engines(workstation: Workstation, network: Network) -> None:
    network.device("one").start()
    [row] = workstation.rows(["one"], "verify", "--device-engine", "all")
    assert {one["status"] for one in row["result"]["rows"]} == {"pass"}
    assert left(network.devices[0].home) == []


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.9", "3.10", "3.12", "3.13"])
def test_each_python(workstation: Workstation, network: Network, version: str) -> None:
    found = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python3"))
    if not found:
        pytest.skip(f"no Python {version} here")
    device = network.device("one").start(prelude=f"PATH={found[-1].parent}:$PATH")
    [row] = workstation.rows(["one"], "verify")
    assert row["machine"]["python"].startswith(f"{version}.")
    assert row["outcome"] == "ok"
    assert left(device.home) == []


@pytest.mark.slow
def test_an_emulated_pi_is_a_device(workstation: Workstation, network: Network) -> None:
    pi = pytest.importorskip("pennyweight_benchmarks.pi", reason="no emulated Raspberry Pi in this version")
    built = pi.build("arm64-debian13")
    # Its own dpkg comes first, as on a Pi; what else is needed there, the host has.
    network.device("pi5").start(prelude=f"PATH={built.root}/usr/bin:$PATH")
    [row] = workstation.rows(["pi5"], "parity", "--max-drop", "50pt", "--offline", "--timeout", "9m")
    assert row["outcome"] == "ok", row
    assert row["device"]["userland"] == "arm64"
    assert row["machine"]["architecture"] == "aarch64"
    assert "QEMU" in row["emulation"]
    passed = [(one["artifact"], one["engine"]) for one in row["result"]["rows"] if one["status"] == "pass"]
    assert passed == [("float32.tflite", "ai-edge-litert"), ("int8.tflite", "ai-edge-litert")]
    assert left(network.devices[0].home) == []


def test_wrong_use_troubles_no_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(FIXTURE, damaged)
    (damaged / "int8.tflite").write_bytes(b"other")
    cases = [
        (["a", "a"], "verify", (), FIXTURE, 2, "names a host twice"),
        ([], "verify", ("--keep",), FIXTURE, 2, "name one with --on"),
        ([], "bench", ("--timeout", "9s"), FIXTURE, 2, "name one with --on"),
        (["a"], "verify", ("--timeout", "soon"), FIXTURE, 2, "--timeout 'soon'"),
        (["a"], "verify", ("--device-engine", "tensorrt"), FIXTURE, 2, "no engine 'tensorrt'"),
        (["a"], "verify", ("--artifact", "none.tflite"), FIXTURE, 2, "none.tflite"),
        (["a"], "bench", ("--original", "x.keras"), FIXTURE, 2, "works on the workstation only"),
        (["a"], "bench", ("--rounds", "0"), FIXTURE, 2, "--rounds 0"),
        (["a"], "parity", ("--data", tmp_path / "none.npz"), FIXTURE, 2, "no such file"),
        (["a"], "verify", ("--ssh-config", tmp_path / "absent"), FIXTURE, 2, "no such file"),
        (["a"], "verify", (), tmp_path / "absent", 2, "no such bundle"),
        (["a"], "verify", (), damaged, 1, "SHA-256 differs"),
    ]
    for hosts, verb, words, bundle, code, text in cases:
        devices = [f"--on={host}" for host in hosts]
        assert main([verb, str(bundle), *devices, *map(str, words)]) == code, text
        output, noise = capsys.readouterr()
        assert text in noise
        assert (output, len(noise.splitlines())) == ("", 1)

"""The command as its users meet it: in a subprocess, with wrong words, bad files, a closed pipe and Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pennyweight import __version__, load, open_bundle
from support import FIXTURE, command, installed_pairs, one_line

IMAGES = next(iter(open_bundle(FIXTURE).golden().inputs.values()))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    path = tmp_path / "images.npy"
    np.save(path, IMAGES)
    return path


def test_help_names_every_verb_and_version_is_the_packages() -> None:
    shown = command("--help")
    assert shown.returncode == 0
    for verb in ("info", "predict", "verify", "parity", "bench", "select", "doctor", "install", "status", "rollback"):
        assert f"\n  {verb} " in shown.stdout
        assert command(verb, "--help").returncode == 0
    assert command("--version").stdout == f"pennyweight {__version__}\n"
    assert command().returncode == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nonsense"], "no verb 'nonsense'"),
        (["predict"], "required: BUNDLE, IMAGE"),
        (["info", FIXTURE, "--what"], "unrecognized arguments: --what"),
        (["predict", FIXTURE, "absent.png"], "absent.png: no such file"),
        (["predict", FIXTURE, "x.npy", "--top", "0"], "--top 0"),
        (["predict", FIXTURE, "x.npy", "--threads", "0"], "threads must be"),
        (["predict", FIXTURE, "x.npy", "--threads", "two"], "invalid int value"),
        (["predict", FIXTURE, "x.npy", "--engine", "tensorrt"], "no engine 'tensorrt'"),
        (["predict", FIXTURE, "x.npy", "--artifact", "int2.tflite"], "no artifact 'int2.tflite'; it has"),
        (["verify", FIXTURE, "--artifact", "int2.tflite"], "no artifact 'int2.tflite'"),
        (["predict", FIXTURE, "a.png", "b.png", "--explain"], "--explain takes one picture"),
    ],
    ids=lambda value: " ".join(map(str, value[:1] + value[2:])) if isinstance(value, list) else "",
)
def test_wrong_use_is_one_line_and_exit_code_2(words: list[str | Path], says: str) -> None:
    assert says in one_line(command(*words), 2)


def test_predict_answers_arrays_and_pictures(images: Path, tmp_path: Path) -> None:
    result = command("predict", FIXTURE, images, "--json")
    answers = json.loads(result.stdout)["answers"]
    model = load(FIXTURE)
    assert [answer["classes"][0]["label"] for answer in answers] == [model.classify(image)[0] for image in IMAGES]
    text = command("predict", FIXTURE, images, "--top", "2").stdout.splitlines()
    assert len(text) == len(IMAGES)
    assert text[0].split("\t")[1] == answers[0]["classes"][0]["label"]
    pytest.importorskip("PIL", reason="Pillow isn't installed")
    from pennyweight.images import write_picture

    write_picture(tmp_path / "exact.png", IMAGES[0])
    strict = command("predict", FIXTURE, tmp_path / "exact.png", "--strict")
    assert strict.returncode == 0, strict.stderr
    assert strict.stdout.split("\t")[1] == answers[0]["classes"][0]["label"]
    write_picture(tmp_path / "large.png", np.zeros((48, 64, 3), np.uint8))
    assert "without --strict it is prepared" in one_line(
        command("predict", FIXTURE, tmp_path / "large.png", "--strict"), 2
    )
    prepared = command("predict", FIXTURE, tmp_path / "large.png")
    assert prepared.returncode == 0
    assert "prepared as the bundle says" in prepared.stderr
    assert command("predict", FIXTURE, tmp_path / "large.png", "--quiet").stderr == ""


def test_one_bad_picture_does_not_stop_the_others(images: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY")
    result = command("predict", FIXTURE, tmp_path / "bad.npy", images)
    assert "bad.npy: not a .npy file" in one_line(result, 2)
    assert len(result.stdout.splitlines()) == len(IMAGES)


@pytest.mark.parametrize("name", ["pickle", "text", "float", "archive"])
def test_arrays_that_are_no_images_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    if name == "archive":
        with path.open("wb") as file:
            np.savez(file, a=IMAGES)
    else:
        arrays = {"pickle": np.array([{}], object), "text": np.array(["a"]), "float": IMAGES[0] / 255}
        np.save(path, arrays[name], allow_pickle=name == "pickle")
    assert "x.npy" in one_line(command("predict", FIXTURE, path), 2)


def test_results_go_into_a_file_and_never_half(images: Path, tmp_path: Path) -> None:
    target = tmp_path / "answer.json"
    assert command("predict", FIXTURE, images, "-o", target).returncode == 0
    assert len(json.loads(target.read_text())["answers"]) == len(IMAGES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answer.json", "images.npy"]
    assert "can't be written" in one_line(command("predict", FIXTURE, images, "-o", tmp_path / "no" / "x.json"), 2)


def test_explain_shows_every_pair_and_saves_what_the_model_sees(tmp_path: Path) -> None:
    pytest.importorskip("PIL", reason="Pillow isn't installed")
    from pennyweight.images import read_picture, write_picture

    write_picture(tmp_path / "mine.png", 255 - IMAGES[0])
    result = command("predict", "--explain", FIXTURE, "mine.png", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for artifact, engine in installed_pairs():
        assert any(artifact in line and engine in line for line in result.stdout.splitlines())
    assert "chosen: float32" in result.stdout
    assert "throttling" in result.stdout
    seen, _ = read_picture(tmp_path / "mine.seen.png")
    block = seen.shape[0] // IMAGES.shape[1]
    np.testing.assert_array_equal(seen[::block, ::block], 255 - IMAGES[0])


def test_explain_names_other_work_as_the_likely_cause_of_slowness(tmp_path: Path) -> None:
    pytest.importorskip("PIL", reason="Pillow isn't installed")
    from pennyweight.images import write_picture

    write_picture(tmp_path / "mine.png", IMAGES[0])
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        # The kernel's counters tick 100 times a second: the run must last long enough for a share to show.
        result = command("predict", "--explain", FIXTURE, "mine.png", cwd=tmp_path)
    finally:
        busy.kill()
        busy.wait()
    assert result.returncode == 0, result.stderr
    # Not by its number: where still more goes on, only the busiest are named.
    assert "stop other work" in result.stdout
    assert "nothing looks wrong" not in result.stdout


def test_a_reader_that_leaves_early_is_no_error(images: Path) -> None:
    line = f"{sys.executable} -m pennyweight predict {FIXTURE} {' '.join([str(images)] * 20)} | head -n 1"
    result = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert [line for line in result.stderr.splitlines() if not line.startswith("emulated (")] == []


def test_ctrl_c_is_one_line(tmp_path: Path) -> None:
    started = [sys.executable, "-m", "pennyweight", "bench", str(FIXTURE), "--seconds", "20", "-o", "bench.json"]
    child = subprocess.Popen(started, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    time.sleep(2)
    os.killpg(child.pid, signal.SIGINT)
    _, error = child.communicate(timeout=60)
    assert child.returncode == 130
    assert [line for line in error.splitlines() if line] == ["pennyweight: interrupted; nothing was left half-written"]
    assert list(tmp_path.iterdir()) == []


HIDDEN = {
    # As an extension's import, which Ctrl-C stops, says.
    "another error": """
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt as error:
        raise ImportError("initialization failed") from error""",
    "swallowed": """
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        return 0""",
    # Python prints and drops what a destructor raises.
    "dropped": """
    class Fragile:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)
    del [Fragile()][0]
    time.sleep(60)
    return 0""",
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_ctrl_c_is_one_line_whatever_it_turns_into(kind: str) -> None:
    code = f"""import signal, time
from pennyweight import cli
def verb(arguments):{HIDDEN[kind]}
signal.signal(signal.SIGINT, signal.default_int_handler)
cli._dispatch = verb
cli.run()
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert (result.returncode, result.stdout) == (130, "")
    assert result.stderr == "pennyweight: interrupted; nothing was left half-written\n"


def test_an_ignored_ctrl_c_stays_ignored() -> None:
    code = """import signal
from pennyweight import cli
def verb(arguments):
    signal.raise_signal(signal.SIGINT)
    return 0
signal.signal(signal.SIGINT, signal.SIG_IGN)
cli._dispatch = verb
cli.run()
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_progress_is_shown_on_a_terminal_only(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "pennyweight", "bench", str(FIXTURE), "--rounds", "1", "--seconds", "0.01"]
    assert "round" not in subprocess.run(words, capture_output=True, text=True, check=False).stderr
    ours, theirs = pty.openpty()
    child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=theirs)
    child.communicate(timeout=120)
    os.close(theirs)
    assert b"round 1 of 1" in os.read(ours, 100_000)
    os.close(ours)

"""The bench: rows for every pair, whatever happens to a worker, and claims only where the figures carry them."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pennyweight import bench, engines, open_bundle
from pennyweight.bench import (
    NO_DIFFERENCE,
    Plan,
    claim,
    cold_parts,
    measure_bench,
    median_interval,
    memory,
    microseconds,
    quantile,
    quantile_interval,
    speed_up,
    step_medians,
    throughput,
)
from pennyweight.commands.bench import bench_text, duration
from pennyweight.engines import ENGINES
from pennyweight.errors import UsageError
from support import FIXTURE, command, installed_pairs, one_line

FAST = Plan(rounds=2, seconds=0.01, cold_starts=1)
PAIRS = installed_pairs()
ENGINE = PAIRS[0][1]


def silent(_: str) -> None:
    pass


def row(*medians: float, samples: int = 1000) -> dict[str, Any]:
    """Give a row with one round for each median, in nanoseconds."""
    rounds = [
        {
            "calls": samples,
            "every": 10,
            "samples": [],
            "settled": True,
            "quantiles": {"p50": one, "p90": one, "p99": one, "p99.9": one},
        }
        for one in medians
    ]
    return {"rounds": rounds, "cold_starts": []}


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    return measure_bench(open_bundle(FIXTURE), PAIRS, FAST, progress=silent)


def test_every_pair_is_measured_and_kept_raw(results: dict[str, Any]) -> None:
    assert [(one["artifact"], one["engine"]) for one in results["rows"]] == PAIRS
    for one in results["rows"]:
        assert one["status"] == "ok", one["reason"]
        assert len(one["rounds"]) == FAST.rounds
        assert len(one["cold_starts"]) == 1
        assert one["engine_version"]
        assert all(sample > 0 for timing in one["rounds"] for sample in timing["samples"])
        assert list(cold_parts(one)) == ["interpreter", "numpy", "runtime", "engine", "load", "first run", "total"]
        parts = cold_parts(one)
        assert all(value > 0 for value in parts.values())
        # One cold start: its parts are the whole.
        assert sum(parts.values()) == pytest.approx(2 * parts["total"])
        assert set(throughput(one)) == {1, 8, 64, 512}
        assert set(step_medians(one)) == {"prepare", "run", "finish"}
        if sys.platform == "linux":
            assert 10e6 < memory(one)["steady"] <= memory(one)["peak"]
    assert set(results["temperature"]) == {"start", "peak", "settled"}
    # Before the run, and after each row of each round.
    assert len(results["states"]) == 1 + len(PAIRS) * FAST.rounds
    json.dumps(results, allow_nan=False)


def test_the_table_is_made_from_the_json_alone(results: dict[str, Any]) -> None:
    text = bench_text(json.loads(json.dumps(results)))
    assert text == bench_text(results)
    for artifact, engine in PAIRS:
        assert any(line.startswith(artifact) and engine in line for line in text.splitlines())
    assert not re.search(r"(?<![\d.])0\.0+(?!\d)", text)


def test_rounds_come_in_random_order_that_the_seed_repeats() -> None:
    def order(seed: int) -> list[str]:
        lines: list[str] = []
        measure_bench(open_bundle(FIXTURE), PAIRS[:3], Plan(6, 0.001, 0, seed), progress=lines.append)
        return lines

    if len(PAIRS) < 3:
        pytest.skip("needs three pairs to have an order")
    first = order(1)
    assert first == order(1)
    rounds = [[line.partition(": ")[2] for line in first[start : start + 3]] for start in range(0, 18, 3)]
    assert all(sorted(one) == sorted(rounds[0]) for one in rounds)
    # Six rounds of three in the same order by chance: one in 7,776.
    assert len({tuple(one) for one in rounds}) > 1


@pytest.fixture
def trapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a function that puts code in front of an engine's library, in every child process."""

    def trap(code: str) -> None:
        package = tmp_path / ENGINES[ENGINE].library.partition(".")[0]
        package.mkdir()
        (package / "__init__.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))

    return trap


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed (SIGSEGV)"),
        ("import time; time.sleep(60)", "gave no answer within 3 s"),
        ("raise ImportError('no such symbol')", "its import fails"),
        ("raise SystemExit(9)", "ended without an answer"),
        ("import resource as r; r.setrlimit(r.RLIMIT_AS, (2**28, 2**28)); bytearray(2**30)", "MemoryError"),
    ],
    ids=["crash", "hang", "import", "exit", "memory"],
)
def test_a_worker_that_breaks_is_one_row_and_the_others_finish(trapped: Any, code: str, reason: str) -> None:
    trapped(code)
    tried = [PAIRS[0], *[pair for pair in PAIRS if pair[1] != ENGINE][:1]]
    results = measure_bench(open_bundle(FIXTURE), tried, FAST._replace(timeout=3.0), progress=silent)
    for one in results["rows"]:
        if one["engine"] == ENGINE:
            assert one["status"] == "failed"
            assert reason in one["reason"]
            assert one["rounds"] == []
        else:
            assert one["status"] == "ok", one["reason"]
    assert reason in bench_text(results)


def test_an_engine_that_is_not_there_is_a_row_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "is_installed", lambda name: name != ENGINE)
    results = measure_bench(open_bundle(FIXTURE), PAIRS[:1], FAST, progress=silent)
    assert results["rows"][0]["status"] == "absent"
    assert "not installed" in results["rows"][0]["reason"] or "no wheel" in results["rows"][0]["reason"]


def test_an_engine_without_a_wheel_for_this_python_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.version_info", (3, 12, 0))
    assert "no wheel" in engines.absence("tflite-runtime")
    monkeypatch.setattr("sys.version_info", (3, 11, 0))
    monkeypatch.setattr("sys.platform", "linux")
    assert "pip install tflite-runtime" in engines.absence("tflite-runtime")
    monkeypatch.setattr("platform.machine", lambda: "armv7l")
    assert "no wheel" in engines.absence("onnxruntime")


def test_a_row_without_figures_has_none_rather_than_nought() -> None:
    empty = row()
    assert quantile(empty, "p50") is None
    assert median_interval(empty) is None
    assert speed_up(row(1000.0), empty) is None
    assert claim(None) == microseconds(None) == ""


def test_a_difference_is_claimed_only_where_the_interval_excludes_one() -> None:
    noisy, other = row(1000.0, 1300.0, 900.0), row(1050.0, 1250.0, 980.0)
    assert claim(speed_up(noisy, other)) == "no measurable difference"
    slow, fast = row(2000.0, 2010.0, 1990.0), row(1000.0, 1005.0, 995.0)
    assert claim(speed_up(slow, fast)).startswith("×2.00 (1.9")
    assert claim(speed_up(fast, slow)).startswith("×0.50")
    assert "no interval" in claim(speed_up(row(2000.0), row(1000.0)))


def test_a_quantile_is_the_median_of_the_rounds_or_pooled_from_few_calls() -> None:
    assert quantile(row(1000.0, 3000.0, 2000.0), "p90") == 2000.0
    few = row(1.0, 1.0)
    for start, timing in enumerate(few["rounds"]):
        timing["quantiles"]["p99"] = None
        timing.update(every=1, samples=list(range(50 * start, 50 * start + 50)))
    assert quantile(few, "p99") == pytest.approx(98.01)
    few["rounds"][0]["samples"] = [1.0]
    assert quantile(few, "p99") is None


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(1.0, "0.001"), (87.0, "0.087"), (998.0, "1.00"), (1904.0, "1.90"), (12_340.0, "12.3"), (48_000_000.0, "48,000")],
)
def test_microseconds_keep_their_digits(nanoseconds: float, text: str) -> None:
    assert microseconds(nanoseconds) == text


def test_the_command_prints_a_table_and_writes_the_json(tmp_path: Path) -> None:
    artifact, engine = PAIRS[0]
    arguments = ["--artifact", artifact, "--engine", engine, "--rounds", "2", "--seconds", "0.01"]
    result = command("bench", FIXTURE, *arguments, "-o", tmp_path / "bench.json", "--quiet")
    assert result.returncode == 0, result.stderr
    assert artifact in result.stdout
    written = json.loads((tmp_path / "bench.json").read_text())
    assert [one["status"] for one in written["rows"]] == ["ok"]
    assert written["plan"]["rounds"] == 2


def test_the_command_exits_1_when_a_worker_broke(trapped: Any) -> None:
    trapped("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    result = command("bench", FIXTURE, "--engine", ENGINE, "--seconds", "0.01", "--rounds", "1")
    assert result.returncode == 1
    assert "crashed (SIGSEGV)" in result.stdout


@pytest.mark.parametrize(
    "wrong",
    [
        ["--rounds", "0"],
        ["--seconds", "0"],
        ["--seconds", "nan"],
        ["--threads", "0"],
        ["--threads", "1", "1"],
        ["--engine", "none"],
        ["--rate", "0"],
        ["--rate", "nan"],
        ["--for", "soon"],
        ["--for", "0m"],
        ["--memory-limit", "0"],
    ],
)
def test_wrong_use_is_one_line(wrong: list[str]) -> None:
    one_line(command("bench", FIXTURE, *wrong), 2)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1h", 3600), ("0.5", 0.5), ("1.5 m", 90)])
def test_times_are_read(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "-1m", "10 minutes", "nan", "9999h"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no time"):
        duration(text)


def test_the_command_measures_threads_a_rate_and_a_sustained_run() -> None:
    artifact, engine = PAIRS[0]
    chosen = ["--artifact", artifact, "--engine", engine, "--rounds", "2", "--seconds", "0.01", "--threads", "1", "2"]
    result = command("bench", FIXTURE, *chosen, "--rate", "500", "--for", "0.3s", "--quiet")
    assert result.returncode == 0, result.stderr
    for text in (
        "1 threads",
        "2 threads",
        "at 500 images per second",
        "late calls",
        "from s",
        "img/s at 512",
        "steady MB",
    ):
        assert text in result.stdout, text
    as_json = json.loads(command("bench", FIXTURE, *chosen, "--rate", "500", "--json").stdout)
    assert [one["threads"] for one in as_json["rows"]] == [1, 2]
    # A fifth of a hundred calls or the seconds' worth, whichever is more; two rounds need fifty each.
    assert [timing["paced"]["calls"] for timing in as_json["rows"][0]["rounds"]] == [50, 50]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can limit another process's memory")
def test_a_worker_that_eats_memory_is_one_row_that_says_so(trapped: Any) -> None:
    trapped("hoard = bytearray(2**31)")
    tried = [PAIRS[0], *[pair for pair in PAIRS if pair[1] != ENGINE][:1]]
    # Enough address space for any engine here, and not for two gigabytes more.
    results = measure_bench(open_bundle(FIXTURE), tried, FAST._replace(memory_mb=2048), progress=silent)
    for one in results["rows"]:
        assert one["status"] == ("failed" if one["engine"] == ENGINE else "ok"), one["reason"]
        assert ("ran out of memory" in one["reason"]) == (one["engine"] == ENGINE)


FAKE_ENGINE = """
import time
import numpy as np

class Interpreter:
    def __init__(self, model_content=None, num_threads=1, **_):
        self.spin = {spins}[len(model_content)]
        self.batch = 1

    def allocate_tensors(self):
        pass

    def resize_tensor_input(self, index, shape):
        self.batch = shape[0]

    def _details(self, name, index, shape, dtype):
        shape = np.array([self.batch, *shape])
        return [dict(name=name, index=index, shape=shape, shape_signature=shape, dtype=dtype, quantization=(0.0, 0))]

    def get_input_details(self):
        return self._details({to!r}, 0, (20, 20), np.uint8)

    def get_output_details(self):
        return self._details({out!r}, 1, (10,), np.float32)

    def set_tensor(self, index, array):
        pass

    def invoke(self):
        end = time.perf_counter_ns() + self.spin
        while time.perf_counter_ns() < end:
            pass

    def get_tensor(self, index):
        return np.full((self.batch, 10), 0.1, np.float32)
"""
TFLITE = [pair for pair in PAIRS if pair[0].endswith(".tflite")]


@pytest.fixture
def fake_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a function that puts an engine of known speed in a real one's place, and gives the two pairs it reads.

    It spins for the first number of nanoseconds in the first pair, and for the second in the other.
    """
    if not TFLITE:
        pytest.skip("needs an engine for .tflite files to stand in for")
    engine = TFLITE[0][1]
    manifest = open_bundle(FIXTURE).manifest

    def install(*spins: int) -> list[tuple[str, str]]:
        names = [name for name, other in TFLITE if other == engine]
        wires = manifest.artifact(names[0])
        package = tmp_path / ENGINES[engine].library.partition(".")[0]
        package.mkdir()
        (package / "__init__.py").write_text("__version__ = '0'")
        code = FAKE_ENGINE.format(
            spins={manifest.files[name].size: spin for name, spin in zip(names, spins)},
            to=wires.inputs[0].tensor,
            out=wires.outputs[0].tensor,
        )
        (package / "interpreter.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
        return [(name, engine) for name in names]

    return install


SLOW_ENOUGH = 200_000


def test_a_slowdown_of_a_tenth_in_an_engine_is_found(fake_engine: Any) -> None:
    tried = fake_engine(SLOW_ENOUGH, SLOW_ENOUGH * 11 // 10)
    plan = Plan(rounds=6, seconds=0.03, cold_starts=0, batches=())
    results = measure_bench(open_bundle(FIXTURE), tried, plan, progress=silent)
    first, second = results["rows"]
    assert second["status"] == "ok", second["reason"]
    ratio = speed_up(first, second)
    assert ratio is not None
    assert claim(ratio) != NO_DIFFERENCE
    # The call around the engine costs a few microseconds of the 200 in both, so a little less than 1.1 is right.
    assert 1.05 < 1 / ratio[0] < 1.15
    assert step_medians(first)["run"] == pytest.approx(SLOW_ENOUGH, rel=0.1)


@pytest.mark.skipif(sys.platform != "linux", reason="finds the worker in /proc")
def test_a_worker_that_is_stopped_for_a_moment_shows_in_the_last_thousandth_alone(fake_engine: Any) -> None:
    tried = fake_engine(SLOW_ENOUGH, SLOW_ENOUGH)[:1]
    done = threading.Event()
    stops = 0

    def disturb() -> None:
        nonlocal stops
        while not done.wait(0.1):
            for place in Path("/proc/self/task").glob("*/children"):
                # A thread or a child may end in between.
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    for child in map(int, place.read_text().split()):
                        os.kill(child, signal.SIGSTOP)
                        time.sleep(0.01)
                        os.kill(child, signal.SIGCONT)
                        stops += 1

    disturber = threading.Thread(target=disturb)
    disturber.start()
    try:
        plan = Plan(rounds=1, seconds=1.5, cold_starts=0, batches=())
        (one,) = measure_bench(open_bundle(FIXTURE), tried, plan, progress=silent)["rows"]
    finally:
        done.set()
        disturber.join()
    assert one["status"] == "ok", one["reason"]
    assert stops >= 10
    # A stop of 10 ms every 110 ms meets about 1 call of 500: within the last hundredth, beyond the last thousandth.
    assert (quantile(one, "p99.9") or 0) > 5_000_000
    assert one["rounds"][0]["slowest"] > 9_000_000
    assert quantile(one, "p50") == pytest.approx(SLOW_ENOUGH, rel=0.1)


def test_quantiles_have_intervals_of_rounds_or_of_order() -> None:
    # exp of the mean of the logarithms ± 4.303 (t, two degrees of freedom) × 0.5556 / √3.
    assert quantile_interval(row(1000.0, 3000.0, 2000.0), "p99") == pytest.approx((457.12, 7223.3), rel=1e-4)
    few = row(1.0, 1.0)
    for start, timing in enumerate(few["rounds"]):
        timing["quantiles"]["p90"] = None
        timing.update(every=1, samples=[float(one) for one in range(50 * start, 50 * start + 50)])
    assert quantile(few, "p90") == pytest.approx(89.1)
    interval = quantile_interval(few, "p90")
    assert interval is not None
    assert interval[0] < 90 < interval[1]
    few["rounds"][0]["every"] = 2
    assert quantile_interval(few, "p90") is None


def test_older_results_without_the_newer_figures_can_still_be_read(results: dict[str, Any]) -> None:
    older = json.loads(json.dumps(results))
    for one in older["rows"]:
        del one["sustained"]
        for timing in one["rounds"]:
            for name in ("steps", "batches", "paced", "resident_bytes", "peak_bytes", "slowest", "late"):
                del timing[name]
        for start in one["cold_starts"]:
            for name in ("interpreter_ns", "numpy_ns", "runtime_ns"):
                del start[name]
    del older["temperature"], older["busy"]
    text = bench_text(older)
    assert PAIRS[0][0] in text


def test_a_bundle_without_an_evaluation_set_is_timed(bundle: Path) -> None:
    (bundle / "evaluation.npz").unlink()
    (one,) = measure_bench(open_bundle(bundle), PAIRS[:1], FAST._replace(rounds=1), progress=silent)["rows"]
    assert one["status"] == "ok"


@pytest.mark.parametrize("verb", ["info", "verify", "select"])
def test_every_verb_says_where_an_engine_has_no_wheel(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(f"pennyweight.commands.{verb}")
    monkeypatch.setattr(module, "is_installed", lambda name: False)
    monkeypatch.setattr("platform.machine", lambda: "armv7l")
    bundle, pair = open_bundle(FIXTURE), ("float32.onnx", "onnxruntime")
    if verb == "verify":
        (found,) = module._rows(bundle, [pair])
    elif verb == "info":
        found = module._loads(bundle, *pair)
    else:
        found = module._verdict(bundle, *pair, argparse.Namespace())
    assert "no wheel" in found["reason"]
    assert "64-bit processors" in found["reason"]

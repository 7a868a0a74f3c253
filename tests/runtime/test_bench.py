"""The bench: rows for every pair, whatever happens to a worker, and claims only where the figures carry them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pennyweight import bench, open_bundle
from pennyweight.bench import Plan, claim, measure_bench, median_interval, microseconds, quantile, speed_up
from pennyweight.commands.bench import bench_text
from pennyweight.engines import ENGINES
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
            "quantiles": {"p50": one, "p90": one, "p99": one},
        }
        for one in medians
    ]
    return {"rounds": rounds}


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
    json.dumps(results, allow_nan=False)


def test_the_table_is_made_from_the_json_alone(results: dict[str, Any]) -> None:
    text = bench_text(json.loads(json.dumps(results)))
    assert text == bench_text(results)
    for artifact, engine in PAIRS:
        assert any(line.startswith(artifact) and engine in line for line in text.splitlines())
    assert "0.00" not in text


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
    assert "no wheel" in bench.absence("tflite-runtime")
    monkeypatch.setattr("sys.version_info", (3, 11, 0))
    monkeypatch.setattr("sys.platform", "linux")
    assert "pip install tflite-runtime" in bench.absence("tflite-runtime")
    monkeypatch.setattr("platform.machine", lambda: "armv7l")
    assert "no wheel" in bench.absence("onnxruntime")


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
    "wrong", [["--rounds", "0"], ["--seconds", "0"], ["--seconds", "nan"], ["--threads", "0"], ["--engine", "none"]]
)
def test_wrong_use_is_one_line(wrong: list[str]) -> None:
    one_line(command("bench", FIXTURE, *wrong), 2)

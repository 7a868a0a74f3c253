"""Comparisons: what is found, what isn't claimed, and two machines never in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from documents_support import MACHINE, bench_document, bench_row, parity_document, parity_row, write
from pennyweight.errors import InputError
from pennyweight_benchmarks.compare import compare, comparison_text
from pennyweight_benchmarks.documents import check_document
from support import command, one_line

JsonObject = dict[str, Any]


def compared(a: JsonObject, b: JsonObject, other_machine: bool = False) -> JsonObject:
    return compare([check_document(a, "a.json")], [check_document(b, "b.json")], other_machine)


def claims(result: JsonObject) -> list[str]:
    return [row["claim"] for row in result["rows"] if row["latency"]]


@pytest.mark.parametrize(("factor", "claim"), [(1.1, "worse"), (0.9, "better"), (1.0, "no measurable difference")])
def test_a_difference_of_a_tenth_is_found(factor: float, claim: str) -> None:
    result = compared(bench_document(), bench_document(factor))
    assert claims(result) == [claim, claim]
    ratio = result["rows"][0]["latency"]
    assert ratio["ratio"] == pytest.approx(factor)
    assert ratio["interval"][0] < factor < ratio["interval"][1]


def test_equal_runs_of_many_rows_rarely_differ_anywhere() -> None:
    """Of 300 comparisons of ten equal rows, some row is claimed to differ in about 15 at most; 27 is once in 1,000."""
    chance = np.random.default_rng(1)

    def run() -> JsonObject:
        rows = []
        for k in range(10):
            row = bench_row(f"{k}.tflite", "ai-edge-litert", 2)
            for one in row["rounds"]:
                one["quantiles"]["p50"] *= float(np.exp(chance.normal(0, 0.02)))
            rows.append(row)
        return bench_document(rows=rows)

    found = sum(set(claims(compared(run(), run()))) != {"no measurable difference"} for _ in range(300))
    assert found <= 27


def test_one_round_claims_nothing(tmp_path: Path) -> None:
    document = bench_document(3.0)
    for row in document["rows"]:
        row["rounds"] = row["rounds"][:1]
    result = compared(bench_document(), document)
    assert claims(result) == ["one round: no interval"] * 2
    assert result["worse"] == []
    a, b = write(tmp_path / "a.json", bench_document()), write(tmp_path / "b.json", document)
    assert command("compare", a, b, "--fail-on-regression").returncode == 3


def test_a_gate_for_regressions(tmp_path: Path) -> None:
    before = write(tmp_path / "a.json", bench_document())
    slower, same = write(tmp_path / "b.json", bench_document(1.1)), write(tmp_path / "c.json", bench_document())
    assert command("compare", before, slower).returncode == 0
    done = command("compare", before, slower, "--fail-on-regression")
    assert done.returncode == 1
    assert "×1.10" in done.stdout
    assert "2 worse" in done.stdout
    assert command("compare", before, same, "--fail-on-regression").returncode == 0
    # Faster is no regression.
    assert command("compare", slower, before, "--fail-on-regression").returncode == 0


def test_a_row_that_crashes_now_is_worse_and_one_that_is_gone_is_undecided() -> None:
    crashed = bench_document()
    crashed["rows"][1].update(status="failed", reason="crashed (SIGSEGV)", rounds=[], cold_starts=[])
    result = compared(bench_document(), crashed)
    assert result["worse"] == ["int8.tflite on ai-edge-litert"]
    assert "crashed (SIGSEGV)" in comparison_text(result)
    gone = bench_document()
    del gone["rows"][1]
    result = compared(bench_document(), gone)
    assert result["worse"] == []
    assert result["undecided"] == ["int8.tflite on ai-edge-litert"]
    assert "only in A" in comparison_text(result)


@pytest.mark.parametrize(
    ("before", "after", "worse"),
    [
        ("pass", "fail", True),
        ("pass", "inconclusive", True),
        ("inconclusive", "fail", True),
        ("fail", "pass", False),
        ("pass", "pass", False),
    ],
)
def test_a_verdict_that_got_worse(before: str, after: str, worse: bool, tmp_path: Path) -> None:
    a, b = (write(tmp_path / f"{k}.json", parity_document(word)) for k, word in enumerate((before, after)))
    done = command("compare", a, b, "--fail-on-regression", "--allow-different-machines")
    assert done.returncode == (1 if worse else 0), done.stderr
    assert f"{before} → {after}" in done.stdout


def test_different_machines_are_refused_or_said(tmp_path: Path) -> None:
    other = bench_document(machine={**MACHINE, "board": "Raspberry Pi 4 Model B Rev 1.5"})
    a, b = write(tmp_path / "a.json", bench_document()), write(tmp_path / "b.json", other)
    line = one_line(command("compare", a, b), 2)
    assert "not of one machine" in line
    assert "Raspberry Pi 4" in line
    done = command("compare", a, b, "--allow-different-machines", "--json")
    assert done.returncode == 0
    assert "Raspberry Pi 4" in json.loads(done.stdout)["machines_differ"]
    assert "DIFFERENT MACHINES" in command("compare", a, b, "--allow-different-machines").stdout


@pytest.mark.parametrize(("name", "value"), [("cpus", 2), ("architecture", "aarch64"), ("memory_mb", 4000)])
def test_what_makes_another_machine(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=name.replace("_", " ")):
        compared(bench_document(), bench_document(machine={**MACHINE, name: value}))


def test_what_cannot_be_told_is_not_taken_for_the_same_machine() -> None:
    unknown = {**MACHINE, "cpu": "unknown"}
    with pytest.raises(InputError, match="unknown"):
        compared(bench_document(machine=unknown), bench_document(machine=unknown))
    board = {**unknown, "board": "Raspberry Pi 4 Model B Rev 1.5"}
    assert compared(bench_document(machine=board), bench_document(machine=board))["machines_differ"] == ""


def test_other_conditions_and_taints_are_said() -> None:
    # A kernel update keeps a little more memory for itself, which makes no other machine.
    machine = {**MACHINE, "governor": "powersave", "memory_mb": 7900}
    taint = {"kind": "busy", "cause": "other processes used 1.0 cores", "remedy": "stop other work"}
    text = comparison_text(compared(bench_document(), bench_document(machine=machine, taints=[taint])))
    assert "governor: A performance, B powersave" in text
    assert "B is tainted: other processes used 1.0 cores; stop other work" in text


def test_a_demos_results_compare_with_a_bench() -> None:
    bench = bench_document()
    rows = [
        {"artifact": row["artifact"], "engine": row["engine"], "parity": "pass", "bytes": 9} for row in bench["rows"]
    ]
    results = {"format": "pennyweight-results", "version": 1, "bundle": "digits", "rows": rows, "bench": bench}
    assert claims(compared(results, bench_document(1.1))) == ["worse", "worse"]


def test_runs_without_a_row_in_common_are_refused(tmp_path: Path) -> None:
    other = bench_document(rows=[bench_row("other.tflite", "ai-edge-litert", 2)])
    a, b = write(tmp_path / "a.json", bench_document()), write(tmp_path / "b.json", other)
    assert "no measured row in common" in one_line(command("compare", a, b), 2)
    history = write(tmp_path / "h.json", {"format": "pennyweight-history", "version": 1, "loss": [1.0]})
    assert "neither a bench nor parity" in one_line(command("compare", a, history), 2)
    rows = parity_document(rows=[parity_row("other.tflite", "onnxruntime", 0)])
    parity = write(tmp_path / "p.json", rows)
    assert "in common" in one_line(command("compare", a, parity, "--allow-different-machines"), 2)

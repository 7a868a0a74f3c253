"""The one table: every figure from the JSON, an empty cell with its reason where there is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pennyweight.bundle import open_bundle
from pennyweight_benchmarks import make_results, results_markdown, results_text
from support import FIXTURE

MANIFEST = open_bundle(FIXTURE).manifest


@pytest.fixture
def results(bench: dict[str, Any], comparisons: dict[tuple[str, str], Any]) -> dict[str, Any]:
    return make_results(bench, comparisons, MANIFEST)


def line_of(text: str, artifact: str, engine: str) -> str:
    return next(line for line in text.splitlines() if line.lstrip("| ").startswith(artifact) and engine in line)


def test_every_row_is_there_with_its_figures(results: dict[str, Any]) -> None:
    assert len(results["rows"]) == 6
    int8 = results["rows"][3]
    assert int8["bytes"] == MANIFEST.files["int8.tflite"].size
    assert int8["flips"] == [16, 0, 1]
    assert (int8["median_ns"], int8["p99_ns"]) == (2020.0, 4040.0)
    assert int8["speed_up"] == pytest.approx(270 / 2.02)
    low, high = int8["speed_up_interval"]
    assert low < 270 / 2.02 < high


def test_the_text_is_made_from_the_json_alone(results: dict[str, Any]) -> None:
    again = json.loads(json.dumps(results, allow_nan=False))
    assert results_text(again) == results_text(results)
    assert results_markdown(again) == results_markdown(results)


def test_text_and_markdown_say_the_same(results: dict[str, Any]) -> None:
    text, markdown = results_text(results), results_markdown(results)
    for row in results["rows"]:
        cells = [cell.strip() for cell in line_of(markdown, row["artifact"], row["engine"]).strip("|").split("|")]
        line = line_of(text, row["artifact"], row["engine"])
        assert line.split() == " ".join(cell for cell in cells if cell).split()
    for note in text.rpartition("\n\n")[2].splitlines():
        assert f"- {note}" in markdown


def test_a_missing_figure_is_an_empty_cell_with_a_reason(results: dict[str, Any]) -> None:
    crashed = results["rows"][4]
    assert crashed["median_ns"] is crashed["speed_up"] is crashed["accuracy"] is None
    assert crashed["missing"]["median_ns"] == "crashed (SIGSEGV)"
    text = results_text(results)
    assert "int8.tflite on tflite-runtime: no " in text
    assert "float32.onnx on onnxruntime: no " in text
    assert "not installed" in text
    cells = line_of(results_markdown(results), "float32.onnx", "onnxruntime").strip("| ").split("|")
    assert [cell.strip() for cell in cells[3:-1]] == [""] * (len(cells) - 4)


def test_the_baseline_is_named_and_the_slow_way_is_slower(results: dict[str, Any]) -> None:
    text = results_text(results)
    assert "speed-up over tf.function" in text
    assert "baseline" in line_of(text, "model.keras", "Keras tf.function")
    assert "×0.0056" in line_of(text, "model.keras", "Keras predict")


def test_no_speed_up_is_claimed_without_a_difference(bench: dict[str, Any], comparisons: Any) -> None:
    for row, factor in zip(bench["rows"][2]["rounds"], (100, 200, 120), strict=True):
        row["quantiles"]["p50"] = 2000.0 * factor
    results = make_results(bench, comparisons, MANIFEST)
    assert results["rows"][2]["speed_up_claim"] == "no measurable difference"


def test_without_the_original_the_reason_is_given(bench: dict[str, Any], comparisons: Any) -> None:
    bench["rows"] = bench["rows"][2:]
    results = make_results(bench, comparisons, MANIFEST)
    assert results["rows"][0]["missing"]["speed_up"] == "the original wasn't measured"


def test_a_failed_verdict_and_a_taint_are_said(bench: dict[str, Any], comparisons: Any) -> None:
    comparisons["int8.tflite", "ai-edge-litert"].update(status="fail", reason="the drop is at least 3.00 points")
    text = results_text(make_results(bench, comparisons, MANIFEST))
    assert "parity fail: the drop is at least 3.00 points" in text
    assert "tainted: other processes used 1.0 cores; stop other work" in text

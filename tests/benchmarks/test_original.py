"""The original's rows: timed and compared in a process of their own, and only when it is the original."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pennyweight.bench import Plan
from pennyweight.bundle import open_bundle
from pennyweight.errors import CheckFailedError, InputError
from pennyweight_benchmarks import measure_original
from support import command, one_line

FAST = Plan(rounds=2, seconds=0.02, cold_starts=1)


def test_the_original_agrees_with_itself_in_all_three_ways(lab_file: Path, lab_bundle: Path) -> None:
    rows = measure_original(lab_file, open_bundle(lab_bundle), FAST)
    assert [row["engine"] for row in rows] == ["Keras tf.function", "Keras model(x)", "Keras predict"]
    for row in rows:
        assert row["bytes"] == lab_file.stat().st_size
        assert row["parity"]["samples"] == 10_000
        # Batches are summed in another order, which may decide a tie in ten thousand otherwise.
        assert row["parity"]["agreement"] >= 0.9999
        assert len(row["rounds"]) == 2
    medians = [min(one["quantiles"]["p50"] for one in row["rounds"]) for row in rows]
    # Each step adds Python around the same network: 270 µs, 1.8 ms, 48 ms.
    assert medians[0] < medians[1] < medians[2]
    # Each round is a process of its own, and so a cold start.
    assert len(rows[0]["cold_starts"]) == 2
    assert all(start["answered_ns"] > 1e8 for start in rows[0]["cold_starts"])


def test_the_command_adds_the_originals_rows(lab_file: Path, lab_bundle: Path) -> None:
    arguments = ["--artifact", "float32.onnx", "--rounds", "2", "--seconds", "0.02", "--quiet"]
    result = command("bench", lab_bundle, "--original", lab_file, *arguments, "--json")
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)["rows"]
    assert [row["engine"] for row in rows][-1] == "onnxruntime"
    assert len(rows) == 4


def test_another_model_is_refused(lab_bundle: Path, tmp_path: Path) -> None:
    from pennyweight_train import train

    path = tmp_path / "other.keras"
    train("lab", "digits", seed=1, epochs=1).model.save(path)
    with pytest.raises(CheckFailedError, match="answers unlike this bundle's original"):
        measure_original(path, open_bundle(lab_bundle), FAST)


def test_files_that_are_no_model_are_refused(lab_bundle: Path, tmp_path: Path) -> None:
    bundle: Any = open_bundle(lab_bundle)
    with pytest.raises(InputError, match="no such model file"):
        measure_original(tmp_path / "absent.keras", bundle, FAST)
    (tmp_path / "text.keras").write_text("not a model")
    with pytest.raises(InputError, match="not a whole Keras model"):
        measure_original(tmp_path / "text.keras", bundle, FAST)
    assert "no such model file" in one_line(command("bench", lab_bundle, "--original", tmp_path / "absent.keras"), 2)

"""What the benchmarks' tests share: a small result, made by hand, and the lab's model as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def timed(artifact: str, engine: str, microseconds: float, **more: Any) -> dict[str, Any]:
    """Give a bench's row of three rounds around a median."""
    rounds = [
        {
            "calls": 1000,
            "every": 10,
            "samples": [],
            "settled": True,
            "quantiles": {"p50": 1000 * microseconds * factor, "p90": None, "p99": 2000 * microseconds, "p99.9": None},
        }
        for factor in (0.98, 1.0, 1.02)
    ]
    row = {"artifact": artifact, "engine": engine, "engine_version": "1.0", "threads": 1}
    return {**row, "status": "ok", "reason": "", "rounds": rounds, "cold_starts": [], **more}


@pytest.fixture
def bench() -> dict[str, Any]:
    """Give a bench with the original's two rows, two artifacts that were timed, one that crashed, one absent engine."""
    broken: dict[str, Any] = {"rounds": [], "engine_version": None}
    return {
        "created": "2026-11-01T00:00:00+00:00",
        "machine": {"cpu": "a processor", "cpus": 4, "governor": "performance", "python": "3.11.7"},
        "states": [{"temperature_c": 40.0, "throttled": 0, "frequency_mhz": 1500, "load": 0.1}],
        "taints": [{"kind": "busy", "cause": "other processes used 1.0 cores", "remedy": "stop other work"}],
        "rows": [
            timed("model.keras", "Keras tf.function", 270, bytes=157_000, parity=parity(0)["figures"]),
            timed("model.keras", "Keras predict", 48_000, bytes=157_000, parity=parity(0)["figures"]),
            timed("float32.tflite", "ai-edge-litert", 2.0),
            timed("int8.tflite", "ai-edge-litert", 2.02),
            timed("int8.tflite", "tflite-runtime", 0, status="failed", reason="crashed (SIGSEGV)", **broken),
            timed("float32.onnx", "onnxruntime", 0, status="absent", reason="not installed (pip …)", **broken),
        ],
    }


def parity(lost: int, status: str = "pass") -> dict[str, Any]:
    """Give a row of the verb ``parity``."""
    figures = {
        "kind": "classification",
        "samples": 10_000,
        "accuracy": 0.9276 - lost / 10_000,
        "accuracy_interval": [0.92, 0.935],
        "agreement": 1 - lost / 10_000,
        "flips_lost": lost,
        "flips_won": 0,
        "flips_other": 1,
        "ties": 0,
    }
    return {"status": status, "reason": "the drop is small", "figures": figures}


@pytest.fixture
def comparisons() -> dict[tuple[str, str], Any]:
    """Give the parity rows that belong to ``bench``."""
    nothing = {"status": "absent", "reason": "not installed (pip …)", "figures": None}
    return {
        ("float32.tflite", "ai-edge-litert"): parity(0),
        ("int8.tflite", "ai-edge-litert"): parity(16),
        ("int8.tflite", "tflite-runtime"): {"status": "fail", "reason": "crashed (SIGSEGV)", "figures": None},
        ("float32.onnx", "onnxruntime"): nothing,
    }


@pytest.fixture(scope="session")
def lab_file(lab_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the lab's model as a .keras file."""
    path = tmp_path_factory.mktemp("model") / "model.keras"
    lab_model.save(path)
    return path

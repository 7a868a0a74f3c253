"""Results made by hand for the tests of compare and report, in the formats that the verbs write."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

JsonObject = dict[str, Any]

MACHINE = {
    "board": "unknown",
    "cpu": "a processor",
    "cpus": 4,
    "architecture": "x86_64",
    "memory_mb": 8000,
    "governor": "performance",
    "python": "3.11.7",
    "emulation": "none seen",
}
NOISE = (0.99, 1.0, 1.01, 0.995, 1.005)


def timing(median: float) -> JsonObject:
    """Give one round around a median in ns."""
    samples = [median * (0.9 + 0.002 * k) for k in range(100)]
    quantiles = {"p50": median, "p90": 1.1 * median, "p99": 1.5 * median, "p99.9": None}
    return {"calls": 1000, "every": 10, "samples": samples, "settled": True, "quantiles": quantiles}


def bench_row(artifact: str, engine: str, microseconds: float, **more: Any) -> JsonObject:
    """Give a bench's row of five rounds."""
    row: JsonObject = {"artifact": artifact, "engine": engine, "engine_version": "1.0", "threads": 1, "status": "ok"}
    row.update(reason="", rounds=[timing(1000 * microseconds * factor) for factor in NOISE])
    stamps = {"interpreter_ns": 20_000_000, "numpy_ns": 90_000_000, "answered_ns": 130_000_000}
    row["cold_starts"] = [{**stamps, "peak_bytes": 40_000_000}] * 2
    return {**row, **more}


def bench_document(factor: float = 1.0, **more: Any) -> JsonObject:
    """Give a bench of two artifacts, one absent engine; every latency is multiplied by ``factor``."""
    gone: JsonObject = {"rounds": [], "cold_starts": [], "engine_version": None}
    document: JsonObject = {
        "format": "pennyweight-bench",
        "version": 1,
        "created": "2026-11-01T00:00:00+00:00",
        "bundle": "digits",
        "machine": dict(MACHINE),
        "states": [{"temperature_c": 40.0, "throttled": 0, "frequency_mhz": 1500, "load": 0.1}],
        "taints": [],
        "rows": [
            bench_row("float32.tflite", "ai-edge-litert", 4 * factor),
            bench_row("int8.tflite", "ai-edge-litert", 2 * factor),
            bench_row("float32.onnx", "onnxruntime", 9, status="absent", reason="not installed", **gone),
        ],
    }
    return copy.deepcopy({**document, **more})


def parity_row(artifact: str, engine: str, lost: int, status: str = "pass") -> JsonObject:
    """Give a row of the verb ``parity``, on 10,000 samples of two classes."""
    accuracy = 0.93 - lost / 10_000
    figures = {
        "kind": "classification",
        "samples": 10_000,
        "reference": "labels",
        "max_drop": 0.005,
        "confidence": 0.95,
        "accuracy": accuracy,
        "accuracy_interval": [accuracy - 0.005, accuracy + 0.005],
        "agreement": 1 - lost / 10_000,
        "flips_lost": lost,
        "flips_won": 0,
        "flips_other": 0,
        "drop_interval": [0.0, 0.002],
        "machine": "x86_64",
        "classes": [{"label": "0", "samples": 10_000, "original": 0.93, "recall": accuracy}],
    }
    return {
        "artifact": artifact,
        "engine": engine,
        "engine_version": "1.0",
        "status": status,
        "reason": f"the drop is at most {lost} flips",
        "figures": figures,
    }


def parity_document(status: str = "pass", **more: Any) -> JsonObject:
    """Give the parity of the two artifacts, as the verb writes it."""
    rows = [
        parity_row("float32.tflite", "ai-edge-litert", 0),
        parity_row("int8.tflite", "ai-edge-litert", 16, status),
    ]
    return {"bundle": "digits", "max_drop": 0.005, "confidence": 0.95, "rows": rows, **more}


def write(path: Path, content: Any) -> Path:
    """Write JSON and give its path."""
    path.write_text(json.dumps(content), encoding="utf-8")
    return path

"""That `make check-cost` works, on a real target: it counts exactly, and a slowdown of the runtime trips it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import check_cost
import pennyweight
from pennyweight_benchmarks.documents import Document
from pennyweight_benchmarks.instructions.figures import spreads

pytestmark = pytest.mark.pi

TARGET = "arm64-debian12"
PAIR = ("float32.tflite", "tflite-runtime")
ROW = f"{TARGET}: {PAIR[0]} on {PAIR[1]}"
# How images are given a batch axis in many a tutorial; a view by indexing costs a fraction of it.
FAST, SLOW = "array = image[None]\n", "array = np.expand_dims(np.asarray(image), 0)\n"


@pytest.fixture(scope="module")
def today() -> Document:
    return check_cost.count([TARGET], [PAIR])


def test_two_processes_execute_exactly_the_same(today: Document) -> None:
    (row,) = today.content["rows"]
    assert (row["status"], row["reason"], row["threads"]) == ("ok", "", 1)
    assert len(row["rounds"]) == 2
    assert spreads(row)[0] == 0


def test_the_runtime_as_it_is_passes(today: Document) -> None:
    code, text = check_cost.judge(today, check_cost.count([TARGET], [PAIR]))
    assert code == 0, text
    assert "GREW" not in text


def test_a_slowdown_of_the_runtime_trips_it(today: Document, tmp_path: Path) -> None:
    slowed = tmp_path / "pennyweight"
    shutil.copytree(Path(pennyweight.__file__).parent, slowed, ignore=shutil.ignore_patterns("__pycache__"))
    source = slowed / "classification.py"
    assert source.read_text().count(FAST) == 1
    source.write_text(source.read_text().replace(FAST, SLOW))
    code, text = check_cost.judge(today, check_cost.count([TARGET], [PAIR], slowed))
    assert code == 1, text
    (grown,) = [line for line in text.splitlines() if line.startswith("GREW")]
    assert ROW in grown
    assert "classify" in grown
    assert "bare calls" not in grown  # the engine's own calls don't pass through what was slowed
    assert "renew-cost" in text

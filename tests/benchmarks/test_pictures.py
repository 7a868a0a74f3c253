"""The pictures: drawn whole, and with names that stay readable."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation, Text
from PIL import Image

from pennyweight_benchmarks import pictures

CHANCE = np.random.default_rng(1)
IMAGES = CHANCE.integers(0, 256, (200, 20, 20), np.uint8)
TRUTH = CHANCE.integers(0, 10, 200)
LABELS = tuple("0123456789")


def probabilities(wrong: int) -> Any:
    answers = np.eye(10, dtype=np.float32)[TRUTH] * 0.9 + 0.01
    answers[:wrong] = np.roll(answers[:wrong], 1, axis=1)
    return answers


def drawn(path: Path) -> tuple[int, int]:
    """Give a picture's size, having made sure that something is on it."""
    with Image.open(path) as picture:
        assert len(picture.convert("L").getcolors() or range(999)) > 10
        return picture.size


def test_the_digits_are_drawn(tmp_path: Path) -> None:
    pictures.digits_picture(tmp_path / "digits.png", IMAGES, TRUTH, probabilities(20), LABELS)
    width, height = drawn(tmp_path / "digits.png")
    assert width > 600
    assert height > 600


@pytest.mark.parametrize("shape", [(28, 28, 1), (24, 16, 3)])
def test_other_shapes_of_pictures_are_drawn(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = CHANCE.integers(0, 256, (200, *shape), np.uint8)
    pictures.digits_picture(tmp_path / "digits.png", images, TRUTH, probabilities(20), LABELS)
    drawn(tmp_path / "digits.png")


@pytest.mark.parametrize(("wrong", "shown"), [(150, 100), (7, 7)])
def test_the_most_confident_errors_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: int, shown: int
) -> None:
    said: dict[str, Any] = {}
    monkeypatch.setattr(
        pictures, "_gallery", lambda _, title, images, captions, *rest: said.update(t=title, c=captions)
    )
    answers = probabilities(wrong)
    answers[3] = 0
    answers[3, (TRUTH[3] + 5) % 10] = 0.99
    pictures.errors_picture(tmp_path / "errors.png", IMAGES, TRUTH, answers, LABELS)
    assert said["t"].startswith(f"{wrong} of 200 test images")
    assert len(said["c"]) == shown
    assert said["c"][0] == f"{TRUTH[3]} → {(TRUTH[3] + 5) % 10}  99 %"


@pytest.mark.parametrize("wrong", [0, 7, 150])
def test_the_errors_are_drawn_even_when_there_are_none(tmp_path: Path, wrong: int) -> None:
    pictures.errors_picture(tmp_path / "errors.png", IMAGES, TRUTH, probabilities(wrong), LABELS)
    assert (tmp_path / "errors.png").stat().st_size > 1000


def test_confusion_and_loss_are_drawn(tmp_path: Path) -> None:
    pictures.confusion_picture(tmp_path / "confusion.png", TRUTH, probabilities(30), LABELS, "Confusion")
    pictures.loss_picture(tmp_path / "loss.png", [1.7, 0.5, 0.1, 0.03])
    pictures.loss_picture(tmp_path / "one.png", [1.7])
    for name in ("confusion.png", "loss.png", "one.png"):
        drawn(tmp_path / name)


def result(medians: list[float]) -> dict[str, Any]:
    rows = [
        {
            "artifact": f"model-{index}.tflite",
            "engine": ["ai-edge-litert", "tflite-runtime", "onnxruntime", "Keras predict"][index % 4],
            "accuracy": 0.92,
            "accuracy_interval": [0.915, 0.925],
            "median_ns": median,
        }
        for index, median in enumerate(medians)
    ]
    nothing = {"artifact": "x", "engine": "y", "accuracy": None, "accuracy_interval": None, "median_ns": None}
    return {"rows": [*rows, nothing]}


@pytest.mark.parametrize(
    "medians",
    [[2000.0], [2000.0] * 5, [1990, 2000, 2010, 4000, 6000, 270_000, 1_800_000, 48_000_000], [5, 5.1, 900_000]],
)
def test_names_never_overlap_and_stay_on_the_picture(medians: list[float]) -> None:
    figure = pictures.trade_off_figure(result(medians))
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    figure.draw(renderer)
    names = [child for child in figure.axes[0].get_children() if isinstance(child, Annotation)]
    assert len(names) == len(medians)
    # Of the text alone: an annotation's own extent has its line in it, and lines may cross.
    boxes = [Text.get_window_extent(name, renderer) for name in names]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    for box in boxes:
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1

"""The verb ``export`` through the real command: what it prints, and one line with exit code 2 for every bad input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pennyweight import open_bundle
from pennyweight_data import Dataset
from pennyweight_export.recipes import RECIPES
from support import command, one_line


@pytest.fixture(scope="module")
def files(tiny_model: Any, data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a good ``model.keras`` and ``data.npz``."""
    folder = tmp_path_factory.mktemp("files")
    tiny_model.save(folder / "model.keras")
    save(folder / "data.npz", data)
    return folder


def save(path: Path, data: Dataset, **changes: Any) -> None:
    arrays = {name: getattr(data, name) for name in ("x_train", "y_train", "x_test", "y_test")}
    np.savez(path, **{**arrays, **changes})


def test_a_bundle_is_written_and_a_table_printed(files: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    arguments: list[str | Path] = [
        files / "model.keras",
        "--data",
        files / "data.npz",
        "-o",
        output,
        "--labels",
        "dark,dim,light",
    ]
    result = command("export", *arguments, "--evaluation", "all", "--name", "blobs")
    assert result.returncode == 0, result.stderr
    manifest = open_bundle(output).manifest
    assert manifest.name == "blobs"
    assert manifest.outputs[0].labels == ("dark", "dim", "light")
    for spec in manifest.artifacts:
        for record in spec.engines:
            line = next(
                line for line in result.stdout.splitlines() if line.startswith(spec.name) and record.engine in line
            )
            assert f"{record.figures['accuracy']:.2%}" in line
            assert line.endswith(record.verdict or "")
            assert record.verdict == "pass" or (spec.precision, record.engine) == ("dynamic-int8", "tflite-runtime")
    notices = result.stderr.splitlines()
    assert "the model's layers see values from 0 to 1" in notices
    assert any("the original is right on" in line for line in notices)
    # TensorFlow's own chatter would be other lines.
    assert all(
        line.startswith(("importing", "the ", "calibration: ", "trying ", *(f"{recipe.name}: " for recipe in RECIPES)))
        for line in notices
    ), result.stderr


def test_json_and_quiet(files: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("dark\ndim\nlight\n")
    output = tmp_path / "out.pennyweight"
    arguments: list[str | Path] = [
        files / "model.keras",
        "--data",
        files / "data.npz",
        "-o",
        output,
        "--labels",
        labels,
    ]
    result = command("export", *arguments, "--json", "--quiet", "--evaluation", "none")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    content = json.loads(result.stdout)
    assert content["bundle"] == str(output)
    assert content["manifest"]["outputs"][0]["labels"] == ["dark", "dim", "light"]
    assert [artifact["name"] for artifact in content["manifest"]["artifacts"]] == [
        recipe.name for recipe in RECIPES if recipe.default
    ]


def test_too_little_evaluation_data_is_inconclusive(files: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    result = command("export", files / "model.keras", "--data", files / "data.npz", "-o", output, "--evaluation", "30")
    assert result.returncode == 3, result.stderr
    assert "samples would decide" in result.stderr
    assert open_bundle(output).check() == []


Damage = Callable[[Path, Dataset], list[Any]]


def no_model(folder: Path, data: Dataset) -> list[Any]:
    (folder / "model.keras").unlink()
    return []


def no_data(folder: Path, data: Dataset) -> list[Any]:
    (folder / "data.npz").unlink()
    return []


def output_exists(folder: Path, data: Dataset) -> list[Any]:
    (folder / "out").mkdir()
    return []


def empty_model(folder: Path, data: Dataset) -> list[Any]:
    (folder / "model.keras").write_bytes(b"")
    return []


def text_model(folder: Path, data: Dataset) -> list[Any]:
    (folder / "model.keras").write_text("no model at all")
    return []


def truncated_model(folder: Path, data: Dataset) -> list[Any]:
    whole = (folder / "model.keras").read_bytes()
    (folder / "model.keras").write_bytes(whole[: len(whole) // 2])
    return []


def other_zip_model(folder: Path, data: Dataset) -> list[Any]:
    shutil.copy(folder / "data.npz", folder / "model.keras")
    return []


def damaged_weights(folder: Path, data: Dataset) -> list[Any]:
    import zipfile

    with zipfile.ZipFile(folder / "model.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["model.weights.h5"] = members["model.weights.h5"][:500]
    with zipfile.ZipFile(folder / "model.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return []


def no_arrays(folder: Path, data: Dataset) -> list[Any]:
    np.savez(folder / "data.npz", pictures=data.x_train)
    return []


def other_shape(folder: Path, data: Dataset) -> list[Any]:
    save(folder / "data.npz", data, x_train=data.x_train[:, :5], x_test=data.x_test[:, :5])
    return []


def class_too_many(folder: Path, data: Dataset) -> list[Any]:
    save(folder / "data.npz", data, y_train=data.y_train + 1, y_test=data.y_test + 1)
    return []


def fewer_answers(folder: Path, data: Dataset) -> list[Any]:
    save(folder / "data.npz", data, y_train=data.y_train[:-1])
    return []


def not_a_number(folder: Path, data: Dataset) -> list[Any]:
    values = data.x_test.astype(np.float32)
    values[3, 2, 1] = np.nan
    save(folder / "data.npz", data, x_train=data.x_train.astype(np.float32), x_test=values)
    return []


QUICK: list[tuple[Damage, str]] = [
    (no_model, "no such model"),
    (empty_model, "the model file is empty"),
    (text_model, "not a whole .keras file"),
    (truncated_model, "not a whole .keras file"),
    (other_zip_model, "not a .keras file"),
    (no_data, "data.npz"),
    (no_arrays, "x_train"),
    (fewer_answers, "149"),
    (not_a_number, "nan"),
    (output_exists, "exists already"),
    (lambda folder, data: ["-o", folder / "nowhere" / "out"], "doesn't exist; make it first"),
    (lambda folder, data: ["--labels", "nowhere.txt"], "nowhere.txt"),
    (lambda folder, data: ["--evaluation", "some"], "a number of samples, all or none"),
    (lambda folder, data: ["--calibration", "many"], "invalid int value"),
]
# Only TensorFlow can tell, and its import takes seconds.
SLOW: list[tuple[Damage, str]] = [
    (damaged_weights, "save it again"),
    (other_shape, "the model takes (6, 6)"),
    (class_too_many, "classes from 1 to 3, the model has 0..2"),
    (lambda folder, data: ["--labels", "dark,light"], "2 labels (dark, light) for 3 classes"),
    (lambda folder, data: ["--scale", "0.1"], "takes uint8 pixels itself"),
]


@pytest.mark.parametrize(("damage", "says"), [*QUICK, *SLOW], ids=lambda value: value if isinstance(value, str) else "")
def test_bad_input_is_one_line_and_nothing_is_left(
    files: Path, data: Dataset, tmp_path: Path, damage: Damage, says: str
) -> None:
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    changes = damage(tmp_path, data)
    output: list[str | Path] = [] if "-o" in changes else ["-o", tmp_path / "out"]
    before = sorted(tmp_path.rglob("*"))
    result = command("export", tmp_path / "model.keras", "--data", tmp_path / "data.npz", *output, *changes)
    assert says in one_line(result, 2)
    assert result.stdout == ""
    assert sorted(tmp_path.rglob("*")) == before

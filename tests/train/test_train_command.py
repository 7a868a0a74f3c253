from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from pennyweight.cli import main
from support import command, one_line


@pytest.fixture(scope="module")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "small.npz"
    y = np.arange(100) % 3
    x = np.clip(random.integers(0, 100, (100, 8, 8)) + 60 * y[:, None, None], 0, 255).astype(np.uint8)
    np.savez(path, x_train=x, y_train=y, x_test=x[:30], y_test=y[:30])
    return path


def test_it_writes_a_model_and_its_history_and_prints_the_errors(tmp_path: Path, small_data: Path) -> None:
    place = tmp_path / "model.keras"
    result = command("train", "lab", "--data", small_data, "--epochs", "3", "--seed", "5", "-o", place)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.history.json", "model.keras"]
    history = json.loads((tmp_path / "model.history.json").read_text())
    assert (history["recipe"], history["seed"], history["epochs"], history["data"]) == ("lab", 5, 3, str(small_data))
    assert len(history["loss"]) == len(history["accuracy"]) == 3
    assert f"{100 - history['train_errors']:,} of 100 right" in result.stdout
    assert f"{30 - history['test_errors']:,} of 30 right" in result.stdout
    # Not a terminal: one notice, and none of TensorFlow's.
    assert result.stderr.splitlines() == [f"training lab on {small_data}, seed 5"]

    import keras

    from pennyweight_train import count_errors

    model = keras.models.load_model(place)
    with np.load(small_data) as arrays:
        assert count_errors(model, arrays["x_train"], arrays["y_train"]) == history["train_errors"]
        assert count_errors(model, arrays["x_test"], arrays["y_test"]) == history["test_errors"]


def test_json_is_the_history_with_the_places(
    tmp_path: Path, small_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "model.keras"
    arguments = ["train", "cnn", "--data", str(small_data), "--epochs", "1", "-o", str(place), "--json", "--quiet"]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert printed.err == ""
    assert result.pop("model") == str(place)
    history_place = Path(result.pop("history"))
    assert result == json.loads(history_place.read_text())


def test_what_exists_is_refused_unless_forced(tmp_path: Path, small_data: Path) -> None:
    place = tmp_path / "model.keras"
    place.write_text("precious")
    arguments = ["train", "--data", str(small_data), "--epochs", "1", "-o", str(place), "--quiet"]
    assert "exists already; --force replaces it" in one_line(command(*arguments), 2)
    assert place.read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]
    assert main([*arguments, "--force"]) == 0
    assert place.read_bytes()[:2] == b"PK"


def test_an_old_history_is_refused_too(tmp_path: Path, small_data: Path) -> None:
    (tmp_path / "model.history.json").write_text("precious")
    arguments = ["train", "--data", str(small_data), "-o", str(tmp_path / "model.keras")]
    assert "model.history.json: exists already" in one_line(command(*arguments), 2)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["best", "-o", "m.keras"], "no recipe 'best'; there are lab, cnn"),
        (["lab", "-o", "m.h5"], "m.h5: a model's name ends in .keras"),
        (["lab", "-o", "nowhere/m.keras"], "there is no folder nowhere"),
        (["lab"], "-o"),
        (["lab", "--epochs", "0", "-o", "m.keras"], "0 epochs"),
        (["lab", "--seed", "-3", "-o", "m.keras"], "seed -3"),
        (["lab", "--seed", "many", "-o", "m.keras"], "many"),
        (["cnn", "--data", "lab", "-o", "m.keras"], "recipe cnn: samples of shape (400,) are no images"),
        (["lab", "--data", "nonsense", "-o", "m.keras"], "nonsense: no such file, folder or data set"),
        (["lab", "--image-shape", "big", "-o", "m.keras"], "--image-shape big: write 32x32"),
    ],
)
def test_wrong_use_is_one_line_and_leaves_nothing(tmp_path: Path, arguments: list[str], says: str) -> None:
    assert says in one_line(command("train", *arguments, cwd=tmp_path), 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_can_not_be_written_is_refused_before_the_training(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "can't be written to" in one_line(command("train", "-o", tmp_path / "m.keras"), 2)


def test_a_model_that_fails_to_save_leaves_nothing(tmp_path: Path) -> None:
    from pennyweight.errors import OutputError
    from pennyweight_train.command import save_model

    class Full:
        def save(self, path: Path) -> None:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")

    place = tmp_path / "m.keras"
    place.write_text("precious")
    with pytest.raises(OutputError, match="No space left on device"):
        save_model(Full(), place)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("m.keras", "precious")]

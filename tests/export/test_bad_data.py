"""Data that can't be exported with, through the real command: one line, exit code 2, and nothing is left."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pennyweight_data import Dataset
from support import one_line

from .forked import Forked
from .test_command import save

Damage = Callable[[Path, Dataset], None]


@pytest.fixture(scope="module")
def forked() -> Iterator[Forked]:
    with Forked() as server:
        yield server


@pytest.fixture(scope="module")
def files(tiny_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    tiny_model.save(folder / "model.keras")
    return folder


def cut_off(path: Path, data: Dataset) -> None:
    save(path, data)
    path.write_bytes(path.read_bytes()[:30_000])


def one_bit(path: Path, data: Dataset) -> None:
    save(path, data)
    content = bytearray(path.read_bytes())
    content[3000] ^= 1
    path.write_bytes(content)


def damaged_compressed(path: Path, data: Dataset) -> None:
    np.savez_compressed(path, x_train=data.x_train, y_train=data.y_train, x_test=data.x_test, y_test=data.y_test)
    content = bytearray(path.read_bytes())
    content[3000:3100] = bytes(100)
    path.write_bytes(content)


def all_in_the_test_part(path: Path, data: Dataset) -> None:
    save(path, data, x_test=np.concatenate([data.x_train, data.x_test[150:]]))


def changed(**changes: Callable[[Any], Any]) -> Damage:
    """Give the damage that some arrays were changed so."""
    return lambda path, data: save(
        path, data, **{name: change(getattr(data, name)) for name, change in changes.items()}
    )


def with_nan(x: Any) -> Any:
    floats = x.astype(np.float32)
    floats[12, 3, 4] = np.nan
    return floats


def same(x: Any) -> Any:
    return np.full_like(x, 7)


def one_hot(y: Any) -> Any:
    return np.eye(3, dtype=int)[y]


def as_floats(x: Any) -> Any:
    return x / np.float32(255)


CASES: list[tuple[str, Damage, list[str], str]] = [
    ("cut off", cut_off, [], "truncated or damaged"),
    ("one bit", one_bit, [], "x_train is damaged"),
    ("damaged, compressed", damaged_compressed, [], "is damaged"),
    ("NaN", changed(x_train=with_nan, x_test=as_floats), [], "x_train[12, 3, 4] is nan"),
    ("constant", changed(x_train=same), [], "150 calibration samples drawn from x_train are all the same"),
    ("too few", changed(x_train=lambda x: x[:9], y_train=lambda y: y[:9]), [], "9 calibration samples"),
    ("asked too few", changed(), ["--calibration", "9"], "ask for at least 10"),
    ("all in the test part", all_in_the_test_part, [], "every training sample is a test sample too"),
    ("floats for pixels", changed(x_train=as_floats, x_test=as_floats), [], "the model takes uint8 pixels"),
    ("beyond pixels", changed(x_train=lambda x: x.astype(np.int32) * 3, x_test=np.int32), [], "outside 0..255"),
    ("two dtypes", changed(x_train=as_floats), [], "float32"),
    ("another shape", changed(x_train=lambda x: x[:, :5], x_test=lambda x: x[:, :5]), [], "(5, 6)"),
    ("shapes apart", changed(x_test=lambda x: x[:, :5]), [], "they must be alike"),
    ("a class too many", changed(y_train=lambda y: y + 1, y_test=lambda y: y + 1), [], "classes from 1 to 3"),
    ("negative class", changed(y_test=lambda y: y - 1), [], "y_test[0] is -1"),
    ("one-hot", changed(y_train=one_hot, y_test=one_hot), [], "np.argmax(y, axis=1) turns one-hot rows into class"),
    ("one-hot in one part", changed(y_train=lambda y: one_hot(y) * 1.0), [], "both class numbers or both targets"),
    ("text", changed(y_train=lambda y: y.astype(str)), [], "y_train is <U21"),
    ("two names", changed(), ["--labels", "dark,light"], "2 labels"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "options", "says"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_bad_data_are_one_line_and_nothing_is_left(
    forked: Forked, files: Path, data: Dataset, tmp_path: Path, damage: Damage, options: list[str], says: str
) -> None:
    place = tmp_path / "place"
    shutil.copytree(files, place)
    damage(place / "data.npz", data)
    before = sorted(place.rglob("*"))
    arguments = [place / "model.keras", "--data", place / "data.npz", "-o", place / "out", *options]
    line = one_line(result := forked.run("export", *map(str, arguments), log=tmp_path), 2)
    print(line)
    assert says in line
    assert result.stdout == ""
    assert sorted(place.rglob("*")) == before

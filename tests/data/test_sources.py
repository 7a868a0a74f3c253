from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.io

from pennyweight.errors import InputError
from pennyweight_data import load_data
from support import command, one_line

Array = npt.NDArray[Any]

RANDOM = np.random.default_rng(0)
X = RANDOM.integers(0, 256, (40, 5, 6), np.uint8)
Y = np.arange(40) % 4
ARRAYS = {"x_train": X, "y_train": Y, "x_test": X[:8], "y_test": Y[:8]}


def npz(folder: Path, **changed: Array | None) -> Path:
    """Write the usual arrays with some changed, added or, with None, left out."""
    arrays: dict[str, Any] = {name: array for name, array in {**ARRAYS, **changed}.items() if array is not None}
    np.savez(folder / "data.npz", **arrays)
    return folder / "data.npz"


def idx(array: Array, code: int = 8) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def idx_folder(folder: Path, separator: str = "-", ending: str = "") -> Path:
    for part, count in (("train", 40), ("t10k", 8)):
        for kind, array in (("images{}idx3-ubyte", X[:count]), ("labels{}idx1-ubyte", Y[:count])):
            content = gzip.compress(idx(array)) if ending else idx(array)
            (folder / f"{part}-{kind.format(separator)}{ending}").write_bytes(content)
    return folder


class TestNpz:
    def test_four_arrays_are_taken_as_they_are(self, tmp_path: Path) -> None:
        data = load_data(npz(tmp_path))
        assert np.array_equal(data.x_train, X)
        assert np.array_equal(data.y_test, Y[:8])
        assert data.classes == 4

    def test_without_a_test_part_one_is_split_off(self, tmp_path: Path) -> None:
        data = load_data(npz(tmp_path, x_test=None, y_test=None), seed=5)
        assert "seed 5" in data.split_note
        assert np.bincount(data.y_test).tolist() == [2] * 4

    def test_targets_of_a_regression_work(self, tmp_path: Path) -> None:
        floats = X.astype(np.float32) / 255
        data = load_data(npz(tmp_path, y_train=floats, y_test=floats[:8]))
        assert np.array_equal(data.y_train, floats)
        assert data.classes is None

    @pytest.mark.parametrize(
        ("changed", "says"),
        [
            ({"y_train": None}, "holds x_train, x_test, y_test; it needs x_train and y_train"),
            ({"y_test": None}, "both or none of x_test and y_test"),
            ({"x_train": None, "y_train": None, "x_test": None, "y_test": None}, "holds nothing"),
            ({"x_train": np.array([{}, {}])}, "x_train holds pickled objects"),
            ({"y_train": Y[:39]}, "x_train has 40 rows, y_train 39"),
        ],
    )
    def test_missing_pickled_and_unequal_arrays_are_refused(
        self, tmp_path: Path, changed: dict[str, Array | None], says: str
    ) -> None:
        with pytest.raises(InputError, match=says):
            load_data(npz(tmp_path, **changed))

    def test_another_file_under_the_name_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "data.npz").write_bytes(b"something else")
        with pytest.raises(InputError, match=r"not an \.npz file"):
            load_data(tmp_path / "data.npz")

    def test_changed_bytes_are_noticed(self, tmp_path: Path) -> None:
        path = npz(tmp_path)
        content = bytearray(path.read_bytes())
        content[300] ^= 1
        path.write_bytes(content)
        with pytest.raises(InputError, match="x_train is damaged"):
            load_data(path)


class TestLabFiles:
    @staticmethod
    def write(folder: Path, x: Array, y: Array) -> Path:
        np.save(folder / "X.npy", x)
        np.save(folder / "y.npy", y)
        return folder

    def test_a_folder_is_read_and_split(self, tmp_path: Path) -> None:
        x = X.reshape(40, 30) / 255
        data = load_data(self.write(tmp_path, x, Y.reshape(-1, 1).astype(float)))
        assert data.x_train.shape == (32, 30)
        assert data.y_train.dtype == np.int64
        assert "stratified split" in data.split_note
        for row, label in zip(data.x_test, data.y_test, strict=True):
            assert Y[np.flatnonzero((x == row).all(axis=1))[0]] == label

    def test_what_is_not_usable_is_refused(self, tmp_path: Path) -> None:
        x = X.reshape(40, 30) / 255
        with pytest.raises(InputError, match=r"y\.npy\[3\] is 3\.5; labels must be whole numbers"):
            load_data(self.write(tmp_path, x, np.where(Y == 3, 3.5, Y)))
        with pytest.raises(InputError, match="x_train has 40 rows, y_train 39"):
            load_data(self.write(tmp_path, x, Y[:39]))
        np.save(tmp_path / "y.npy", np.array([{}]), allow_pickle=True)
        with pytest.raises(InputError, match="pickled objects"):
            load_data(tmp_path)
        (tmp_path / "y.npy").write_bytes(b"")
        with pytest.raises(InputError, match=r"y\.npy: not readable"):
            load_data(tmp_path)
        (tmp_path / "y.npy").unlink()
        with pytest.raises(InputError, match=r"y\.npy: missing"):
            load_data(tmp_path)
        with pytest.raises(InputError, match="give its folder"):
            load_data(tmp_path / "X.npy")

    def test_matlabs_ten_is_the_digit_zero(self, tmp_path: Path) -> None:
        y = np.repeat(np.array([10, 1, 2, 3, 4, 5, 6, 7, 8, 9]), 10)
        x = np.repeat(y % 10, 3).reshape(100, 3).astype(float)
        scipy.io.savemat(tmp_path / "ex3data1.mat", {"X": x, "y": y.reshape(-1, 1).astype(np.uint8)})
        data = load_data(tmp_path / "ex3data1.mat")
        assert np.array_equal(data.x_train[:, 0], data.y_train)
        assert sorted(set(data.y_test)) == list(range(10))

    def test_other_labels_in_a_matlab_file_are_left_alone(self, tmp_path: Path) -> None:
        scipy.io.savemat(tmp_path / "own.mat", {"X": X.reshape(40, 30), "y": (Y * 10 // 3).reshape(-1, 1)})
        assert set(load_data(tmp_path / "own.mat").y_train) == {0, 3, 6, 10}

    def test_matlab_files_that_are_none_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "own.mat"
        scipy.io.savemat(path, {"images": X, "y": Y})
        with pytest.raises(InputError, match="holds images, y; it needs X and y"):
            load_data(path)
        path.write_bytes(path.read_bytes()[:200])
        with pytest.raises(InputError, match="damaged"):
            load_data(path)
        path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + b"\0" * 512)
        with pytest.raises(InputError, match="save it with -v7"):
            load_data(path)


class TestIdx:
    @pytest.mark.parametrize("separator", ["-", "."])
    @pytest.mark.parametrize("ending", ["", ".gz"])
    def test_every_way_to_name_them_is_read(self, tmp_path: Path, separator: str, ending: str) -> None:
        data = load_data(idx_folder(tmp_path, separator, ending))
        assert np.array_equal(data.x_train, X)
        assert np.array_equal(data.y_test, Y[:8])
        assert data.x_train.dtype == np.uint8

    def test_without_a_test_part_one_is_split_off(self, tmp_path: Path) -> None:
        for path in idx_folder(tmp_path).glob("t10k*"):
            path.unlink()
        assert "stratified split" in load_data(tmp_path).split_note

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (idx(X)[:-1], "truncated"),
            (idx(X)[:9], "truncated in its header"),
            (idx(X) + b"\0", "too long"),
            (b"\1" + idx(X)[1:], "not an idx file"),
            (b"", "not an idx file"),
            (idx(X, code=0x0D), "0x0d"),
            (gzip.compress(idx(X))[:-9], "gzip data is damaged"),
            (idx(X[:39]), "x_train has 39 rows, y_train 40"),
        ],
    )
    def test_damaged_files_are_refused(self, tmp_path: Path, content: bytes, says: str) -> None:
        (idx_folder(tmp_path) / "train-images-idx3-ubyte").write_bytes(content)
        with pytest.raises(InputError, match=says):
            load_data(tmp_path)

    @pytest.mark.parametrize(
        ("gone", "says"),
        [
            (["train-labels-idx1-ubyte"], "train-images-idx3-ubyte is there, train-labels-idx1-ubyte isn't"),
            (["train-labels-idx1-ubyte", "train-images-idx3-ubyte"], "no train-images-idx3-ubyte"),
            (["t10k-images-idx3-ubyte"], "t10k-labels-idx1-ubyte is there, t10k-images-idx3-ubyte isn't"),
        ],
    )
    def test_a_missing_file_is_named(self, tmp_path: Path, gone: list[str], says: str) -> None:
        for name in gone:
            (idx_folder(tmp_path) / name).unlink(missing_ok=True)
        for name in gone:
            (tmp_path / name).unlink(missing_ok=True)
        with pytest.raises(InputError, match=says):
            load_data(tmp_path)

    def test_one_of_them_alone_asks_for_the_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="give its folder"):
            load_data(idx_folder(tmp_path) / "train-images-idx3-ubyte")


class TestNames:
    def test_what_is_not_there_lists_the_names(self) -> None:
        with pytest.raises(InputError, match="no such file, folder or data set; the names are digits, lab, mnist"):
            load_data("nonsense")

    @pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
    def test_what_can_be_no_name_is_refused(self, name: str) -> None:
        with pytest.raises(InputError, match="no possible name") as caught:
            load_data(name)
        assert len(str(caught.value)) <= 300

    def test_an_empty_name_is_not_the_working_folder(self) -> None:
        with pytest.raises(InputError, match="empty name"):
            load_data("")

    def test_a_name_goes_before_a_folder_of_that_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "digits").mkdir()
        idx_folder(tmp_path / "digits")
        assert load_data("digits").name == "digits"
        assert len(load_data("./digits").x_train) == 40

    def test_an_empty_file_or_another_kind_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "data.npz").write_bytes(b"")
        with pytest.raises(InputError, match="empty"):
            load_data(tmp_path / "data.npz")
        (tmp_path / "data.csv").write_text("1,2\n")
        with pytest.raises(InputError, match="not a data set by itself"):
            load_data(tmp_path / "data.csv")


class TestKerasDatasets:
    def test_its_cache_is_used(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import keras

        parts = ((X, Y), (X[:8], Y[:8]))
        monkeypatch.setattr(keras.datasets.fashion_mnist, "load_data", lambda: parts)
        data = load_data("fashion_mnist")
        assert data.labels is not None
        assert data.labels[9] == "Ankle boot"
        assert np.array_equal(data.x_train, X)

    def test_no_network_is_one_line_that_says_so(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        import keras

        def fail() -> None:
            print("Downloading data from somewhere")
            raise Exception("URL fetch failure: None -- name resolution failed")

        monkeypatch.setattr(keras.datasets.cifar10, "load_data", fail)
        with pytest.raises(InputError, match=r"cifar10: Keras couldn't fetch it .*name resolution failed.*network"):
            load_data("cifar10")
        assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"y_train": None}, "it needs x_train and y_train"),
        ({"y_train": Y[:5]}, "x_train has 40 rows, y_train 5"),
        ({"y_test": np.full(8, 4)}, "y_test[0] is 4; the classes are 0…3"),
        ({"x_train": np.where(X[0, 0, 0] == X, np.nan, X)}, "x_train[0, 0, 0] is nan"),
    ],
)
def test_bad_data_end_the_command_with_one_line(tmp_path: Path, changed: dict[str, Array | None], says: str) -> None:
    path = npz(tmp_path, **changed)
    line = one_line(command("train", "--data", path, "-o", tmp_path / "model.keras"), 2)
    assert says in line
    assert str(path) in line
    assert list(tmp_path.iterdir()) == [path]

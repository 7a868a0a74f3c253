"""Data sets that stay in their files: the same values, the same checks, and little memory."""

from __future__ import annotations

import gzip
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pennyweight.errors import InputError
from pennyweight_data import Rows, load_data, pieces

from .test_sources import ARRAYS, X, Y, idx, idx_folder, npz

Array = npt.NDArray[Any]
Source = Callable[[Path], Path]


def compressed(folder: Path, **changed: Array) -> Path:
    np.savez_compressed(folder / "data.npz", **{**ARRAYS, **changed})
    return folder / "data.npz"


def without_test_part(folder: Path) -> Path:
    return npz(folder, x_test=None, y_test=None)


def npy_folder(folder: Path) -> Path:
    np.save(folder / "X.npy", X.astype(">f4"))
    np.save(folder / "y.npy", Y)
    return folder


def pictures(folder: Path) -> Path:
    for part, rows in (("train", range(40)), ("test", range(8))):
        for row in rows:
            place = folder / part / str(Y[row])
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(X[row]).save(place / f"{row:02}.png")
    return folder


def picture_classes(folder: Path) -> Path:
    return pictures(folder) / "train"


SOURCES: list[Source] = [
    npz,
    compressed,
    without_test_part,
    npy_folder,
    idx_folder,
    lambda folder: idx_folder(folder, ending=".gz"),
    pictures,
    picture_classes,
]
NAMES = ["npz", "compressed", "split", "npy", "idx", "idx.gz", "pictures", "split-pictures"]


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_what_stays_in_the_file_has_the_values_of_what_is_read(source: Source, tmp_path: Path) -> None:
    place = source(tmp_path)
    read, left = load_data(place), load_data(place, memory=0)
    assert (left.split_note, left.classes) == (read.split_note, read.classes)
    for part in ("train", "test"):
        wanted, rows = getattr(read, f"x_{part}"), getattr(left, f"x_{part}")
        assert isinstance(wanted, np.ndarray)
        assert isinstance(rows, Rows)
        np.testing.assert_array_equal(getattr(left, f"y_{part}"), getattr(read, f"y_{part}"))
        assert (rows.shape, rows.dtype, rows.ndim, rows.nbytes) == (
            wanted.shape,
            wanted.dtype,
            wanted.ndim,
            wanted.nbytes,
        )
        np.testing.assert_array_equal(np.asarray(rows), wanted)
        # Backwards, far apart, close together, twice, none: a stream must find each again.
        for index in ([5, 2, 7], [0, 7], [1, 2, 3, 4], [3, 3, 3], [], [7, 6, 5, 4, 3, 2, 1, 0]):
            chosen = np.array(index, np.int64)
            np.testing.assert_array_equal(rows[chosen], wanted[chosen])
        for cut in (slice(2, 5), slice(0, 2), slice(None), slice(-3, None), slice(5, 2), slice(None, None, 3)):
            np.testing.assert_array_equal(rows[cut], wanted[cut])
        assert (rows.min(), rows.max()) == (wanted.min(), wanted.max())
        changed = rows.reshape(-1, wanted[0].size, 1).astype(np.float32)
        np.testing.assert_array_equal(
            changed[1:3], wanted.reshape(-1, wanted[0].size, 1)[1:3].astype(np.float32), strict=True
        )


def test_parts_up_to_the_limit_are_read_and_larger_ones_stay(tmp_path: Path) -> None:
    data = load_data(npz(tmp_path), memory=X[:8].nbytes)
    assert isinstance(data.x_train, Rows)
    assert isinstance(data.x_test, np.ndarray)


def test_targets_stay_in_the_file_too(tmp_path: Path) -> None:
    targets = X.astype(np.float32) / 255
    data = load_data(npz(tmp_path, y_train=targets, y_test=targets[:8]), memory=0)
    assert isinstance(data.y_train, Rows)
    np.testing.assert_array_equal(np.asarray(data.y_train), targets)


def test_what_is_stored_column_by_column_is_read(tmp_path: Path) -> None:
    data = load_data(npz(tmp_path, x_train=np.asfortranarray(X)), memory=0)
    np.testing.assert_array_equal(data.x_train, X)


def test_rows_of_another_number_of_values_are_refused(tmp_path: Path) -> None:
    rows = load_data(npz(tmp_path), memory=0).x_train
    for shape in ((40, 31), (39, 30)):
        with pytest.raises(ValueError, match="can't be reshaped"):
            rows.reshape(*shape)


def test_a_table_of_pieces_is_the_whole(tmp_path: Path) -> None:
    big = np.arange(3 * 5000).reshape(5000, 3)
    arrays: dict[str, Any] = {"x_train": big, "y_train": big[:, 0] * 0.5, "x_test": big[:1], "y_test": np.zeros(1)}
    found = list(pieces(load_data(npz(tmp_path, **arrays), memory=0).x_train))
    assert len(found) == 2
    np.testing.assert_array_equal(np.concatenate(found), big)
    np.testing.assert_array_equal(np.concatenate(list(pieces(big))), big)


@pytest.mark.parametrize("write", [npz, compressed], ids=["stored", "compressed"])
@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"x_train": np.where(np.arange(40)[:, None, None] == 33, np.inf, X)}, r"x_train\[33, 0, 0\] is inf"),
        ({"y_train": np.where(Y == 2, np.nan, Y)}, r"y_train\[2\] is nan"),
        ({"y_train": Y[:39]}, "x_train has 40 rows, y_train 39"),
        ({"y_train": Y - 1}, r"y_train\[0\] is -1"),
        ({"x_test": X[:8, :, :2]}, "they must be alike"),
        ({"x_train": X[:0], "y_train": Y[:0]}, "x_train is empty"),
        ({"x_train": X.astype("U3")}, "x_train is <U3"),
        ({"x_train": np.array(3)}, "x_train has shape"),
        ({"x_train": np.array([{}, {}])}, "pickled objects"),
    ],
)
def test_what_stays_in_the_file_is_checked_as_if_it_were_read(
    tmp_path: Path, write: Callable[..., Path], changed: dict[str, Array], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        load_data(write(tmp_path, **changed), memory=0)


@pytest.mark.parametrize("memory", [0, None])
@pytest.mark.parametrize("write", [npz, compressed], ids=["stored", "compressed"])
def test_one_changed_bit_anywhere_in_an_array_is_noticed(
    tmp_path: Path, write: Callable[..., Path], memory: int | None
) -> None:
    path = write(tmp_path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("x_train.npy")
    start = info.header_offset + 200
    for at in range(start, info.header_offset + info.compress_size, info.compress_size // 20):
        content = bytearray(whole)
        content[at] ^= 4
        path.write_bytes(content)
        with pytest.raises(InputError, match="x_train is damaged"):
            load_data(path, memory=memory)


@pytest.mark.parametrize("write", [npz, compressed], ids=["stored", "compressed"])
def test_an_npz_cut_off_anywhere_says_so(tmp_path: Path, write: Callable[..., Path]) -> None:
    path = write(tmp_path)
    whole = path.read_bytes()
    for size in range(10, len(whole), len(whole) // 17):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match="truncated or damaged"):
            load_data(path, memory=0)


def test_an_npy_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    path = npy_folder(tmp_path) / "X.npy"
    whole = path.read_bytes()
    for size in range(1, len(whole), len(whole) // 17):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"X\.npy: not readable as \.npy"):
            load_data(tmp_path, memory=0)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (gzip.compress(idx(X)[:-1]), "truncated"),
        (gzip.compress(idx(X) + b"\0"), "too long"),
        (gzip.compress(idx(X))[:-1], "damaged"),
        (gzip.compress(idx(X))[:200], "damaged"),
        (gzip.compress(idx(X)[:9]), "truncated in its header"),
    ],
)
def test_a_gzipped_idx_file_is_held_to_its_header(tmp_path: Path, content: bytes, says: str) -> None:
    (idx_folder(tmp_path, ending=".gz") / "train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(InputError, match=says):
        load_data(tmp_path, memory=0)


def test_a_damaged_picture_is_found_when_the_data_are_opened(tmp_path: Path) -> None:
    picture = pictures(tmp_path) / "test" / "3" / "07.png"
    picture.write_bytes(picture.read_bytes()[:60])
    with pytest.raises(InputError, match=r"07\.png: not an image, or a damaged one"):
        load_data(tmp_path, memory=0)


def test_a_file_that_is_cut_off_while_it_is_read_is_one_error(tmp_path: Path) -> None:
    path = npz(tmp_path)
    data = load_data(path, memory=0)
    with path.open("r+b") as file:
        file.truncate(300)
    with pytest.raises(InputError, match="x_train: truncated"):
        np.asarray(data.x_train)


def test_what_stays_in_the_file_takes_little_memory(tmp_path: Path) -> None:
    rows = 200_000
    with (tmp_path / "X.npy").open("wb") as file:
        layout: Any = np.lib.format
        layout.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (rows, 28, 28)})
        file.truncate(file.tell() + rows * 28 * 28)  # a hole, which reads as zeros
    np.save(tmp_path / "y.npy", np.arange(rows, dtype=np.uint8) % 10)
    tracemalloc.start()
    data = load_data(tmp_path, memory=2**20)
    labels = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    assert np.concatenate([data.x_train[start : start + 1000].max(axis=(1, 2)) for start in (0, 100_000)]).max() == 0
    assert sum(len(piece) for piece in pieces(data.x_test)) == len(data.x_test)
    peak = tracemalloc.get_traced_memory()[1] - labels
    tracemalloc.stop()
    assert data.x_train.nbytes + data.x_test.nbytes > 140 * 2**20
    # A piece is 16 MiB at most, and beside it are the rows read around it and a mask.
    assert peak <= 4 * 16 * 2**20, peak

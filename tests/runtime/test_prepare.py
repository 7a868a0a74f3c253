"""Frames from cameras and files. Numbers here are worked out by hand; Keras' own are compared in tests/house."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pennyweight.errors import InputError, UsageError
from pennyweight.manifest import ImagePreparation, InputSpec
from pennyweight.prepare import prepare

RGB = InputSpec("image", (4, 6, 3), "uint8", (0, 255), ImagePreparation("rgb", 4, 6))
GRAY = InputSpec("image", (4, 6), "uint8", (0, 255), ImagePreparation("gray", 4, 6))
FRAME = np.random.default_rng(5).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def with_image(spec: InputSpec, **changes: Any) -> InputSpec:
    assert spec.image is not None
    return spec._replace(image=spec.image._replace(**changes))


def test_a_frame_that_fits_is_handed_on_as_it_is() -> None:
    assert prepare(FRAME, "rgb", RGB) is FRAME
    gray = np.ascontiguousarray(FRAME[:, :, 0])
    assert prepare(gray, "gray", GRAY) is gray


def test_channel_orders_come_out_alike() -> None:
    alpha = np.full((4, 6, 1), 7, np.uint8)
    for colour, frame in {
        "bgr": FRAME[:, :, ::-1],
        "rgba": np.concatenate([FRAME, alpha], axis=2),
        "bgra": np.concatenate([FRAME[:, :, ::-1], alpha], axis=2),
    }.items():
        np.testing.assert_array_equal(prepare(frame, colour, RGB), FRAME)
        np.testing.assert_array_equal(prepare(frame, colour, GRAY), prepare(FRAME, "rgb", GRAY))


def test_the_wrong_colour_gives_another_picture() -> None:
    assert (prepare(FRAME, "bgr", RGB) != FRAME).any()
    assert (prepare(FRAME, "bgr", GRAY) != prepare(FRAME, "rgb", GRAY)).any()


def test_gray_is_luma_and_rgb_from_gray_repeats() -> None:
    primaries = np.zeros((4, 6, 3), np.uint8)
    primaries[0, 0], primaries[0, 1], primaries[0, 2], primaries[0, 3] = (
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
        (255,) * 3,
    )
    # 0.299, 0.587 and 0.114 of 255.
    assert prepare(primaries, "rgb", GRAY)[0, :4].tolist() == [76, 150, 29, 255]
    gray = FRAME[:, :, 0]
    np.testing.assert_array_equal(prepare(gray, "gray", RGB), np.repeat(gray[:, :, None], 3, axis=2))


def test_padded_rows_and_other_strides() -> None:
    padded = np.zeros((4, 64, 3), np.uint8)
    padded[:, :6] = FRAME
    np.testing.assert_array_equal(prepare(padded[:, :6], "rgb", RGB), FRAME)
    np.testing.assert_array_equal(prepare(np.asfortranarray(FRAME), "bgr", RGB), FRAME[:, :, ::-1])
    planar = np.ascontiguousarray(FRAME.transpose(2, 0, 1))
    np.testing.assert_array_equal(prepare(planar.transpose(1, 2, 0), "bgr", RGB), FRAME[:, :, ::-1])


def test_halving_averages_when_antialiased_and_takes_the_middle_when_not() -> None:
    ramp = np.tile(np.arange(0, 96, 8, dtype=np.uint8), (8, 1))
    smooth = prepare(ramp, "gray", GRAY)
    plain = prepare(ramp, "gray", with_image(GRAY, antialias=False))
    # Away from the borders a symmetric kernel leaves a ramp as it is: the mean of each pair.
    assert smooth[0, 1:-1].tolist() == [20, 36, 52, 68]
    assert plain[0].tolist() == [4, 20, 36, 52, 68, 84]
    assert prepare(ramp, "gray", with_image(GRAY, resize="nearest"))[0].tolist() == [8, 24, 40, 56, 72, 88]


def test_crop_and_pad_keep_the_ratio_of_sides() -> None:
    wide = np.zeros((4, 12), np.uint8)
    wide[:, 3:9] = 200
    assert (prepare(wide, "gray", with_image(GRAY, fit="crop")) == 200).all()
    tall = np.full((8, 6), 200, np.uint8)
    padded = prepare(tall, "gray", with_image(GRAY, fit="pad", pad_value=9))
    # Eight rows of six become twelve columns, three of them padding on each side; halved, one and a half.
    assert padded[1].tolist()[0] == 9
    assert padded[1].tolist()[5] == 9
    assert padded[1].tolist()[2:4] == [200, 200]
    assert (prepare(tall, "gray", GRAY) == 200).all()


def test_a_constant_picture_stays_constant() -> None:
    for shape in [(1, 1), (3, 500), (481, 639), (5, 7)]:
        for change in ({"fit": "stretch"}, {"fit": "crop"}, {"antialias": False}, {"resize": "nearest"}):
            assert (prepare(np.full(shape, 131, np.uint8), "gray", with_image(GRAY, **change)) == 131).all()


def test_a_float_model_gets_its_range() -> None:
    spec = GRAY._replace(dtype="float32", range=(-1.0, 1.0))
    gray = np.zeros((4, 6), np.uint8)
    gray[0, 0] = 255
    prepared = prepare(gray, "gray", spec)
    assert prepared.dtype == np.float32
    assert prepared[0, 0] == 1.0
    assert prepared[1, 1] == -1.0


@pytest.mark.parametrize(
    ("image", "colour", "error"),
    [
        (FRAME, "cmyk", UsageError),
        (FRAME, "gray", InputError),
        (FRAME, "rgba", InputError),
        (FRAME[:, :, 0], "rgb", InputError),
        (FRAME / 255, "rgb", InputError),
        (np.zeros((0, 6, 3), np.uint8), "rgb", InputError),
        ([[1, 2]], "gray", InputError),
        (None, "gray", InputError),
    ],
)
def test_what_does_not_fit_its_colour_is_refused(image: Any, colour: str, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        prepare(image, colour, RGB)
    assert "\n" not in str(caught.value)


def test_a_model_without_pictures_says_so() -> None:
    with pytest.raises(UsageError, match="is no image"):
        prepare(FRAME, "rgb", InputSpec("x", (4,), "float32"))


def test_files_are_read_upright_and_bad_ones_named(tmp_path: Path) -> None:
    image_module = pytest.importorskip("PIL.Image", reason="Pillow isn't installed")
    from pennyweight.images import read_picture, write_picture

    upright = np.zeros((40, 60, 3), np.uint8)
    upright[:10, :10] = 255
    exif = image_module.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter turn clockwise
    sideways = np.ascontiguousarray(np.rot90(upright))
    image_module.fromarray(sideways).save(tmp_path / "phone.jpg", exif=exif, quality=100, subsampling=0)
    pixels, colour = read_picture(tmp_path / "phone.jpg")
    assert (colour, pixels.shape) == ("rgb", upright.shape)
    # A JPEG of quality 100 is off by a few levels at an edge.
    assert abs(pixels.astype(int) - upright).max() <= 12
    write_picture(tmp_path / "a.png", upright)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png")[0], upright)
    for name, content in {
        "empty.png": b"",
        "text.png": b"hello",
        "half.png": (tmp_path / "a.png").read_bytes()[:60],
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            read_picture(tmp_path / name)
    with pytest.raises(InputError, match="no such file"):
        read_picture(tmp_path / "absent.png")


@pytest.mark.parametrize(
    ("mode", "colour"), [("1", "gray"), ("L", "gray"), ("P", "rgb"), ("LA", "rgba"), ("CMYK", "rgb")]
)
def test_every_mode_of_picture_is_read(tmp_path: Path, mode: str, colour: str) -> None:
    image_module = pytest.importorskip("PIL.Image", reason="Pillow isn't installed")
    from pennyweight.images import read_picture

    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    image_module.new(mode, (5, 3)).save(path)
    pixels, got = read_picture(path)
    assert (got, pixels.shape[:2], pixels.dtype) == (colour, (3, 5), np.uint8)


def test_sixteen_bit_pictures_keep_their_brightness(tmp_path: Path) -> None:
    image_module = pytest.importorskip("PIL.Image", reason="Pillow isn't installed")
    from pennyweight.images import read_picture

    deep = np.array([[0, 32768, 65535]], np.uint16)
    image_module.fromarray(deep).save(tmp_path / "deep.png")
    assert read_picture(tmp_path / "deep.png")[0].tolist() == [[0, 128, 255]]

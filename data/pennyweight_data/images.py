"""A folder of images, one subfolder a class, in the order that Keras' ``image_dataset_from_directory`` gives them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pennyweight.errors import InputError, UsageError

from .dataset import Dataset, make_dataset
from .rows import Rows, settled

if TYPE_CHECKING:
    from PIL import Image

UInt8 = npt.NDArray[np.uint8]
Int64 = npt.NDArray[np.int64]

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
GREY_MODES = ("1", "L")
ORIENTATION = 0x0112  # the EXIF tag; its values 5…8 turn the picture by a quarter
QUARTER_TURNS = (5, 6, 7, 8)


def load_images(folder: Path, seed: int, shape: tuple[int, ...] | None, memory: int | None = None) -> Dataset:
    """Read a folder of images per class as (n, *shape) uint8, classes numbered in the order of their sorted names.

    Subfolders ``train`` and ``test``, each with the same classes in it, are the two parts; otherwise all is split with
    ``seed``. ``shape`` is (height, width) or (height, width, 1) for grey and (height, width, 3) for RGB; images of
    another size are resized, bilinear. Without it they must be of one size, and are grey, (height, width), where all
    files are. Pictures are turned as their EXIF says. A part of more than ``memory`` bytes isn't kept but decoded
    whenever it is asked for. Raise InputError on a folder without images, a file that is none, sizes that differ, or
    16-bit and floating-point pictures.
    """
    train, test = folder / "train", folder / "test"
    parts = [train, test] if train.is_dir() and test.is_dir() else [folder]
    labels = _classes(parts[0])
    odd = sorted(set(labels).symmetric_difference(_classes(parts[-1])))
    if odd:
        raise InputError(f"{folder}: classes that train and test don't share: {', '.join(odd)}; make them the same")
    listings = [_listing(part, labels) for part in parts]
    shape = shape or _common_shape([path for paths, _ in listings for path in paths])
    # Settled before the split, so that no picture is decoded twice.
    pairs = [(settled(_Decoded(paths, shape), memory), numbers) for paths, numbers in listings]
    held_out = pairs[1] if len(pairs) == 2 else None
    note = "the folder's own test part"
    return make_dataset(str(folder), pairs[0], held_out, labels=labels, split_note=note, seed=seed, memory=memory)


def _classes(folder: Path) -> list[str]:
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise InputError(f"{folder}: no data in it; one subfolder of images for each class is needed")
    return names


def _listing(folder: Path, labels: list[str]) -> tuple[list[Path], Int64]:
    """Give every image's path, class by class and sorted within, and their class numbers."""
    paths: list[Path] = []
    numbers: list[int] = []
    for number, label in enumerate(labels):
        found = [
            Path(root) / name
            for root, _, names in sorted(os.walk(folder / label))
            for name in sorted(names)
            if name.lower().endswith(SUFFIXES)
        ]
        if not found:
            raise InputError(f"{folder / label}: no images in it ({' '.join(SUFFIXES)}); add some or remove the folder")
        paths += found
        numbers += [number] * len(found)
    return paths, np.array(numbers, np.int64)


def _common_shape(paths: list[Path]) -> tuple[int, ...]:
    sizes: dict[tuple[int, int], Path] = {}
    grey = True
    for path in paths:
        with _opened(path) as image:
            width, height = image.size
            turned = image.getexif().get(ORIENTATION) in QUARTER_TURNS
            sizes.setdefault((width, height) if turned else (height, width), path)
            grey = grey and image.mode in GREY_MODES
    if len(sizes) > 1:
        (first, one), (second, other) = list(sizes.items())[:2]
        raise InputError(
            f"{other}: {second[0]}×{second[1]} pixels where {one.name} has {first[0]}×{first[1]}; "
            "say the shape wanted, as in --image-shape 32x32x3"
        )
    size = next(iter(sizes))
    return size if grey else (*size, 3)


class _Decoded(Rows):
    """Pictures that are decoded when they are asked for."""

    gap_bytes = 0

    def __init__(self, paths: list[Path], shape: tuple[int, ...]) -> None:
        if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3)) or min(shape) < 1:
            raise UsageError(f"image shape {shape}: give height and width, and 1 or 3 channels")
        super().__init__((len(paths), *shape), np.uint8)
        self._paths = paths

    def _read(self, start: int, stop: int) -> UInt8:
        images = np.empty((stop - start, *self.shape[1:]), np.uint8)
        for index, path in enumerate(self._paths[start:stop]):
            images[index] = _pixels(path, self.shape[1:]).reshape(self.shape[1:])
        return images


def _pixels(path: Path, shape: tuple[int, ...]) -> UInt8:
    from PIL import Image, ImageOps

    with _opened(path) as image:
        picture = ImageOps.exif_transpose(image).convert("RGB" if shape[2:] == (3,) else "L")
    size = (shape[1], shape[0])
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(picture)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                raise InputError(f"{path}: pixels of mode {image.mode}; store 8 bits a channel")
            yield image
    except InputError:
        raise
    except Exception as error:
        # Pillow's decoders raise whatever they meet in a damaged file.
        raise InputError(f"{path}: not an image, or a damaged one; replace or remove it") from error

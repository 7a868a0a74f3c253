"""From a picture or camera frame to the model's input, as the manifest says, in numpy.

Resizing follows ``tf.image.resize`` (half-pixel centres; antialiased: the triangle stretched by the scale and its
weights renormalised at the borders). Cropping and padding follow Keras' ``crop_to_aspect_ratio`` and
``pad_to_aspect_ratio``. Gray is ITU-R BT.601 luma in Pillow's fixed-point form. Alpha is dropped, as Keras does.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from .errors import InputError, UsageError
from .manifest import ImagePreparation, InputSpec

Array = Any  # np.ndarray[Any, Any] can't be subscripted at run time on numpy 1.21
CHANNELS = {"gray": 1, "rgb": 3, "bgr": 3, "rgba": 4, "bgra": 4}


def prepare(image: Array, colour: str, spec: InputSpec) -> Array:
    """Give a picture as the model's input.

    Args:
        image: uint8, (H, W) or (H, W, 1) for gray, (H, W, 3) for rgb and bgr, (H, W, 4) for rgba and bgra; any
            strides, so a view that leaves out a camera's row padding will do.
        colour: what the channels are: "gray", "rgb", "bgr", "rgba" or "bgra".
        spec: the model's input with its image preparation.

    Returns:
        An array of the input's shape and dtype; the very same object where nothing had to be done.

    Raises:
        UsageError: an unknown colour, or a model whose input is no image.
        InputError: a shape or dtype that doesn't fit the colour.
    """
    if spec.image is None:
        raise UsageError(f"input {spec.name!r} is no image; give its values as an array of shape {spec.shape}")
    pixels = _checked(image, colour)
    if colour == spec.image.colour and image.shape == spec.shape and spec.dtype == "uint8":
        return image
    pixels = _resized(_fitted(_coloured(pixels, colour, spec.image.colour), spec.image), spec.image)
    return _as_input(pixels, spec)


def _checked(image: Array, colour: str) -> Array:
    if colour not in CHANNELS:
        raise UsageError(f"colour {colour!r}; the colours are {', '.join(CHANNELS)}")
    shape = getattr(image, "shape", None)
    if shape is None or getattr(image, "dtype", None) != np.uint8:
        kind = getattr(image, "dtype", type(image).__name__)
        raise InputError(f"a picture is a uint8 array, got {kind}; give the pixels as the camera or file has them")
    if len(shape) == 2 and colour == "gray":
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] != CHANNELS[colour] or 0 in image.shape:
        raise InputError(f"a {colour} picture has {CHANNELS[colour]} channels, got shape {shape}; name its real colour")
    return image


def _coloured(pixels: Array, colour: str, wanted: str) -> Array:
    if colour == wanted:
        return pixels
    if colour == "gray":
        return np.repeat(pixels, 3, axis=2)
    red, green, blue = (0, 1, 2) if colour.startswith("rgb") else (2, 1, 0)
    if wanted == "rgb":
        return pixels[:, :, [red, green, blue]]
    channels = pixels.astype(np.uint32)
    luma = (channels[..., red] * 19595 + channels[..., green] * 38470 + channels[..., blue] * 7471 + 0x8000) >> 16
    return luma.astype(np.uint8)[:, :, None]


def _fitted(pixels: Array, how: ImagePreparation) -> Array:
    """Cut or pad the picture, about its centre, to the wanted ratio of sides."""
    height, width = pixels.shape[:2]
    if how.fit == "crop":
        new_height, new_width = (
            min(height, max(1, width * how.height // how.width)),
            min(width, max(1, height * how.width // how.height)),
        )
        top, left = (height - new_height) // 2, (width - new_width) // 2
        return pixels[top : top + new_height, left : left + new_width]
    if how.fit == "pad":
        top = (max(height, width * how.height // how.width) - height) // 2
        left = (max(width, height * how.width // how.height) - width) // 2
        canvas = np.full((height + 2 * top, width + 2 * left, pixels.shape[2]), how.pad_value, np.uint8)
        canvas[top : top + height, left : left + width] = pixels
        return canvas
    return pixels


def _resized(pixels: Array, how: ImagePreparation) -> Array:
    """Give uint8 pixels of the wanted size: rows first, as that leaves the least to do for a wide picture."""
    height, width = pixels.shape[:2]
    if (height, width) == (how.height, how.width):
        return pixels
    if how.resize == "nearest":
        rows, columns = _nearest(height, how.height), _nearest(width, how.width)
        return pixels[rows][:, columns]
    tall = _weighted(pixels, *_taps(height, how.height, how.antialias))
    wide = _weighted(tall.transpose(1, 0, 2), *_taps(width, how.width, how.antialias)).transpose(1, 0, 2)
    return np.clip(np.rint(wide), 0, 255).astype(np.uint8)


def _nearest(size: int, wanted: int) -> Array:
    return np.minimum(((np.arange(wanted) + 0.5) * size / wanted).astype(np.intp), size - 1)


@lru_cache(maxsize=16)
def _taps(size: int, wanted: int, antialias: bool) -> tuple[Array, Array]:
    """Give, per output position, the source positions (wanted, k) and their weights (wanted, k), float32."""
    scale = size / wanted
    stretch = max(scale, 1.0) if antialias else 1.0
    centres = (np.arange(wanted) + 0.5) * scale - 0.5
    if not antialias:
        centres = np.clip(centres, 0, size - 1)
    first = np.floor(centres - stretch).astype(np.intp)
    positions = first[:, None] + np.arange(int(np.ceil(2 * stretch)) + 2)
    weights = np.maximum(0.0, 1.0 - np.abs(positions - centres[:, None]) / stretch)
    weights[(positions < 0) | (positions >= size)] = 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    return np.clip(positions, 0, size - 1), weights.astype(np.float32)


def _weighted(pixels: Array, positions: Array, weights: Array) -> Array:
    """Sum over the taps along the first axis, float32; a tap at a time, so that no array is larger than the result."""
    total = np.zeros((len(positions), *pixels.shape[1:]), np.float32)
    for tap in range(positions.shape[1]):
        if weights[:, tap].any():
            total += pixels[positions[:, tap]] * weights[:, tap, None, None]
    return total


def _as_input(pixels: Array, spec: InputSpec) -> Array:
    shaped = np.ascontiguousarray(pixels.reshape(spec.shape))
    if spec.dtype == "uint8":
        return shaped
    low, high = spec.range or (0.0, 255.0)
    return (shaped.astype(np.float32) * np.float32((high - low) / 255) + np.float32(low)).astype(spec.dtype)

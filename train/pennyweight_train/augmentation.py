"""Small random changes of images, so that few of them teach more; used while training, never part of a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ._keras import keras

# Each is drawn evenly from ± its value. Chosen on the digits; at 20 pixels a shift of 0.08 is 1.6 pixels.
ROTATION = np.deg2rad(12)
LOG_ZOOM = 0.12
SHEAR = 0.15
SHIFT = 0.08


def augment(images: npt.NDArray[Any], random: np.random.Generator) -> npt.NDArray[Any]:
    """Turn, zoom, shear and shift every image a little, each in its own way.

    ``images`` is (n, height, width) or (n, height, width, channels); the result has the same shape and dtype.
    Resampling is bilinear and the edge is repeated beyond the border.
    """
    flat = images.ndim == 3
    changed = keras.ops.image.affine_transform(
        images[..., None] if flat else images,
        _transforms(len(images), images.shape[1:3], random),
        interpolation="bilinear",
        fill_mode="nearest",
        data_format="channels_last",
    )
    result = np.asarray(keras.ops.convert_to_numpy(changed))
    return result[..., 0] if flat else result


def _transforms(count: int, size: tuple[int, ...], random: np.random.Generator) -> npt.NDArray[np.float32]:
    """Give the (count, 8) projective transforms from output to input coordinates that ``affine_transform`` takes."""
    height, width = size
    angle = random.uniform(-ROTATION, ROTATION, count)
    zoom_x, zoom_y = np.exp(random.uniform(-LOG_ZOOM, LOG_ZOOM, (2, count)))
    shear = random.uniform(-SHEAR, SHEAR, count)
    shift = random.uniform(-SHIFT, SHIFT, (count, 2)) * (width, height)
    cosine, sine = np.cos(angle), np.sin(angle)
    matrix = np.array([[cosine * zoom_x, shear - sine * zoom_y], [sine * zoom_x, cosine * zoom_y]]).transpose(2, 0, 1)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = centre - matrix @ centre + shift
    rows = np.concatenate([matrix, offset[:, :, None]], axis=2).reshape(count, 6)
    transforms: npt.NDArray[np.float32] = np.concatenate([rows, np.zeros((count, 2))], axis=1).astype(np.float32)
    return transforms

"""MATLAB's ``imresize`` for stacks of grey images, as two matrix products."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]


def imresize(images: npt.NDArray[Any], size: int) -> Float64:
    """Shrink or enlarge images as MATLAB's ``imresize(image, [size size], "bicubic")`` does.

    ``images`` is (n, height, width), any real dtype, and the result (n, size, size) float64 in the same units. Bicubic
    overshoots: the result can leave the range of the input. The kernel is Keys' cubic with a = −0.5 (R. Keys, "Cubic
    convolution interpolation for digital image processing", 1981); when shrinking it is stretched by the scale, which
    is what MATLAB's documentation calls antialiasing; beyond the border the edge pixel is repeated.
    """
    count, height, width = images.shape
    # One product over all rows at once is many times faster than n small ones.
    rows = images.reshape(count * height, width).astype(np.float64) @ resize_matrix(width, size).T
    result: Float64 = resize_matrix(height, size) @ rows.reshape(count, height, size)
    return result


@functools.cache
def resize_matrix(source: int, target: int) -> Float64:
    """Give the (target, source) matrix of float64 that resizes a line of pixels as ``imresize`` says; rows sum to 1."""
    scale = target / source
    stretch = min(scale, 1.0)
    # MATLAB's centres: output pixel i (from 1) lies at i / scale + (1 − 1 / scale) / 2 in the input.
    centres = np.arange(1, target + 1) / scale + 0.5 * (1 - 1 / scale)
    width = 4 / stretch
    first = np.floor(centres - width / 2)
    taps = first[:, None] + np.arange(int(np.ceil(width)) + 2)
    weights = stretch * _cubic(stretch * (centres[:, None] - taps))
    weights /= weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((target, source))
    pixels = np.clip(taps.astype(np.int64) - 1, 0, source - 1)
    np.add.at(matrix, (np.arange(target)[:, None], pixels), weights)
    matrix.setflags(write=False)
    return matrix


def _cubic(x: Float64) -> Float64:
    near = np.abs(x)
    inner = 1.5 * near**3 - 2.5 * near**2 + 1
    outer = -0.5 * near**3 + 2.5 * near**2 - 4 * near + 2
    return np.where(near <= 1, inner, np.where(near <= 2, outer, 0.0))

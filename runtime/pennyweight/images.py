"""Pictures from files. The only module that uses Pillow, and only when a picture is read or written."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np

from .errors import InputError, OutputError, UsageError

Array = Any  # np.ndarray[Any, Any] can't be subscripted at run time on numpy 1.21
_DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_COLOURS = {"L": "gray", "RGB": "rgb", "RGBA": "rgba"}


def read_picture(path: str | os.PathLike[str]) -> tuple[Array, str]:
    """Read a PNG, JPEG or other picture file, turned upright as its EXIF says.

    Returns:
        uint8 pixels (H, W), (H, W, 3) or (H, W, 4), and their colour: "gray", "rgb" or "rgba".

    Raises:
        InputError: the file is missing, no picture, damaged, or so large that it could be a bomb.
        UsageError: Pillow isn't installed.
    """
    pillow, operations = _pillow()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pillow.DecompressionBombWarning)
            with pillow.open(path) as opened:
                picture = operations.exif_transpose(opened)
                if picture.mode in _DEEP:  # Pillow's own conversion clips at 255
                    return (np.asarray(picture) >> 8).astype(np.uint8), "gray"
                if picture.mode not in _COLOURS:
                    picture = picture.convert(_mode(picture.mode))
                return np.asarray(picture), _COLOURS[picture.mode]
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; give a picture or a .npy file") from error
    except (pillow.DecompressionBombWarning, pillow.DecompressionBombError) as error:
        raise InputError(f"{path}: far too many pixels for a picture; make it smaller first") from error
    except Exception as error:
        raise InputError(f"{path}: not a picture that Pillow can read; give a PNG, JPEG or .npy file") from error


def write_picture(path: str | os.PathLike[str], pixels: Array) -> None:
    """Write uint8 pixels (H, W) or (H, W, 3) as a PNG; raise OutputError where that isn't possible."""
    import io

    from .output import write_atomically

    buffer = io.BytesIO()
    try:
        _pillow()[0].fromarray(pixels).save(buffer, "PNG")
    except (TypeError, ValueError) as error:
        raise OutputError(f"{path}: an array of shape {pixels.shape} is no picture") from error
    write_atomically(path, buffer.getvalue())


def _mode(mode: str) -> str:
    """Say what a picture of another mode becomes: with alpha where it has one, gray where it has no colour."""
    if mode in ("PA", "La", "RGBa", "LA"):
        return "RGBA"
    return "L" if mode in ("1", "F") else "RGB"


def _pillow() -> tuple[Any, Any]:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise UsageError(
            "reading pictures needs Pillow; install it with: pip install Pillow (or give a .npy file)"
        ) from error
    return Image, ImageOps

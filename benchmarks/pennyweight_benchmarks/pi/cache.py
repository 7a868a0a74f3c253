"""Where built targets are kept: ``pi`` in Pennyweight's cache folder, one folder per name and content.

Nothing there is half made: a folder is built beside its place, under a lock, and renamed into it. Everything in it can
be deleted; what nobody used for 30 days is.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pennyweight.choices import cache_folder

from .errors import TargetError

UNUSED_DAYS = 30
# Raise it when the same inputs are built into something else.
FORMAT = 1


def cache() -> Path:
    """Give the folder, made if it has to be; raise TargetError where there is no place for one."""
    folder = cache_folder()
    if folder is None:
        raise TargetError("no cache folder: set HOME or XDG_CACHE_HOME")
    try:
        (folder / "pi").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TargetError(f"{folder / 'pi'} can't be made ({error.strerror}): set XDG_CACHE_HOME") from error
    return folder / "pi"


def kept(name: str, inputs: Any, make: Callable[[Path, Path], None]) -> Path:
    """Give the folder that ``make`` builds of ``inputs``, built once.

    ``make`` gets the empty folder to fill, and the place that it will have in the end.
    """
    digest = hashlib.sha256(json.dumps([FORMAT, inputs], sort_keys=True).encode()).hexdigest()[:16]
    place = cache() / f"{name}-{digest}"
    with _locked(place.with_suffix(".lock")):
        if not place.is_dir():
            beside = place.with_suffix(".new")
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir()
            try:
                make(beside, place)
            except BaseException:
                shutil.rmtree(beside, ignore_errors=True)
                raise
            # Unpacking has set the folder's own time back.
            os.utime(beside)
            beside.rename(place)
            _prune(place.parent)
        os.utime(place)
    return place


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _prune(folder: Path) -> None:
    oldest = time.time() - UNUSED_DAYS * 24 * 3600
    for place in folder.iterdir():
        if place.is_dir() and place.suffix != ".new" and place.stat().st_mtime < oldest:
            shutil.rmtree(place, ignore_errors=True)

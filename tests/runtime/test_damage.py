"""Three thousand damaged bundles: each is refused in one line or answers exactly as the whole one does."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pennyweight import load, open_bundle
from pennyweight.errors import PennyweightError
from support import FIXTURE, installed_pairs

WHOLE = open_bundle(FIXTURE)
GOLDEN = WHOLE.golden()
IMAGES = next(iter(GOLDEN.inputs.values()))
FILES = sorted(path.name for path in FIXTURE.iterdir())
# As many of each kind, in a folder and in a zip: 3,000 in all.
TRIES = 250


def flip(path: Path, chance: random.Random) -> None:
    """Flip one bit."""
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def truncate(path: Path, chance: random.Random) -> None:
    """Cut the file short, or let rubbish follow it."""
    content = path.read_bytes()
    if chance.random() < 0.5:
        path.write_bytes(content[: chance.randrange(len(content))])
    else:
        path.write_bytes(content + chance.randbytes(chance.randrange(1, 100)))


def overwrite(path: Path, chance: random.Random) -> None:
    """Put random bytes over a stretch."""
    content = bytearray(path.read_bytes())
    start, size = chance.randrange(len(content)), chance.randrange(2, 64)
    content[start : start + size] = chance.randbytes(len(content[start : start + size]))
    path.write_bytes(content)


def swap(path: Path, chance: random.Random) -> None:
    """Exchange it for another file of the bundle."""
    other = path.with_name(chance.choice([name for name in FILES if name != path.name]))
    kept = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(kept)


def delete(path: Path, chance: random.Random) -> None:
    path.unlink()


def edit(path: Path, chance: random.Random) -> None:
    """Change one character that stands in the manifest."""
    manifest = path.with_name("manifest.json")
    text = manifest.read_text()
    place = chance.randrange(len(text))
    manifest.write_text(text[:place] + chance.choice('0123456789abcxyz"{}[],:- ') + text[place + 1 :])


PAIRS = installed_pairs()


def outcome(path: Path, chance: random.Random) -> str:
    """Use the bundle as a device would, with one artifact on one engine, and say what came of it."""
    artifact, engine = chance.choice(PAIRS)
    try:
        bundle = open_bundle(path)
        bundle.golden()
        with load(bundle, artifact=artifact, engine=engine) as model:
            got = model.predict(IMAGES)
    except PennyweightError as error:
        whole = "\n" not in str(error) and path.name in str(error)
        return "refused" if whole else f"refused unclearly: {error}"
    return "right" if np.array_equal(got, wanted(artifact, engine)) else "wrong"


_WANTED: dict[tuple[str, str], Any] = {}


def wanted(artifact: str, engine: str) -> Any:
    if (artifact, engine) not in _WANTED:
        with load(WHOLE, artifact=artifact, engine=engine) as model:
            _WANTED[artifact, engine] = model.predict(IMAGES)
    return _WANTED[artifact, engine]


@pytest.mark.parametrize("damage", [flip, truncate, overwrite, swap, delete, edit])
def test_a_damaged_folder_is_refused_or_right(damage: Callable[[Path, random.Random], None], tmp_path: Path) -> None:
    chance = random.Random(damage.__name__)
    total: Counter[str] = Counter()
    for turn in range(TRIES):
        copy = tmp_path / f"bundle{turn}"
        shutil.copytree(FIXTURE, copy)
        damage(copy / chance.choice(FILES), chance)
        total[outcome(copy, chance)] += 1
        shutil.rmtree(copy)
    assert set(total) <= {"refused", "right"}, total
    assert total["refused"] > 0


@pytest.mark.parametrize("damage", [flip, truncate, overwrite])
def test_a_damaged_archive_is_refused_or_right(
    damage: Callable[[Path, random.Random], None], archive: Path, tmp_path: Path
) -> None:
    chance = random.Random(f"zip {damage.__name__}")
    whole = archive.read_bytes()
    total: Counter[str] = Counter()
    for turn in range(2 * TRIES):
        copy = tmp_path / f"copy{turn}.pennyweight"
        copy.write_bytes(whole)
        damage(copy, chance)
        total[outcome(copy, chance)] += 1
        copy.unlink()
    assert set(total) <= {"refused", "right"}, total
    assert total["refused"] > 0


def test_the_damage_would_be_seen_without_hashes(tmp_path: Path) -> None:
    """The check above must be able to fail: weights that were changed do give other answers."""
    from pennyweight.bare import load_bare

    artifact, engine = next(pair for pair in installed_pairs() if pair[0].startswith("float32"))
    content = bytearray((FIXTURE / artifact).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(reversed(content[middle : middle + 400]))
    (tmp_path / artifact).write_bytes(content)
    with load_bare(tmp_path / artifact, engine, 1, (), trial=True) as model:
        assert not np.array_equal(model.predict(IMAGES), wanted(artifact, engine))

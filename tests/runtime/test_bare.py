"""Model files without a bundle. A damaged one may crash an engine, but never the process that called ``load``."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pennyweight import load, open_bundle
from pennyweight.errors import BundleError, EngineError, PennyweightError, UsageError
from support import FIXTURE, installed_pairs

BUNDLE = open_bundle(FIXTURE)
IMAGES = next(iter(BUNDLE.golden().inputs.values()))


@pytest.mark.parametrize(("artifact", "engine"), installed_pairs())
def test_a_bare_file_answers_as_it_does_in_its_bundle(artifact: str, engine: str) -> None:
    labels = BUNDLE.manifest.outputs[0].labels
    with load(BUNDLE, artifact=artifact, engine=engine) as wanted:
        for trial in (True, False):
            with load(FIXTURE / artifact, engine=engine, labels=labels, trial=trial) as model:
                np.testing.assert_array_equal(model.predict(IMAGES), wanted.predict(IMAGES))
                assert model.classify(IMAGES[0]) == wanted.classify(IMAGES[0])


@pytest.mark.parametrize(("artifact", "engine"), installed_pairs())
def test_damaged_files_are_errors_or_answer(artifact: str, engine: str, tmp_path: Path) -> None:
    """A few kinds of damage each; ``make test-slow`` tries a thousand files on each engine."""
    whole = (FIXTURE / artifact).read_bytes()
    chance = random.Random(11)
    for content in (b"", whole[: len(whole) // 2], b"\0" * len(whole), damaged(whole, chance), damaged(whole, chance)):
        path = tmp_path / artifact
        path.write_bytes(content)
        assert outcome(path, engine) in ("refused", "answered")


def outcome(path: Path, engine: str) -> str:
    try:
        model = load(path, engine=engine)
    except EngineError as error:
        return "refused" if "\n" not in str(error) and engine in str(error) else f"refused unclearly: {error}"
    model.predict(IMAGES)
    return "answered"


def damaged(whole: bytes, chance: random.Random) -> bytes:
    """Overwrite eight bytes."""
    content = bytearray(whole)
    for _ in range(8):
        content[chance.randrange(len(content))] = chance.randrange(256)
    return bytes(content)


def test_wrong_use_is_named(tmp_path: Path) -> None:
    artifact = installed_pairs()[0][0]
    with pytest.raises(BundleError, match=r"absent\.tflite: can't be read"):
        load(tmp_path / "absent.tflite")
    with pytest.raises(UsageError, match="doesn't read"):
        load(FIXTURE / artifact, engine="tflite-runtime" if artifact.endswith(".onnx") else "onnxruntime")
    with pytest.raises(UsageError, match="2 labels for an output of shape"):
        load(FIXTURE / artifact, labels=["yes", "no"])
    with pytest.raises(UsageError, match="no artifacts and no signature"):
        load(FIXTURE / artifact, trust="signers")
    with pytest.raises(UsageError, match="a bundle brings its own"):
        load(FIXTURE, labels=["yes", "no"])
    with pytest.raises(PennyweightError, match="use predict"):
        load(FIXTURE / artifact).classify(IMAGES[0])


@pytest.mark.slow
@pytest.mark.parametrize("engine", sorted({engine for _, engine in installed_pairs()}))
def test_a_thousand_damaged_files_never_crash_the_caller(engine: str, tmp_path: Path) -> None:
    """Each file is tried in a child process, and used here only when that came through."""
    chance = random.Random(engine)
    artifacts = [artifact for artifact, name in installed_pairs() if name == engine]

    def tries() -> Iterator[Path]:
        for turn in range(1000):
            artifact = artifacts[turn % len(artifacts)]
            whole = (FIXTURE / artifact).read_bytes()
            kind = turn % 3
            content = damaged(whole, chance) if kind == 0 else whole[: chance.randrange(len(whole))]
            if kind == 2:
                content = chance.randbytes(4) + whole[4:]
            path = tmp_path / str(turn) / artifact
            path.parent.mkdir()
            path.write_bytes(content)
            yield path

    with ThreadPoolExecutor(2) as pool:
        total = Counter(pool.map(lambda path: outcome(path, engine), tries()))
    print(f"\n{engine}: {dict(total)}")
    assert set(total) <= {"refused", "answered"}, total
    assert sum(total.values()) == 1000

"""Exports from data that stay in their files: the same evidence, to the byte, as from arrays in memory."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pennyweight import open_bundle
from pennyweight.errors import OutputError
from pennyweight.samples import Samples, pack_samples
from pennyweight_data import Dataset, Rows, load_data
from pennyweight_export import arrays, evidence, export, gathering
from pennyweight_export.evidence import digests
from pennyweight_export.gathering import Gathering
from pennyweight_export.interface import recognise
from pennyweight_export.sample_writer import write_samples

from .test_command import save


@pytest.fixture
def nothing_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (arrays, evidence, gathering):
        monkeypatch.setattr(module, "MEMORY", 0)


def test_the_evidence_is_the_same_whether_the_data_are_read_or_stay_in_the_file(
    tiny_model: Any, tiny_bundle: Path, data: Dataset, tmp_path: Path, nothing_in_memory: None
) -> None:
    save(tmp_path / "data.npz", data)
    assert isinstance(arrays.read_arrays(tmp_path / "data.npz").x_train, Rows)
    # Every converter takes such samples too.
    entry = recognise(tiny_model, data).inputs[0].spec.name
    assert isinstance(evidence.seen_by_layers({entry: data.x_train}, recognise(tiny_model, data))[entry], Rows)
    read, left = open_bundle(tiny_bundle), export(tiny_model, tmp_path / "data.npz", tmp_path / "b", evaluation="all")
    assert left.check() == []
    for name in ("evaluation.npz", "golden.npz"):
        assert left.read(name) == read.read(name), name
    # Converters number their nodes on within a process, so artifacts are compared by what they answer.
    assert [spec.name for spec in left.manifest.artifacts] == [spec.name for spec in read.manifest.artifacts]
    for one, other in zip(left.manifest.artifacts, read.manifest.artifacts, strict=True):
        assert one.calibration == other.calibration
        assert [(record.engine, record.figures) for record in one.engines] == [
            (record.engine, record.figures) for record in other.engines
        ]
    # The file for the answers is nameless, and the staging folder is gone.
    assert {path.name for path in tmp_path.iterdir()} == {"data.npz", "b"}


@pytest.mark.parametrize("rows", [1, 5000])
def test_samples_are_written_as_the_runtime_packs_them(rows: int) -> None:
    random = np.random.default_rng(0)
    samples = Samples(
        {"image": random.integers(0, 9, (rows, 8, 3), np.uint8), "more": np.arange(rows, dtype=np.float32)[:, None]},
        {"out": random.random((rows, 3), np.float32)},
        np.arange(rows),
    )
    for one in (samples, samples._replace(labels=None)):
        file = io.BytesIO()
        write_samples(file, one)
        assert file.getvalue() == pack_samples(one)


def test_digests_are_of_the_content_wherever_it_is(data: Dataset, tmp_path: Path) -> None:
    save(tmp_path / "data.npz", data)
    left = load_data(tmp_path / "data.npz", memory=0)
    found = digests({"image": data.x_train, "same": data.x_train})
    assert np.array_equal(found, digests({"image": left.x_train, "same": left.x_train}))
    assert len(set(found.tolist())) == len(found)
    # One pixel of one of the inputs counts.
    changed = data.x_train.copy()
    changed[7, 3, 2] += 1
    assert np.flatnonzero(digests({"image": data.x_train, "same": changed}) != found).tolist() == [7]


@pytest.mark.parametrize("memory", [0, 10**6])
def test_answers_are_gathered_in_memory_or_in_a_file(
    memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "MEMORY", memory)
    answers = np.random.default_rng(0).random((100, 7, 2), np.float32)
    gathered = Gathering(100, tmp_path)
    for start in range(0, 100, 30):
        gathered.add(answers[start : start + 30])
    found = gathered.array()
    assert isinstance(found, np.ndarray if memory else Rows)
    np.testing.assert_array_equal(np.asarray(found), answers, strict=True)
    assert list(tmp_path.iterdir()) == []


def test_answers_that_find_no_room_are_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "MEMORY", 0)
    with pytest.raises(OutputError, match=r"nowhere: the model's answers can't be kept there"):
        Gathering(100, tmp_path / "nowhere").add(np.zeros((10, 3), np.float32))

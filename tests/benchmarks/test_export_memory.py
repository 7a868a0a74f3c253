"""The proof that an export of a large file needs little memory, and that the proof would see it if it did."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

from pennyweight_benchmarks.export_memory import ALLOWED_MB, CLASSES, measure, measure_export, write_pictures


def test_the_peak_of_a_process_is_seen_and_not_that_of_who_starts_it() -> None:
    own = np.ones(500_000_000, np.uint8)
    peak = measure("300 MB of ones", ["-c", "import numpy; numpy.ones(300_000_000, 'u1')"])
    assert 300 < peak.megabytes < 400
    assert own.all()


def test_a_process_that_fails_is_no_figure() -> None:
    with pytest.raises(RuntimeError, match=r"exit code 3: said"):
        measure("nothing", ["-c", "import sys; print('said'); sys.exit(3)"])


def test_the_generated_file_is_as_large_as_asked_and_no_sample_is_twice(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    write_pictures(path, 5e6)
    assert path.stat().st_size == pytest.approx(5e6, rel=0.01)
    with np.load(path) as arrays:
        rows = {row.tobytes() for part in ("x_train", "x_test") for row in arrays[part]}
        assert len(rows) == len(arrays["x_train"]) + len(arrays["x_test"])
        assert np.bincount(arrays["y_test"]).min() > 0
        assert len(set(arrays["y_train"].tolist())) == CLASSES


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_an_export_of_three_gigabytes_needs_little_more_than_tensorflow() -> None:
    with tempfile.TemporaryDirectory() as folder:
        tensorflow, *exports = measure_export(Path(folder), 3e9)
    print(tensorflow, exports)
    for peak in exports:
        assert peak.megabytes - tensorflow.megabytes <= ALLOWED_MB, peak

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np
import pytest

from pennyweight import load, open_bundle
from support import FIXTURE, installed_pairs

IMAGES = next(iter(open_bundle(FIXTURE).golden().inputs.values()))


def peak_kilobytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize(("artifact", "engine"), installed_pairs())
def test_a_batch_larger_than_any_piece_needs_no_more_memory_than_its_answer(artifact: str, engine: str) -> None:
    with load(FIXTURE, artifact=artifact, engine=engine) as model:
        wanted = model.predict(IMAGES[:1])
        before = peak_kilobytes()
        # One image seen 100,000 times: 40 MB that nobody holds, and 4 MB of answers.
        answers = model.predict(np.broadcast_to(IMAGES[0], (100_000, *IMAGES.shape[1:])))
        grown = peak_kilobytes() - before
    assert answers.shape == (100_000, *wanted.shape[1:])
    np.testing.assert_allclose(answers[::9973], np.broadcast_to(wanted, (11, *wanted.shape[1:])), atol=1 / 128)
    # The answers twice (pieces, then joined) and one piece's buffers; a copy of the inputs would be 40 MB more.
    assert grown < 30_000


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the resident set of Linux")
@pytest.mark.parametrize(("artifact", "engine"), installed_pairs())
def test_a_million_calls_leave_memory_flat(artifact: str, engine: str) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    with load(FIXTURE, artifact=artifact, engine=engine) as model:
        classify = model.classify
        for _ in range(50_000):
            classify(IMAGES[0])
        before = resident()
        for turn in range(1_000_000):
            classify(IMAGES[turn % len(IMAGES)])
        # A leak of one byte a call would be 1 MB; the allocator's own coming and going is below that.
        assert resident() - before < 1_000_000

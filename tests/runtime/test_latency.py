"""The clockwork of one round: what is counted, what is taken off, and what stays empty."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pennyweight import open_bundle
from pennyweight.latency import (
    COLD_START,
    KEPT_SAMPLES,
    latency_task,
    pack_sample,
    quantiles,
    single_call,
    time_call,
    timer_cost,
)
from support import FIXTURE, installed_pairs


def spin(nanoseconds: int) -> Callable[[Any], None]:
    def call(_: Any) -> None:
        end = time.perf_counter_ns() + nanoseconds
        while time.perf_counter_ns() < end:
            pass

    return call


def test_a_known_duration_is_found() -> None:
    timing = time_call(spin(200_000), [0], 0.1)
    # The loop overshoots by at most one reading of the clock; a busy machine adds to the median, never takes from it.
    assert timing.fastest == pytest.approx(200_000, rel=0.02)
    assert timing.quantiles["p50"] is not None
    assert timing.quantiles["p50"] >= 200_000 * 0.98
    assert timing.calls >= 100


def test_nothing_is_never_reported() -> None:
    timing = time_call(lambda _: None, [0], 0.01)
    assert timing.fastest >= 1
    assert timing.timer_ns == pytest.approx(timer_cost(), rel=3)
    assert timing.timer_ns > 0


def test_all_inputs_take_their_turn() -> None:
    seen: set[int] = set()
    time_call(seen.add, list(range(50)), 0.02, least=50)
    assert seen == set(range(50))


def test_samples_are_thinned_evenly_and_the_quantiles_are_of_all_calls() -> None:
    timing = time_call(spin(5_000), [0], 0.05)
    assert timing.every > 1
    assert len(timing.samples) == -(-timing.calls // timing.every) <= KEPT_SAMPLES
    json.dumps(timing._asdict(), allow_nan=False)


def test_a_slow_call_is_tried_for_its_least_number_but_not_for_ever() -> None:
    assert time_call(spin(2_000_000), [0], 0.01, least=20).calls >= 20
    start = time.monotonic()
    calls = time_call(spin(50_000_000), [0], 0.01, least=1000).calls
    assert calls < 1000
    # A second of warm-up at most, 20 × 10 ms of calls, and a block of five calls that each may run over.
    assert time.monotonic() - start < 5


def test_a_call_that_never_settles_is_reported() -> None:
    state = [0]

    def drifting(_: Any) -> None:
        state[0] += 1
        spin(int(20_000 * 1.02 ** state[0]))(None)  # a block is five calls or more, so ten percent

    assert not time_call(drifting, [0], 0.01).settled
    # On a machine that is busy with other tests a steady call may look unsteady now and then; five times it won't.
    assert any(time_call(spin(100_000), [0], 0.01).settled for _ in range(5))


def test_a_quantile_needs_enough_calls() -> None:
    few = quantiles(list(range(1, 51)))
    assert few["p50"] == 25.5
    assert few["p99"] is None
    assert quantiles(list(range(1000)))["p99.9"] == pytest.approx(np.percentile(range(1000), 99.9))


@pytest.mark.parametrize(("artifact", "engine"), installed_pairs())
def test_a_real_engine_is_timed(artifact: str, engine: str) -> None:
    arguments = {"bundle": str(FIXTURE), "artifact": artifact, "engine": engine, "threads": 1}
    timing = latency_task({**arguments, "seconds": 0.02, "least": 20})
    # No engine answers in a tenth of a microsecond, and none needs a tenth of a second for this network.
    assert 100 < timing["quantiles"]["p50"] < 1e8
    assert timing["engine_version"]


@pytest.mark.parametrize(("artifact", "engine"), installed_pairs())
def test_a_cold_start_is_stamped_in_order(artifact: str, engine: str) -> None:
    bundle = open_bundle(FIXTURE)
    start = time.perf_counter_ns()
    child = subprocess.run(
        [sys.executable, "-c", COLD_START, str(FIXTURE), artifact, engine, "1"],
        input=pack_sample(bundle.golden().inputs, bundle.manifest, 0),
        capture_output=True,
        timeout=60,
        check=True,
    )
    result = json.loads(child.stdout)["result"]
    end = time.perf_counter_ns()
    assert start < result["imported_ns"] < result["loaded_ns"] < result["answered_ns"] < end
    if sys.platform == "linux":
        # Python with numpy alone takes about 30 MB; the fixture's network adds next to nothing.
        assert 10e6 < result["peak_bytes"] < 1e9


def test_an_output_without_a_single_label_is_timed_through_predict() -> None:
    class Regression:
        @property
        def labels(self) -> tuple[str, ...]:
            from pennyweight.errors import OutputKindError

            raise OutputKindError("no label")

        def predict(self, batch: Any) -> Any:
            return {name: array.shape for name, array in batch.items()} if isinstance(batch, dict) else batch.shape

    model: Any = Regression()
    assert single_call(model)(np.zeros(4)) == (1, 4)
    assert single_call(model)({"a": np.zeros(2)}) == {"a": (1, 2)}

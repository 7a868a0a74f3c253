"""The clockwork of one round: what is counted, what is taken off, and what stays empty."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pennyweight import open_bundle
from pennyweight.latency import (
    KEPT_SAMPLES,
    KEPT_WHOLE,
    QUANTILES,
    Histogram,
    quantiles,
    time_call,
    time_paced,
    time_spans,
    time_steps,
    timer_cost,
)
from pennyweight.worker import COLD_START, latency_task, pack_sample, single_call, sustained_task, throughput
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
        spin(int(20_000 * 1.1 ** state[0]))(None)  # a block is five calls or more, so sixty percent

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
    timing = latency_task({**arguments, "seconds": 0.02, "least": 20, "batches": [1, 8], "rate": 1000.0})
    # No engine answers in a tenth of a microsecond, and none needs a tenth of a second for this network.
    assert 100 < timing["quantiles"]["p50"] < 1e8
    assert timing["engine_version"]
    assert [batch["size"] for batch in timing["batches"]] == [1, 8]
    assert timing["paced"]["calls"] == 20
    steps = timing["steps"]
    assert list(steps) == ["prepare", "run", "finish"]
    # The steps are what a call consists of; beside them it costs a lock and a call or two.
    assert 0.2 < sum(steps.values()) / timing["quantiles"]["p50"] < 2
    if sys.platform == "linux":
        assert 10e6 < timing["resident_bytes"] <= timing["peak_bytes"]
    json.dumps(timing, allow_nan=False)


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
    stamps = [result[f"{name}_ns"] for name in ("interpreter", "numpy", "runtime", "imported", "loaded", "answered")]
    assert [start, *stamps, end] == sorted([start, *stamps, end])
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


def test_a_round_that_is_too_short_for_a_p99_9_is_kept_whole() -> None:
    timing = time_call(spin(200_000), [0], 0.05)
    assert timing.calls < KEPT_WHOLE
    assert (timing.every, len(timing.samples)) == (1, timing.calls)
    assert timing.slowest == max(timing.samples) or timing.slowest == pytest.approx(max(timing.samples), abs=0.1)


def test_calls_at_a_rate_come_at_that_rate() -> None:
    start = time.monotonic()
    timing = time_paced(spin(100_000), [0], 100.0, 30)
    seconds = time.monotonic() - start
    assert timing.calls == 30
    # 33 calls, three of them uncounted, are 32 periods of 10 ms apart; a late one never makes the next come early.
    assert 0.32 <= seconds < 1.5
    # A core that was woken by each call starts cold; what would be wrong is any of the 10 ms that it slept.
    assert 100_000 * 0.98 <= timing.fastest < 1_000_000


def test_calls_that_cannot_keep_the_rate_are_counted() -> None:
    timing = time_paced(spin(3_000_000), [0], 1000.0, 10)
    assert timing.late == 10


def test_the_steps_of_a_call_are_told_apart() -> None:
    def step(nanoseconds: int) -> Callable[[Any], Any]:
        work = spin(nanoseconds)
        return lambda value: (work(value), value + 1)[1]

    seen: list[Any] = []
    steps = [step(50_000), step(200_000), step(20_000), lambda value: seen.append(value)]
    times = time_steps(steps, [0, 10], 0.05)
    # A machine busy with other tests adds to a median and never takes from it.
    assert all(wanted * 0.95 <= found < wanted * 3 for wanted, found in zip((50_000, 200_000, 20_000), times))
    assert set(seen) == {3, 13}


def test_a_histogram_is_right_to_three_parts_in_a_thousand() -> None:
    durations = np.exp(np.random.default_rng(1).normal(8, 2, 100_000))
    histogram = Histogram()
    for part in np.split(durations, 10):
        histogram.add(part)
    ordered = np.sort(np.maximum(durations, 1))
    for name, percent in QUANTILES.items():
        rank = percent / 100 * (len(ordered) - 1)
        found = histogram.quantile(name)
        assert found is not None
        assert 0.997 * ordered[math.floor(rank)] <= found <= 1.003 * ordered[math.ceil(rank)]
    assert histogram.calls == 100_000
    assert histogram.slowest == durations.max()
    assert Histogram().quantile("p50") is None


@pytest.mark.parametrize("rate", [None, 200.0])
def test_a_sustained_run_is_told_span_by_span(rate: float | None) -> None:
    state = iter(range(100))
    spans = time_spans(spin(100_000), [0], 0.5, 0.2, rate, lambda: next(state))
    assert [span["state"] for span in spans] == [0, 1, 2]
    assert [span["start_s"] for span in spans] == pytest.approx([0, 0.2, 0.4], abs=0.15)
    assert all(span["quantiles"]["p50"] >= 99_000 for span in spans)
    if rate:
        assert sum(span["calls"] for span in spans) == pytest.approx(100, abs=15)
    json.dumps(spans, allow_nan=False)


def test_a_device_that_heats_up_shows_it() -> None:
    begin = time.monotonic()

    def throttling(_: Any) -> None:
        spin(100_000 if time.monotonic() < begin + 0.3 else 300_000)(None)

    first, *_, last = time_spans(throttling, [0], 0.6, 0.2, None, lambda: None)
    assert last["quantiles"]["p50"] > 2 * first["quantiles"]["p50"]


def test_a_sustained_run_of_a_real_engine_has_the_machines_state() -> None:
    artifact, engine = installed_pairs()[0]
    arguments = {"bundle": str(FIXTURE), "artifact": artifact, "engine": engine, "threads": 1}
    spans = sustained_task({**arguments, "seconds": 0.3, "span": 0.1})["spans"]
    assert len(spans) == 3
    assert all({"temperature_c", "frequency_mhz", "throttled"} <= set(span["state"]) for span in spans)


class Batching:
    """A model whose batches take a millisecond a row."""

    def predict(self, batch: Any) -> None:
        time.sleep(0.001 * len(batch))


def test_throughput_is_of_whole_batches_and_leaves_out_what_is_too_large() -> None:
    model: Any = Batching()
    small, large = throughput(model, {"a": np.zeros((3, 4), np.float32)}, [1, 16], 0.05)
    # A sleep overshoots by some 60 µs, which sixteen rows share.
    assert 300 < small["images_per_second"] <= 1000
    assert 300 < large["images_per_second"] <= 1000
    _, slow = throughput(model, {"a": np.zeros((3, 4), np.float32)}, [1, 100_000], 0.001)
    assert slow["images_per_second"] is None
    assert "one batch would take about" in slow["reason"]
    (wide,) = throughput(model, {"a": np.zeros((1, 2**20), np.float32)}, [512], 0.001)
    assert "inputs need 2,147 MB" in wide["reason"]

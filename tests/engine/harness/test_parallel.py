"""Several requests in flight: what counts, what is stopped, and who hears of a failure."""

import threading
import time

import numpy as np
import pytest

from optimizer.measure.harness import StreamPlan
from optimizer.measure.parallel import Crew, run_parallel, window
from optimizer.measure.statistics import start_throughput

PLAN = StreamPlan(inputs=4, seed=3, measure_s=0.2, min_iterations=10, warmup_max_s=2.0, max_s=5.0)


def sleeper(_number: int) -> None:
    time.sleep(0.01)


def rate(calls: int) -> float:
    stream = run_parallel([sleeper] * calls, PLAN)
    return start_throughput(np.stack([stream.issued_ns, stream.completed_ns], axis=1), in_flight=calls)


def rows_of(completed_ms: np.ndarray, duration_ms: float) -> np.ndarray:
    """Requests that took this long, int64 [n, 2] in ns."""
    return np.round(np.stack([completed_ms - duration_ms, completed_ms], axis=1) * 1_000_000).astype(np.int64)


def test_requests_that_wait_side_by_side_multiply_the_rate() -> None:
    assert rate(8) > 3 * rate(2)


def test_a_window_holds_what_completed_in_it_and_every_lane_worked() -> None:
    seen: list[set[int]] = [set(), set()]

    def call(lane: int):
        def run(number: int) -> None:
            seen[lane].add(number)
            time.sleep(0.002)

        return run

    with Crew([call(0), call(1)], PLAN) as crew:
        window(crew, PLAN, clock=time.perf_counter_ns)
        begin = time.perf_counter_ns()
        rows = window(crew, PLAN, clock=time.perf_counter_ns)
    assert (rows[:, 1] >= begin).all()
    assert (np.diff(rows[:, 1]) >= 0).all()
    assert len(rows) >= PLAN.min_iterations
    assert all(numbers == {0, 1, 2, 3} for numbers in seen)


@pytest.mark.parametrize("lanes", [2, 3])
def test_slow_requests_still_give_two_turns_of_all_lanes(lanes: int) -> None:
    plan = StreamPlan(inputs=1, seed=1, measure_s=0.01, min_iterations=30, warmup_max_s=0.01, max_s=0.02)
    assert len(run_parallel([lambda _number: time.sleep(0.05)] * lanes, plan).issued_ns) >= 2 * lanes


def test_a_failing_call_ends_the_stream_with_its_error_and_no_thread_is_left() -> None:
    def fail(_number: int) -> None:
        raise ValueError("broken")

    before = threading.active_count()
    with pytest.raises(ValueError, match="broken"):
        run_parallel([sleeper, fail], PLAN)
    assert threading.active_count() == before


@pytest.mark.parametrize("offset", [0, 3, 5])
def test_the_rate_of_steady_lanes_is_exact_however_they_are_staggered(offset: int) -> None:
    """Two lanes of 10 ms each: 200 per second, whether they complete together or in turns."""
    ends = sorted([10 * k for k in range(1, 12)] + [10 * k + offset for k in range(1, 12)])
    for first, length in ((0, 9), (1, 9), (0, 11), (1, 12), (0, 13)):
        assert start_throughput(rows_of(np.array(ends[first : first + length]), 10), in_flight=2) == pytest.approx(200)


@pytest.mark.parametrize("staggered", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(("lanes", "calls"), [(2, 3), (2, 10), (4, 10), (8, 3), (8, 20)])
def test_the_rate_over_any_window_is_right_on_average(lanes: int, calls: int, staggered: float) -> None:
    """Calls of 10 ms with noise of 1%, from lanes in step to lanes in turns; the window begins and ends anywhere."""
    rng, found = np.random.default_rng([lanes, calls]), []
    for _ in range(400):
        durations = 10 * (1 + 0.01 * rng.standard_normal((lanes, calls + 10)))
        ends = np.sort((np.cumsum(durations, axis=1) + 10 * staggered * rng.random((lanes, 1))).ravel())
        begin = rng.uniform(20, 40)
        rows = rows_of(ends[(ends > begin) & (ends <= begin + 10 * calls)], 10)
        found.append(start_throughput(rows, in_flight=lanes))
    assert np.mean(found) == pytest.approx(100 * lanes, rel=0.01)
    assert np.std(found) < 0.012 * 100 * lanes


def test_too_few_rows_for_a_turn_are_never_counted_too_fast() -> None:
    together = rows_of(np.array([10.0, 10.001, 20.0]), 10)
    assert start_throughput(together, in_flight=2) <= 200


def test_a_batch_counts_its_examples() -> None:
    rows = np.array([[0, 10], [5, 20], [10, 30]], np.int64) * 1_000_000
    assert start_throughput(rows, batch=8, in_flight=2) == pytest.approx(8 * 2 / 0.02)
    assert start_throughput(rows, batch=8) == pytest.approx(8 * 3 / 0.03)

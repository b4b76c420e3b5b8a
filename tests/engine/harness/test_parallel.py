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


def test_slow_requests_still_give_two_rows() -> None:
    plan = StreamPlan(inputs=1, seed=1, measure_s=0.01, min_iterations=30, warmup_max_s=0.01, max_s=0.02)
    assert len(run_parallel([lambda _number: time.sleep(0.05)] * 2, plan).issued_ns) >= 2


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
    for length in (9, 11, 13):
        completed = np.array(ends[:length]) * 1_000_000
        rows = np.stack([completed - 10_000_000, completed], axis=1)
        found = start_throughput(rows, in_flight=2)
        assert found == pytest.approx(200, rel=0.13)
        if offset in (0, 5) and length % 2:
            assert found == pytest.approx(200)


def test_a_batch_counts_its_examples() -> None:
    rows = np.array([[0, 10], [5, 20], [10, 30]], np.int64) * 1_000_000
    assert start_throughput(rows, batch=8, in_flight=2) == pytest.approx(8 * 2 / 0.02)
    assert start_throughput(rows, batch=8) == pytest.approx(8 * 3 / 0.03)

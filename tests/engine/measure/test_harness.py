"""The timed loop, with a clock that only moves when the test says so."""

import gc

import numpy as np
import pytest

from optimizer.measure.harness import StreamPlan, calls_per_sample, draw_order, run_stream, timer_overhead_ns
from optimizer.measure.steady import WarmupClass

MS = 1_000_000


class World:
    """A model whose calls take the given time; the clock costs ``tick_ns`` per reading."""

    def __init__(self, duration_ns, *, tick_ns=50):
        self.now = 0
        self.tick_ns = tick_ns
        self.calls = []
        self.duration_ns = duration_ns

    def clock(self):
        self.now += self.tick_ns
        return self.now

    def call(self, number):
        self.calls.append(number)
        self.now += self.duration_ns(len(self.calls)) if callable(self.duration_ns) else self.duration_ns


def plan(**changes):
    return StreamPlan(**{"inputs": 7, "seed": 3, "measure_s": 0.5, "max_s": 20.0, **changes})


def test_every_sample_is_the_calls_own_duration():
    world = World(10 * MS)
    stream = run_stream(world.call, plan(), clock=world.clock)
    assert set((stream.completed_ns - stream.issued_ns).tolist()) == {10 * MS + world.tick_ns}
    assert stream.warmup is WarmupClass.FLAT
    assert stream.calls_per_sample == 1


def test_the_stream_goes_on_until_both_time_and_count_are_met():
    slow = run_stream((world := World(100 * MS)).call, plan(min_iterations=30), clock=world.clock)
    fast = run_stream((world := World(1 * MS)).call, plan(min_iterations=30), clock=world.clock)
    assert len(slow.issued_ns) == 30
    assert len(fast.issued_ns) == pytest.approx(500, rel=0.02)


def test_the_cap_ends_a_stream_that_is_too_slow():
    stream = run_stream((world := World(3000 * MS)).call, plan(min_iterations=30, max_s=10.0, warmup_max_s=5.0), clock=world.clock)
    assert len(stream.issued_ns) == 4
    assert stream.warmup is WarmupClass.NO_STEADY_STATE


def test_a_slow_beginning_stays_outside_the_measured_stream():
    world = World(lambda count: max(5, 100 - 5 * count) * MS)
    stream = run_stream(world.call, plan(), clock=world.clock)
    assert stream.warmup is WarmupClass.WARMUP
    assert stream.median_ns == pytest.approx(5 * MS, rel=0.01)
    assert (stream.completed_ns - stream.issued_ns).max() < 6 * MS


def test_calls_near_the_timers_own_cost_are_timed_in_groups():
    world = World(500, tick_ns=50)
    stream = run_stream(world.call, plan(measure_s=0.01), clock=world.clock)
    assert stream.calls_per_sample > 1
    assert stream.median_ns == pytest.approx(500, rel=0.02)


def test_grouping_starts_below_a_hundred_overheads():
    assert calls_per_sample(5000, overhead_ns=50) == 1
    assert calls_per_sample(4999, overhead_ns=50) == 2
    assert calls_per_sample(10, overhead_ns=50) == 1000


def test_inputs_are_drawn_from_the_seed_over_all_inputs():
    order = draw_order(plan())
    assert order == draw_order(plan())
    assert order != draw_order(plan(seed=4))
    assert set(order) == set(range(7))


def test_the_timers_cost_is_the_distance_of_two_readings():
    assert timer_overhead_ns(World(0, tick_ns=40).clock) == 40


def test_the_garbage_collector_rests_only_while_measuring():
    states = []

    class Watched(World):
        def call(self, number):
            states.append(gc.isenabled())
            super().call(number)

    world = Watched(20 * MS)
    run_stream(world.call, plan(), clock=world.clock)
    assert states[0]
    assert not states[-1]
    assert gc.isenabled()


def test_samples_are_whole_nanoseconds_in_order_of_issue():
    stream = run_stream((world := World(2 * MS)).call, plan(), clock=world.clock)
    assert stream.issued_ns.dtype == np.int64
    assert (np.diff(stream.issued_ns) > 0).all()
    assert (stream.issued_ns[1:] >= stream.completed_ns[:-1]).all()


def test_a_mix_is_warmed_up_and_measured_in_one_order_and_nothing_is_drawn_between(monkeypatch):
    """The only time that passes between the opened gate and the first measured call is the clock's."""
    drawn = []
    generator = np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda *seed: drawn.append(len(world.calls)) or generator(*seed))
    world = World(10 * MS)
    mix = plan(groups=((4, 0.75), (3, 0.25)))
    stream = run_stream(world.call, mix, clock=world.clock)
    assert drawn == [0]
    order = draw_order(mix)
    assert world.calls[: stream.warmup_calls] == order[: stream.warmup_calls]
    assert world.calls[stream.warmup_calls :] == order[: len(stream.issued_ns)]

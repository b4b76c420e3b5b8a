"""The timed loop of one fresh process: warm-up gate, then a measured stream in integer nanoseconds (measurement.md 1, 5)."""

from __future__ import annotations

import gc
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np

from optimizer.measure.steady import ThreeWindowGate, WarmupClass
from optimizer.measure.traffic import mixed_order
from optimizer.units import NS_PER_S

GROUP_BELOW_OVERHEADS = 100
GROUP_TARGET_OVERHEADS = 200
OVERHEAD_PROBES = 1000
SAMPLES_MOST = 200_000
ORDER_LENGTH = 8192
WINDOW_CALLS = 5
Array = np.ndarray[Any, Any]
Clock = Callable[[], int]
Call = Callable[[int], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPlan:
    """When a stream ends: both ``min_iterations`` and ``measure_s`` met, or ``max_s`` fell. ``inputs`` distinct inputs are drawn by ``seed``.

    A window of the warm-up gate lasts ``window_s`` and holds at least ``window_calls``. ``groups``, (inputs, share) of consecutive
    inputs, make a mix whose every stretch follows the shares.
    """

    inputs: int
    seed: int
    measure_s: float = 1.0
    min_iterations: int = 30
    max_s: float = 20.0
    warmup_max_s: float = 10.0
    window_s: float = 0.05
    window_calls: int = WINDOW_CALLS
    groups: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Samples of one start, int64 ``[n]`` each; a sample covers ``calls_per_sample`` calls."""

    issued_ns: Array
    completed_ns: Array
    calls_per_sample: int
    warmup: WarmupClass
    warmup_calls: int
    timer_overhead_ns: int

    @property
    def median_ns(self) -> float:
        """Median duration of one call."""
        return float(np.median(self.completed_ns - self.issued_ns)) / self.calls_per_sample


def run_stream(call: Call, plan: StreamPlan, *, order: Sequence[int] = (), clock: Clock = time.perf_counter_ns) -> Stream:
    """Warm ``call`` (given an input number) up through the gate, then measure it with the garbage collector off.

    ``order`` is what ``draw_order`` gives for this plan, where the caller already has it. Nothing is drawn once the gate is open.
    """
    order = order or draw_order(plan)
    overhead = timer_overhead_ns(clock)
    gate, warmup_calls, typical_ns = warm_up(call, plan, order=order, clock=clock)
    per_sample = 1 if plan.groups else calls_per_sample(typical_ns, overhead_ns=overhead)
    gc.collect()
    gc.disable()
    try:
        issued, completed = measure(call, order, plan, per_sample=per_sample, clock=clock)
    finally:
        gc.enable()
    return Stream(
        issued_ns=np.array(issued, np.int64),
        completed_ns=np.array(completed, np.int64),
        calls_per_sample=per_sample,
        warmup=gate.warmup_class,
        warmup_calls=warmup_calls,
        timer_overhead_ns=overhead,
    )


def timer_overhead_ns(clock: Clock) -> int:
    """Median distance of two consecutive readings of the clock, at least 1."""
    readings = [clock() for _ in range(OVERHEAD_PROBES)]
    return max(1, round(median(after - before for before, after in pairwise(readings))))


def warm_up(call: Call, plan: StreamPlan, *, order: Sequence[int], clock: Clock) -> tuple[ThreeWindowGate, int, float]:
    """Call until the gate opens or its time is over; returns the gate, the calls made and the median of the last ones in ns.

    A mix is warmed up in the ``order`` in which it is measured, inputs of one shape in another.
    """
    gate = ThreeWindowGate(window_ns=round(plan.window_s * NS_PER_S), min_calls=plan.window_calls)
    order = order if plan.groups else np.random.default_rng([plan.seed, 1]).integers(0, plan.inputs, ORDER_LENGTH).tolist()
    until = clock() + round(plan.warmup_max_s * NS_PER_S)
    durations: list[int] = []
    while True:
        begin = clock()
        call(order[len(durations) % ORDER_LENGTH])
        end = clock()
        durations.append(end - begin)
        if gate.add(end - begin) or end >= until:
            return gate, len(durations), median(durations[-ORDER_LENGTH:])


def draw_order(plan: StreamPlan) -> list[int]:
    """Input numbers drawn uniformly with replacement, or as the mix says; the sequence repeats after ``ORDER_LENGTH``."""
    if plan.groups:
        return mixed_order(plan.groups, seed=plan.seed, length=ORDER_LENGTH)
    return [int(value) for value in np.random.default_rng([plan.seed, 0]).integers(0, plan.inputs, ORDER_LENGTH)]


def calls_per_sample(typical_ns: float, *, overhead_ns: int) -> int:
    """1, or enough calls that a sample is well above the timer's own cost (such samples give no percentiles)."""
    if typical_ns >= GROUP_BELOW_OVERHEADS * overhead_ns:
        return 1
    return max(2, round(GROUP_TARGET_OVERHEADS * overhead_ns / max(1.0, typical_ns)))


def measure(call: Call, order: Sequence[int], plan: StreamPlan, *, per_sample: int, clock: Clock) -> tuple[array[int], array[int]]:
    """The measured stream: issue and completion of every sample. Nothing but the call stands between the two readings."""
    issued, completed = array("q"), array("q")
    position, length = 0, len(order)
    begin = clock()
    enough, cap = begin + round(plan.measure_s * NS_PER_S), begin + round(plan.max_s * NS_PER_S)
    while True:
        if per_sample == 1:
            number = order[position]
            started = clock()
            call(number)
            ended = clock()
        else:
            numbers = [order[(position + step) % length] for step in range(per_sample)]
            started = clock()
            for number in numbers:
                call(number)
            ended = clock()
        issued.append(started)
        completed.append(ended)
        position = (position + per_sample) % length
        if ended >= cap or len(issued) >= SAMPLES_MOST or (ended >= enough and len(issued) >= plan.min_iterations):
            return issued, completed

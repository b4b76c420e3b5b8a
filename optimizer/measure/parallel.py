"""Several requests in flight: one thread per call, rates over a window in which every one of them was busy (measurement.md 3, Offline)."""

from __future__ import annotations

import gc
import threading
import time
from array import array
from collections.abc import Sequence
from statistics import median
from types import TracebackType
from typing import Any, Self

import numpy as np

from optimizer.measure.harness import ORDER_LENGTH, SAMPLES_MOST, Call, Clock, Stream, StreamPlan, timer_overhead_ns
from optimizer.measure.steady import ThreeWindowGate, Window
from optimizer.measure.throughput import least_rows
from optimizer.units import NS_PER_S

POLL_S = 0.01
Array = np.ndarray[Any, Any]


class Crew:
    """Context manager: keeps one request of every call in flight until it is left. Each thread draws its own order of inputs."""

    def __init__(self, calls: Sequence[Call], plan: StreamPlan, *, clock: Clock = time.perf_counter_ns) -> None:
        self._clock = clock
        self._stopping = threading.Event()
        self._issued = [array("q") for _ in calls]
        self._completed = [array("q") for _ in calls]
        self._failure: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._work, args=(lane, call, _order(plan, lane)), daemon=True) for lane, call in enumerate(calls)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        if kind is None:
            self.check()

    def check(self) -> None:
        """Raises what a call raised."""
        if self._failure is not None:
            raise self._failure

    @property
    def counts(self) -> list[int]:
        """Completed requests of each lane."""
        return [len(completed) for completed in self._completed]

    def rows(self, since: Sequence[int] | None = None) -> Array:
        """Requests (issued, completed) by completion, int64 ``[n, 2]``, from these per-lane counts on."""
        firsts = since or [0] * len(self._threads)
        parts = [
            np.column_stack([np.array(issued[first:last], np.int64), np.array(completed[first:last], np.int64)])
            for issued, completed, first, last in zip(self._issued, self._completed, firsts, self.counts, strict=True)
        ]
        rows = np.concatenate(parts)
        return rows[np.argsort(rows[:, 1], kind="stable")]

    def _work(self, lane: int, call: Call, order: list[int]) -> None:
        clock, stopping = self._clock, self._stopping.is_set
        issued, completed = self._issued[lane].append, self._completed[lane].append
        position = 0
        try:
            while not stopping():
                number = order[position]
                started = clock()
                call(number)
                ended = clock()
                issued(started)
                completed(ended)
                position = (position + 1) % ORDER_LENGTH
        except BaseException as error:  # told to the thread that watches
            self._failure = error
            self._stopping.set()


def _order(plan: StreamPlan, lane: int) -> list[int]:
    return [int(value) for value in np.random.default_rng([plan.seed, 0, lane]).integers(0, plan.inputs, ORDER_LENGTH)]


def run_parallel(calls: Sequence[Call], plan: StreamPlan, *, clock: Clock = time.perf_counter_ns) -> Stream:
    """Warm up through the gate with every lane busy, then measure on; what completes in the window counts, nothing is grouped."""
    overhead = timer_overhead_ns(clock)
    gc.collect()
    gc.disable()
    try:
        with Crew(calls, plan, clock=clock) as crew:
            gate = _through_the_gate(crew, plan, clock=clock)
            warmup_calls = sum(crew.counts)
            rows = window(crew, plan, clock=clock)
    finally:
        gc.enable()
    return Stream(
        issued_ns=rows[:, 0],
        completed_ns=rows[:, 1],
        calls_per_sample=1,
        warmup=gate.warmup_class,
        warmup_calls=warmup_calls,
        timer_overhead_ns=overhead,
    )


def window(crew: Crew, plan: StreamPlan, *, clock: Clock) -> Array:
    """Rows that complete from now on until the plan is met; at least what a rate needs, whatever they take."""
    since, begin = crew.counts, clock()
    least = least_rows(len(since))
    enough, cap = begin + round(plan.measure_s * NS_PER_S), begin + round(plan.max_s * NS_PER_S)
    while True:
        time.sleep(POLL_S)
        crew.check()
        now, done = clock(), sum(crew.counts) - sum(since)
        is_met = now >= enough and done >= plan.min_iterations
        if done >= least and (is_met or now >= cap or done >= SAMPLES_MOST):
            return crew.rows(since)[:SAMPLES_MOST]


def _through_the_gate(crew: Crew, plan: StreamPlan, *, clock: Clock) -> ThreeWindowGate:
    """Windows of what all lanes completed, until three agree or the warm-up's time is over."""
    gate = ThreeWindowGate(window_ns=round(plan.window_s * NS_PER_S), min_calls=plan.window_calls)
    until = clock() + round(plan.warmup_max_s * NS_PER_S)
    since, begin = crew.counts, clock()
    while not gate.steady and clock() < until:
        time.sleep(POLL_S)
        crew.check()
        now = clock()
        if now - begin >= gate.window_ns and sum(crew.counts) - sum(since) >= gate.min_calls:
            rows = crew.rows(since)
            durations = (rows[:, 1] - rows[:, 0]).tolist()
            gate.windows.append(Window(calls=len(rows), total_ns=max(1, now - begin), median_ns=median(durations)))
            since, begin = crew.counts, now
    return gate

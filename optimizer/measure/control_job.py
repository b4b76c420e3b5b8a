"""The control job: fixed work whose duration witnesses the host's state, the primary noise signal on VMs."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from statistics import median

import numpy as np

REPEATS = 9
SPIN_BYTES = 2 * 2**20
COPY_BYTES = 32 * 2**20


class ControlJob:
    """A spin loop plus a memory copy; keeps the history of one run."""

    def __init__(self) -> None:
        self._spin = bytes(SPIN_BYTES)
        self._source = np.zeros(COPY_BYTES, np.uint8)
        self._target = np.zeros_like(self._source)
        self.history_ns: list[int] = []

    def probe(self) -> int:
        """Run it and return its duration in ns: each part's shortest of several repeats, so that single interruptions do not count."""
        duration = shortest_ns(self._spin_once) + shortest_ns(self._copy_once)
        self.history_ns.append(duration)
        return duration

    def deviation(self, duration_ns: int) -> float:
        """Relative distance to the run's median so far."""
        usual = median(self.history_ns) if self.history_ns else duration_ns
        return duration_ns / usual - 1.0

    def _spin_once(self) -> None:
        hashlib.sha256(self._spin).digest()

    def _copy_once(self) -> None:
        np.copyto(self._target, self._source)


def shortest_ns(work: Callable[[], None]) -> int:
    """Shortest duration of ``REPEATS`` runs."""
    durations = []
    for _ in range(REPEATS):
        begin = time.perf_counter_ns()
        work()
        durations.append(time.perf_counter_ns() - begin)
    return min(durations)

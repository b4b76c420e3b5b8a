"""Completed inferences per second of one start; of numpy alone, so that a timed child may use it."""

from __future__ import annotations

from typing import Any

import numpy as np

from optimizer.units import NS_PER_S

TURNS = 2
"""Turns of all lanes that a window needs at least: the first opens the span, the others are counted."""


def least_rows(in_flight: int) -> int:
    """Completed requests that a rate with so many in flight needs."""
    return TURNS * in_flight


def start_throughput(start: np.ndarray[Any, Any], *, batch: int = 1, calls_per_sample: int = 1, in_flight: int = 1) -> float:
    """Completed inferences per steady second of one start; a batch of 8 counts 8.

    With L requests in flight, ``start`` is in the order of completion and the seconds run from completion L to the last of a whole turn
    of L. Steady lanes repeat completion i as completion i + L, so that such a span holds as much work as it counts, whether they
    complete together or in turns. A start of fewer than two turns is counted from its first issue, with the lanes' idle ends.
    """
    rows = np.asarray(start)
    items = calls_per_sample * batch * NS_PER_S
    if rows.ndim == 1:
        return len(rows) * items / float(np.sum(rows))
    if in_flight == 1 or len(rows) < least_rows(in_flight):
        return len(rows) * items / float(rows[-1, 1] - rows[0, 0])
    whole = len(rows) - len(rows) % in_flight
    return (whole - in_flight) * items / float(rows[whole - 1, 1] - rows[in_flight - 1, 1])

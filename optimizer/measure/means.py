"""Intervals for positive quantities with one value per start: means, throughput, energy, memory (measurement.md 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from scipy import stats

from optimizer.errors import EngineFault
from optimizer.measure.estimate import Estimate

Floats = np.ndarray[Any, np.dtype[np.float64]]


def _logs(values: Sequence[float]) -> Floats:
    logs = np.asarray(values, dtype=float)
    if logs.size == 0 or not np.all(np.isfinite(logs)) or np.any(logs <= 0):
        raise EngineFault("statistics.not_positive", "An interval on the log scale needs finite values above zero.")
    return cast(Floats, np.log(logs))


def mean_interval(values: Sequence[float], *, error: float = 0.05, n: int | None = None) -> Estimate:
    """``exp(mean ± t(k−1)·s/√k)`` of the logs of each start's value; one start has no interval.

    ``n`` is the number of raw samples behind the values. Raises EngineFault ``statistics.not_positive``.
    """
    logs = _logs(values)
    k, centre = logs.size, float(np.mean(logs))
    half = _half_width(logs, error=error, spread=1 / k)
    low, high = (None, None) if half is None else (math.exp(centre - half), math.exp(centre + half))
    return Estimate(
        value=math.exp(centre), low=low, high=high, n=k if n is None else n, n_eff=k, starts=k, error=error, method="log_t_over_starts"
    )


def prediction_interval(values: Sequence[float], *, error: float = 0.05) -> Estimate:
    """Where one further start is expected: the interval a replay of the record must hit."""
    logs = _logs(values)
    k, centre = logs.size, float(np.mean(logs))
    half = _half_width(logs, error=error, spread=1 + 1 / k)
    low, high = (None, None) if half is None else (math.exp(centre - half), math.exp(centre + half))
    return Estimate(value=math.exp(centre), low=low, high=high, n=k, n_eff=k, starts=k, error=error, method="log_t_prediction")


def _half_width(logs: Floats, *, error: float, spread: float) -> float | None:
    if logs.size < 2:
        return None
    return float(stats.t.ppf(1 - error / 2, logs.size - 1)) * float(np.std(logs, ddof=1)) * math.sqrt(spread)


def exact(value: float) -> Estimate:
    """A quantity without sampling error, such as the size of a file."""
    return Estimate(value=value, low=value, high=value, n=1, n_eff=1, starts=0, method="exact")

"""Percentiles: floors, order-statistic intervals on clustered samples, early stopping (measurement.md 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from scipy import special, stats

from optimizer.errors import EngineFault
from optimizer.measure.estimate import Estimate

Samples = np.ndarray[Any, Any]

CLUSTERS_PER_RUN = 20
"""Consecutive blocks that stand in for starts when there are fewer than three."""

MIN_STARTS = 3
EARLY_STOPPING_CONFIDENCE = 0.99


def early_stopping_passes(under: int, over: int, percentile: float, *, confidence: float = EARLY_STOPPING_CONFIDENCE) -> bool:
    """Whether ``under`` samples at or below a bound and ``over`` above it prove the percentile lies below the bound.

    MLPerf Inference rules, early stopping with tolerance 0.
    """
    if under <= 0:
        return False
    return bool(special.betainc(under, over + 1, percentile) < 1 - confidence)


@cache
def early_stopping_minimum(over: int, percentile: float, *, confidence: float = EARLY_STOPPING_CONFIDENCE) -> int:
    """Fewest samples in all with which ``over`` samples above the bound still pass."""
    low, high = over, over + 1
    while not early_stopping_passes(high - over, over, percentile, confidence=confidence):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        if early_stopping_passes(middle - over, over, percentile, confidence=confidence):
            high = middle
        else:
            low = middle
    return high


def floor_samples(percentile: float) -> int:
    """Fewest samples from which the percentile may be shown (early stopping with one sample above, 99% confidence)."""
    return early_stopping_minimum(1, percentile)


def early_stopping_rank(n: int, percentile: float) -> int | None:
    """t*: the t*-th highest of ``n`` samples is the early-stopping estimate; None below the floor."""
    if n < floor_samples(percentile):
        return None
    low, high = 1, n
    while high - low > 1:
        middle = (low + high) // 2
        if early_stopping_passes(n - middle, middle, percentile):
            low = middle
        else:
            high = middle
    return low


def bound_is_met(samples: Samples, bound: float, percentile: float, *, n_eff: int | None = None) -> bool:
    """The bound test, counts scaled by ``n_eff``/n: n rounded down, samples over the bound rounded up."""
    n, over = len(samples), int(np.count_nonzero(samples > bound))
    scale = 1.0 if n_eff is None else n_eff / n
    scaled_over = math.ceil(over * scale - 1e-9)
    return early_stopping_passes(math.floor(n * scale + 1e-9) - scaled_over, scaled_over, percentile)


def nearest_rank(n: int, percentile: float) -> int:
    """1-based rank of the percentile among ``n`` sorted samples."""
    return min(n, max(1, math.ceil(percentile * n - 1e-9)))


@cache
def order_statistic_ranks(n_eff: int, percentile: float, *, error: float = 0.05) -> tuple[int | None, int | None]:
    """1-based ranks of the Hahn-Meeker interval among ``n_eff`` independent samples; None where an end is unbounded."""
    if n_eff < 1:
        return None, None
    low = int(stats.binom.ppf(error / 2, n_eff, percentile))
    low += int(stats.binom.cdf(low, n_eff, percentile) <= error / 2)
    high = int(stats.binom.ppf(1 - error / 2, n_eff, percentile)) + 1
    return (low if low >= 1 else None), (high if high <= n_eff else None)


def percentile_interval(starts: Sequence[Samples], percentile: float, *, error: float = 0.05) -> Estimate:
    """Nearest-rank percentile of the pooled samples with its interval, design effect included.

    ``starts`` holds one array of samples per fresh process, in time order; failed requests are +inf. The longer ones
    are truncated to the shortest. Korn-Graubard design effect over starts, or over 20 blocks per run below three starts.
    """
    clusters = _clusters(starts)
    k, m = clusters.shape
    pooled = np.sort(clusters, axis=None)
    value = float(pooled[nearest_rank(pooled.size, percentile) - 1])
    n_eff = effective_samples(np.mean(clusters > value, axis=1), m, percentile, error=error)
    low, high = _interval(pooled, n_eff, percentile, error=error)
    return Estimate(
        value=value, low=low, high=high, n=pooled.size, n_eff=n_eff, starts=len(starts), error=error, method=f"ranks_{k}_clusters"
    )


def independent_percentile_interval(values: Samples, percentile: float, *, error: float = 0.05) -> Estimate:
    """Percentile of independent values (one per example) with the plain order-statistic interval."""
    pooled = np.sort(values)
    if not pooled.size:
        raise EngineFault("statistics.no_samples", "A percentile needs at least one sample.")
    value = float(pooled[nearest_rank(pooled.size, percentile) - 1])
    low, high = _interval(pooled, pooled.size, percentile, error=error)
    return Estimate(value=value, low=low, high=high, n=pooled.size, n_eff=pooled.size, starts=0, error=error, method="ranks_independent")


def effective_samples(shares_above: Samples, per_cluster: int, percentile: float, *, error: float = 0.05) -> int:
    """How many independent samples the clusters are worth, given each cluster's share above the pooled percentile."""
    k = len(shares_above)
    n = k * per_cluster
    if k < 2:
        return n
    deff = max(1.0, per_cluster * float(np.var(shares_above, ddof=1)) / (percentile * (1 - percentile)))
    if deff == 1.0:
        return n
    z, t = stats.norm.ppf(1 - error / 2), stats.t.ppf(1 - error / 2, k - 1)
    return math.floor(n / deff * float(z / t) ** 2)


def _clusters(starts: Sequence[Samples]) -> Samples:
    """Samples as [clusters, samples per cluster], equally many per start."""
    shortest = min((len(start) for start in starts), default=0)
    if shortest == 0:
        raise EngineFault("statistics.no_samples", "A percentile needs at least one sample in every start.")
    kept = np.stack([np.asarray(start, dtype=float)[:shortest] for start in starts])
    if len(starts) >= MIN_STARTS:
        return kept
    blocks = min(CLUSTERS_PER_RUN, shortest)
    per_block = shortest // blocks
    return kept[:, : blocks * per_block].reshape(len(starts) * blocks, per_block)


def _interval(pooled: Samples, n_eff: int, percentile: float, *, error: float) -> tuple[float | None, float | None]:
    """Map the ranks among ``n_eff`` back to the ``N`` sorted samples."""
    low_rank, high_rank = order_statistic_ranks(n_eff, percentile, error=error)
    low = None if low_rank is None else float(pooled[max(1, low_rank * pooled.size // n_eff) - 1])
    high = None if high_rank is None else float(pooled[-(-high_rank * pooled.size // n_eff) - 1])
    return low, high

"""Bootstraps: over examples for accuracy and fidelity, over starts and blocks for joint draws (measurement.md 5, 9)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from optimizer.errors import EngineFault
from optimizer.measure.estimate import Estimate
from optimizer.specs import Measurement

Floats = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]

DRAWS = 2_000


def bootstrap_interval(
    statistic: Callable[[Ints], float],
    n: int,
    *,
    seed: int,
    error: float = 0.05,
    draws: int = DRAWS,
    groups: Sequence[int] | None = None,
) -> Estimate:
    """Percentile bootstrap of ``statistic(indices)`` over ``n`` examples, over whole groups when examples share a source."""
    if n < 1:
        raise EngineFault("statistics.no_samples", "A bootstrap needs at least one example.")
    rng = np.random.default_rng(seed)
    members = [np.arange(n)[i : i + 1] for i in range(n)] if groups is None else _members(groups)
    values = [statistic(_resampled(members, rng)) for _ in range(draws)]
    low, high = np.quantile(values, [error / 2, 1 - error / 2])
    return _bootstrap_estimate(statistic(np.arange(n)), float(low), float(high), n=n, units=len(members), error=error)


def paired_bootstrap_mean(differences: Sequence[float], *, seed: int, error: float = 0.05, draws: int = DRAWS) -> Estimate:
    """Mean of per-example differences (candidate − baseline) with its bootstrap interval."""
    values = np.asarray(differences, dtype=float)
    rng = np.random.default_rng(seed)
    means = np.array([np.mean(values[rng.integers(0, values.size, values.size)]) for _ in range(draws)])
    low, high = np.quantile(means, [error / 2, 1 - error / 2])
    return _bootstrap_estimate(float(np.mean(values)), float(low), float(high), n=values.size, units=values.size, error=error)


def spearman(first: Floats, second: Floats) -> float:
    """Spearman's rank correlation; two constant sequences agree (1), one constant sequence does not (0)."""
    ranks = stats.rankdata(first), stats.rankdata(second)
    spread = [float(np.std(one)) for one in ranks]
    if not all(spread):
        return 1.0 if not any(spread) else 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def similarity_rank_correlation(reference: Floats, candidate: Floats, *, seed: int, error: float = 0.05, draws: int = DRAWS) -> Estimate:
    """Spearman correlation of all pairwise similarities, bootstrapped over examples.

    ``reference`` and ``candidate`` are similarity matrices [n, n]; only pairs i < j count. Ranks are those of the full
    sample, so that each draw is a weighted correlation: with example counts w, pair (i, j) weighs w_i·w_j.
    """
    n = reference.shape[0]
    if n < 3:
        raise EngineFault("statistics.no_samples", "A correlation of similarities needs at least three examples.")
    upper = np.triu_indices(n, k=1)
    value = spearman(reference[upper], candidate[upper])
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(float)
    values = _weighted_correlations(counts, _rank_matrix(reference, upper), _rank_matrix(candidate, upper))
    low, high = np.quantile(values, [error / 2, 1 - error / 2])
    return _bootstrap_estimate(value, float(low), float(high), n=n, units=n, error=error)


def hierarchical_bootstrap(starts: Sequence[Floats], *, seed: int, draws: int = DRAWS) -> Floats:
    """Joint draws of KPI means: resample starts, then blocks within starts.

    ``starts`` are arrays [blocks, kpis] of positive block values; returns [draws, kpis]. Correlation between KPIs survives.
    """
    rng = np.random.default_rng(seed)
    result = np.empty((draws, starts[0].shape[1]))
    for draw in range(draws):
        chosen = [starts[i] for i in rng.integers(0, len(starts), len(starts))]
        result[draw] = np.mean([np.mean(one[rng.integers(0, len(one), len(one))], axis=0) for one in chosen], axis=0)
    return result


def stretch(draws: Floats, measurement: Measurement) -> Floats | None:
    """Stretch draws of one KPI on the log scale until their 95% span equals the measurement's interval; None if unbounded."""
    value, low, high = measurement.value, measurement.ci_low, measurement.ci_high
    if value is None or low is None or high is None or min(value, low) <= 0:
        return None
    deviations = np.log(draws) - float(np.mean(np.log(draws)))
    below, above = np.quantile(deviations, [0.025, 0.975])
    down = math.log(value / low) / -below if below < 0 else 0.0
    up = math.log(high / value) / above if above > 0 else 0.0
    return value * np.exp(np.where(deviations < 0, deviations * down, deviations * up))


def _members(groups: Sequence[int]) -> list[Ints]:
    labels = np.asarray(groups)
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]


def _resampled(members: Sequence[Ints], rng: np.random.Generator) -> Ints:
    return np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])


def _rank_matrix(similarities: Floats, upper: tuple[Ints, ...]) -> Floats:
    """Centred ranks of the pairs above the diagonal, zero elsewhere."""
    ranks = stats.rankdata(similarities[upper])
    matrix = np.zeros_like(similarities, dtype=float)
    matrix[upper] = ranks - np.mean(ranks)
    return matrix


def _weighted_correlations(counts: Floats, first: Floats, second: Floats) -> Floats:
    pairs = np.triu(np.ones_like(first), k=1)
    total, a, b, aa, bb, ab = (_pair_sums(counts, one) for one in (pairs, first, second, first * first, second * second, first * second))
    covariance, variances = ab - a * b / total, (aa - a * a / total) * (bb - b * b / total)
    return np.where(variances > 0, covariance / np.sqrt(np.maximum(variances, 1e-300)), 1.0)


def _pair_sums(counts: Floats, matrix: Floats) -> Floats:
    """For each draw w: the sum over i < j of w_i·w_j·matrix[i, j]."""
    return np.asarray(np.einsum("di,di->d", counts @ matrix, counts))


def _bootstrap_estimate(value: float, low: float, high: float, *, n: int, units: int, error: float) -> Estimate:
    return Estimate(value=value, low=low, high=high, n=n, n_eff=units, starts=0, error=error, method="bootstrap")

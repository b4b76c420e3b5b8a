"""Rank correlation and bootstraps of accuracy and fidelity (measurement.md 9)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from optimizer.measure.resampling import bootstrap_interval, similarity_rank_correlation, spearman


def similarities(vectors: np.ndarray) -> np.ndarray:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(unit @ unit.T)


def test_spearman_agrees_with_scipy_with_ties() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.integers(0, 9, 200).astype(float), rng.normal(size=200)
    assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)


def test_constant_sequences_have_a_defined_correlation() -> None:
    assert spearman(np.ones(5), np.ones(5)) == 1.0
    assert spearman(np.ones(5), np.arange(5.0)) == 0.0


def test_equal_similarities_correlate_exactly() -> None:
    matrix = similarities(np.random.default_rng(2).normal(size=(40, 8)))
    estimate = similarity_rank_correlation(matrix, matrix, seed=1)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((1.0, 1.0, 1.0))


def test_the_weighted_bootstrap_agrees_with_resampling_the_pairs_one_by_one() -> None:
    """Oracle: resample examples, keep pairs of different originals, correlate the full sample's ranks."""
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(60, 8))
    first, second = similarities(vectors), similarities(vectors + 0.3 * rng.normal(size=vectors.shape))
    upper = np.triu_indices(60, k=1)
    ranks = [np.zeros((60, 60)), np.zeros((60, 60))]
    for table, matrix in zip(ranks, (first, second), strict=True):
        table[upper] = stats.rankdata(matrix[upper])
    ranks = [table + table.T for table in ranks]
    values = []
    for _ in range(600):
        chosen = rng.integers(0, 60, 60)
        i, j = np.triu_indices(60, k=1)
        keep = chosen[i] != chosen[j]
        values.append(np.corrcoef(ranks[0][chosen[i], chosen[j]][keep], ranks[1][chosen[i], chosen[j]][keep])[0, 1])
    estimate = similarity_rank_correlation(first, second, seed=4)
    assert (estimate.low, estimate.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=0.01)


def test_groups_are_resampled_whole_and_widen_the_interval() -> None:
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(20), 10)
    values = rng.normal(size=20)[groups] + 0.1 * rng.normal(size=200)
    single = bootstrap_interval(lambda chosen: float(np.mean(values[chosen])), 200, seed=1, draws=400)
    grouped = bootstrap_interval(lambda chosen: float(np.mean(values[chosen])), 200, seed=1, draws=400, groups=list(groups))
    assert grouped.n_eff == 20
    assert (grouped.high or 0) - (grouped.low or 0) > 2 * ((single.high or 0) - (single.low or 0))


def test_one_seed_gives_one_interval() -> None:
    once, again = (bootstrap_interval(lambda chosen: float(np.mean(chosen)), 50, seed=7, draws=100) for _ in range(2))
    assert once == again

"""Do the intervals cover? 200-run versions with binomial tolerance; the full ones are marked slow (measurement.md 16)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from optimizer.measure.means import mean_interval, prediction_interval
from optimizer.measure.percentile import independent_percentile_interval, percentile_interval
from optimizer.measure.proportions import tango, wilson
from optimizer.measure.resampling import paired_bootstrap_mean
from optimizer.measure.verdict import look_error
from tests.engine.simulated_latency import Process, assert_share_between

STARTS, SAMPLES = 5, 2_000
DEPENDENCE = {
    "independent": Process(),
    "start_sd_2": Process(start_sd=0.02),
    "start_sd_5": Process(start_sd=0.05),
    "ar1": Process(rho=0.8),
    "slow_mode": Process(slow_mode=True),
    "slow_mode_start_sd_2": Process(slow_mode=True, start_sd=0.02),
    "slow_mode_start_sd_5": Process(slow_mode=True, start_sd=0.05),
    "slow_mode_ar1": Process(slow_mode=True, rho=0.8),
}
RUNS = pytest.mark.parametrize("runs", [200, pytest.param(1_000, marks=pytest.mark.slow)])


def _covered(low: float | None, high: float | None, truth: float) -> bool:
    return (low is None or low <= truth) and (high is None or truth <= high)


@RUNS
@pytest.mark.parametrize("name", DEPENDENCE)
def test_percentile_intervals_cover_the_truth(name: str, runs: int) -> None:
    process = DEPENDENCE[name]
    rng = np.random.default_rng([7, *name.encode()])
    hits = dict.fromkeys((0.5, 0.9, 0.99), 0)
    truths = {q: process.percentile(q) for q in hits}
    for _ in range(runs):
        starts = list(process.draw(rng, starts=STARTS, samples=SAMPLES))
        for q in hits:
            estimate = percentile_interval(starts, q)
            hits[q] += _covered(estimate.low, estimate.high, truths[q])
    independent = process.start_sd == 0 and process.rho == 0
    for count in hits.values():
        assert_share_between(count, runs, 0.93, 0.99 if independent else 0.98)


@RUNS
@pytest.mark.parametrize("starts", [3, 5, 10])
@pytest.mark.parametrize("noise", ["lognormal", "gamma"])
@pytest.mark.parametrize("start_sd", [0.0, 0.02, 0.05])
def test_mean_intervals_cover_the_truth(noise: str, start_sd: float, starts: int, runs: int) -> None:
    """Truth: what the geometric mean of many starts' means tends to; 500 calls of log sd 0.2 per start."""
    rng = np.random.default_rng([11, starts, int(start_sd * 100)])
    calls = _noise(noise, rng, (runs, starts, 500))
    values = np.mean(calls, axis=2) * np.exp(start_sd * rng.standard_normal((runs, starts)))
    intervals = [mean_interval(list(run)) for run in values]
    hits = sum(_covered(one.low, one.high, 1.0) for one in intervals)
    assert_share_between(hits, runs, 0.93, 0.97)


def _noise(kind: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Mean 1, log sd about 0.2."""
    if kind == "lognormal":
        return np.exp(0.2 * rng.standard_normal(shape) - 0.02)
    return rng.gamma(25.0, 1 / 25.0, shape)


def test_the_control_that_ignores_starts_fails_badly() -> None:
    """Negative control: the same data, pooled as if independent, must cover under 80%."""
    process, rng, runs = Process(start_sd=0.05), np.random.default_rng(13), 200
    hits = 0
    for _ in range(runs):
        estimate = independent_percentile_interval(process.draw(rng, starts=STARTS, samples=SAMPLES).ravel(), 0.5)
        hits += _covered(estimate.low, estimate.high, process.percentile(0.5))
    assert hits / runs < 0.80


@RUNS
def test_a_replay_falls_into_the_prediction_interval_not_into_the_old_confidence_interval(runs: int) -> None:
    rng = np.random.default_rng(17)
    values = np.exp(0.03 * rng.standard_normal((runs, 6)))
    predicted = [prediction_interval(list(run[:5])) for run in values]
    old = [mean_interval(list(run[:5])) for run in values]
    assert_share_between(sum(_covered(p.low, p.high, run[5]) for p, run in zip(predicted, values, strict=True)), runs, 0.93, 0.97)
    assert sum(_covered(p.low, p.high, run[5]) for p, run in zip(old, values, strict=True)) / runs < 0.85


@pytest.mark.parametrize("runs", [1_000, pytest.param(4_000, marks=pytest.mark.slow)])
def test_collecting_more_twice_passes_falsely_in_at_most_five_percent(runs: int) -> None:
    """Truth exactly at the target: starts double at each look, the error halves, the first Pass counts."""
    rng = np.random.default_rng(19)
    values = np.exp(0.03 * rng.standard_normal((runs, 20)))
    false = sum(
        any((mean_interval(list(run[:k]), error=look_error(j)).high or 2) <= 1 for j, k in ((1, 5), (2, 10), (3, 20))) for run in values
    )
    assert_share_between(false, runs, 0.02, 0.05)


def test_collecting_more_without_spending_the_error_would_break_the_promise() -> None:
    rng, runs = np.random.default_rng(19), 1_000
    values = np.exp(0.03 * rng.standard_normal((runs, 20)))
    false = sum(any((mean_interval(list(run[:k])).high or 2) <= 1 for k in (5, 10, 20)) for run in values)
    assert false / runs > 0.05


@RUNS
def test_wilson_and_tango_cover_at_nine_in_ten_right(runs: int) -> None:
    """Baseline right in 90% of 500 examples; 2% of examples differ between the two, equally either way."""
    rng = np.random.default_rng(23)
    right = rng.binomial(500, 0.9, runs)
    hits = sum(_covered(one.low, one.high, 0.9) for one in (wilson(int(count), 500) for count in right))
    assert_share_between(hits, runs, 0.93, 0.97)
    discordant = rng.multinomial(500, [0.05, 0.05, 0.9], runs)
    paired = [tango(int(gained), int(lost), 500) for gained, lost, _ in discordant]
    assert_share_between(sum(_covered(one.low, one.high, 0.0) for one in paired), runs, 0.93, 0.97)


def test_the_bootstrap_of_paired_differences_covers() -> None:
    rng, runs = np.random.default_rng(29), 200
    hits = 0
    for seed in range(runs):
        estimate = paired_bootstrap_mean(list(rng.normal(0.5, 1.0, 200)), seed=seed, draws=400)
        hits += _covered(estimate.low, estimate.high, 0.5)
    assert_share_between(hits, runs, 0.92, 0.97)


def test_the_true_percentiles_of_the_simulation_are_right() -> None:
    assert Process(start_sd=0.05).percentile(0.9) == pytest.approx(math.exp(math.hypot(0.2, 0.05) * stats.norm.ppf(0.9)))
    pooled = Process(slow_mode=True).draw(np.random.default_rng(31), starts=400, samples=1_000)
    assert np.quantile(pooled, 0.99) == pytest.approx(Process(slow_mode=True).percentile(0.99), rel=0.01)

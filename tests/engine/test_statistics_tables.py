"""Exact values of measurement.md 4 and 9: floors, ranks, early stopping, proportions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import optimize, special, stats

from optimizer.errors import EngineFault
from optimizer.measure.percentile import (
    bound_is_met,
    early_stopping_minimum,
    early_stopping_passes,
    early_stopping_rank,
    effective_samples,
    floor_samples,
    independent_percentile_interval,
    nearest_rank,
    order_statistic_ranks,
    percentile_interval,
)
from optimizer.measure.proportions import examples_to_prove, tango, wilson

FLOORS = {0.5: 11, 0.9: 64, 0.95: 130, 0.97: 219, 0.99: 662, 0.999: 6_636, 0.9999: 66_381}
ZERO_OVERS = {
    0.5: (7, 6, 5),
    0.9: (44, 36, 29),
    0.95: (90, 72, 59),
    0.97: (152, 122, 99),
    0.99: (459, 368, 299),
    0.999: (4_603, 3_688, 2_995),
    0.9999: (46_050, 36_887, 29_956),
}


@pytest.mark.parametrize(("percentile", "floor"), FLOORS.items())
def test_floors_are_the_table_s(percentile: float, floor: int) -> None:
    assert floor_samples(percentile) == floor


@pytest.mark.parametrize(("percentile", "counts"), ZERO_OVERS.items())
def test_samples_needed_with_none_above_are_the_table_s(percentile: float, counts: tuple[int, int, int]) -> None:
    assert tuple(early_stopping_minimum(0, percentile, confidence=one) for one in (0.99, 0.975, 0.95)) == counts


@pytest.mark.parametrize(
    ("over", "total"), [(0, 459), (1, 662), (2, 838), (5, 1_307), (10, 2_010), (20, 3_304), (50, 6_898), (100, 12_571)]
)
def test_early_stopping_needs_the_table_s_samples(over: int, total: int) -> None:
    assert early_stopping_minimum(over, 0.99) == total
    assert early_stopping_passes(total - over, over, 0.99)
    assert not early_stopping_passes(total - over - 1, over, 0.99)


def test_the_early_stopping_estimate_is_the_77th_highest_of_ten_thousand() -> None:
    assert early_stopping_rank(10_000, 0.99) == 77
    assert early_stopping_rank(661, 0.99) is None
    assert early_stopping_rank(662, 0.99) == 1


def test_early_stopping_agrees_with_the_incomplete_beta_function_on_a_grid() -> None:
    for n, over, percentile in itertools.product((64, 459, 662, 1_307, 5_000), (0, 1, 5, 40), (0.9, 0.97, 0.99)):
        assert early_stopping_passes(n - over, over, percentile) == (special.betainc(n - over, over + 1, percentile) < 0.01)


def test_the_bound_test_rounds_scaled_counts_against_the_claim() -> None:
    samples = np.concatenate([np.zeros(661), [9.0]])
    assert bound_is_met(samples, 1.0, 0.99)
    assert not bound_is_met(samples, 1.0, 0.99, n_eff=661)


def test_ranks_of_p99_at_a_thousand_samples_are_983_and_997() -> None:
    assert order_statistic_ranks(1_000, 0.99) == (983, 997)


def test_the_upper_end_of_p99_is_bounded_from_368_samples() -> None:
    assert order_statistic_ranks(367, 0.99)[1] is None
    assert order_statistic_ranks(368, 0.99)[1] == 368


def test_ranks_follow_the_binomial_distribution() -> None:
    for n, percentile, error in itertools.product((1, 5, 11, 64, 365, 662), (0.01, 0.5, 0.9, 0.99), (0.05, 0.0125)):
        low, high = order_statistic_ranks(n, percentile, error=error)
        below = [stats.binom.cdf(rank - 1, n, percentile) for rank in range(1, n + 2)]
        assert low == max((rank for rank in range(1, n + 1) if below[rank - 1] <= error / 2), default=None)
        first = min(rank for rank in range(1, n + 2) if below[rank - 1] >= 1 - error / 2)
        assert high == (None if first > n else first)


@pytest.mark.parametrize(("n", "percentile", "rank"), [(1_000, 0.99, 990), (10, 0.5, 5), (11, 0.5, 6), (100, 0.07, 7), (1, 0.99, 1)])
def test_percentiles_are_nearest_rank(n: int, percentile: float, rank: int) -> None:
    assert nearest_rank(n, percentile) == rank


def test_failed_calls_rank_above_every_success() -> None:
    starts = [np.array([1.0] * 95 + [np.inf] * 5) for _ in range(3)]
    assert math.isinf(percentile_interval(starts, 0.99).value)
    assert percentile_interval(starts, 0.9).value == 1.0


def test_starts_are_truncated_to_the_shortest() -> None:
    estimate = percentile_interval([np.ones(50), np.ones(70), np.ones(60)], 0.5)
    assert (estimate.n, estimate.starts) == (150, 3)


def test_a_run_of_one_start_is_cut_into_twenty_blocks() -> None:
    estimate = percentile_interval([np.arange(1_000.0)], 0.5)
    assert estimate.method == "ranks_20_clusters"
    assert estimate.n_eff < 50


def test_the_design_effect_of_the_worked_formula() -> None:
    shares = np.array([0.4, 0.5, 0.6, 0.5, 0.5])
    deff = 100 * np.var(shares, ddof=1) / 0.25
    expected = math.floor(500 / deff * (stats.norm.ppf(0.975) / stats.t.ppf(0.975, 4)) ** 2)
    assert effective_samples(shares, 100, 0.5) == expected
    assert effective_samples(np.full(5, 0.5), 100, 0.5) == 500


def test_an_empty_start_is_a_fault() -> None:
    with pytest.raises(EngineFault):
        percentile_interval([np.ones(5), np.array([])], 0.5)
    with pytest.raises(EngineFault):
        independent_percentile_interval(np.array([]), 0.5)


@pytest.mark.parametrize(("successes", "n", "low", "high"), [(0, 10, 0.0, 0.2775), (81, 263, 0.2553, 0.3662), (1, 29, 0.0061, 0.1718)])
def test_wilson_gives_the_published_values(successes: int, n: int, low: float, high: float) -> None:
    """Newcombe 1998 (single proportion), table I, method 3; 0/10 by its closed form z²/(n+z²)."""
    estimate = wilson(successes, n)
    assert estimate.low == pytest.approx(low, abs=6e-5)
    assert estimate.high == pytest.approx(high, abs=6e-5)


def test_wilson_ends_exactly_at_nothing_and_at_everything() -> None:
    assert [wilson(0, n).low for n in (3, 10, 381)] == [0.0] * 3
    assert [wilson(n, n).high for n in (3, 10, 381)] == [1.0] * 3


def test_agreement_of_099_needs_381_examples_without_any_change_and_about_1500_at_0995() -> None:
    assert examples_to_prove(0.99) == 381
    assert 1_450 <= examples_to_prove(0.99, share=0.995) <= 1_550


def test_a_limit_that_the_share_does_not_exceed_is_never_proven() -> None:
    with pytest.raises(EngineFault):
        examples_to_prove(0.99, share=0.99)


@pytest.mark.parametrize("n", [10, 100, 500])
def test_tango_with_no_discordant_pair_has_its_closed_form(n: int) -> None:
    z2 = stats.norm.ppf(0.975) ** 2
    estimate = tango(0, 0, n)
    assert estimate.value == 0
    assert (estimate.low, estimate.high) == pytest.approx((-z2 / (n + z2), z2 / (n + z2)), abs=1e-9)


@pytest.mark.parametrize(("gained", "lost", "n"), [(12, 2, 50), (5, 5, 40), (1, 9, 500), (0, 4, 30), (30, 0, 30), (0, 7, 7)])
def test_tango_s_ends_are_where_the_constrained_likelihood_puts_the_score(gained: int, lost: int, n: int) -> None:
    """Oracle: the nuisance parameter by direct maximisation of the trinomial likelihood."""
    estimate = tango(gained, lost, n)
    z = stats.norm.ppf(0.975)
    for end, sign in ((estimate.low, 1), (estimate.high, -1)):
        assert end is not None
        if abs(end) < 1:
            assert _score_by_maximum_likelihood(end, gained, lost, n) == pytest.approx(sign * z, abs=2e-3)


def _score_by_maximum_likelihood(delta: float, gained: int, lost: int, n: int) -> float:
    def negative_log_likelihood(p_lost: float) -> float:
        cells = (p_lost + delta, p_lost, 1 - 2 * p_lost - delta)
        counts = (gained, lost, n - gained - lost)
        return -sum(count * math.log(max(cell, 1e-300)) for count, cell in zip(counts, cells, strict=True) if count)

    bounds = (max(0.0, -delta), (1 - delta) / 2)
    q = optimize.minimize_scalar(negative_log_likelihood, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
    return (gained - lost - n * delta) / math.sqrt(n * (2 * q + delta * (1 - delta)))

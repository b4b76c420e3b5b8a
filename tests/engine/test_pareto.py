"""Fronts, domination in joint draws, knee and picks (measurement.md 8)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.measure.resampling import hierarchical_bootstrap, stretch
from optimizer.score.pareto import Option, dominance, front, independent_draws, knee, named_picks, p_nondominated, survivors
from tests.engine.scored_runs import measured

POINTS = st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), min_size=1, max_size=12)


@given(POINTS)
def test_the_front_is_exactly_what_nobody_dominates(points: list[tuple[float, float]]) -> None:
    keep = front(np.array(points))
    for one, kept in zip(points, keep, strict=True):
        beaten = any(other[0] <= one[0] and other[1] <= one[1] and other != one for other in points)
        assert kept == (not beaten)


def test_equal_points_stay_together_and_unknown_ones_leave() -> None:
    assert list(front(np.array([[1.0, 2.0], [1.0, 2.0], [np.nan, 0.1], [2.0, 3.0]]))) == [True, True, False, False]


def draws_of(*options: tuple[float, float], sd: float = 0.0, count: int = 400) -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.exp(np.log(np.array(options)) + sd * rng.standard_normal((count, len(options), 2)))


def test_domination_needs_a_gain_beyond_the_margin_and_no_loss_beyond_it() -> None:
    p = dominance(draws_of((1.0, 1.0), (1.02, 1.02), (1.10, 1.02), (1.10, 0.90)), margin=0.03)
    assert list(p[0]) == [0, 0, 1, 0]


def test_p_nondominated_counts_the_draws_in_which_nobody_dominates() -> None:
    p = p_nondominated(draws_of((1.0, 1.0), (1.04, 1.0), sd=0.02), margin=0.03)
    assert p[0] > 0.9
    assert 0.2 < p[1] < 0.8


def test_survivors_lose_only_what_is_certainly_dominated() -> None:
    assert list(survivors(draws_of((1.0, 1.0), (1.5, 1.5), sd=0.01), margin=0.03)) == [True, False]
    assert list(survivors(draws_of((1.0, 1.0), (1.04, 1.0), sd=0.05), margin=0.03)) == [True, True]


def test_members_of_a_cycle_of_domination_stay() -> None:
    """A margin that forgives small losses is not transitive: three objectives, each better by 5% twice and worse by 2%."""
    a, b, c = (1.0, 1.02, 1.04), (1.04, 1.0, 1.02), (1.02, 1.04, 1.0)
    draws = np.array([[a, b, c]])
    wins = dominance(draws, margin=0.03) >= 0.95
    assert not wins.any() or survivors(draws, margin=0.03).all()
    cyclic = np.array([[(1.0, 1.029, 1.058), (1.058, 1.0, 1.029), (1.029, 1.058, 1.0)]])
    circle = dominance(cyclic, margin=0.0299) >= 0.95
    assert circle.sum() == 3
    assert survivors(cyclic, margin=0.0299).all()


def test_the_knee_is_farthest_below_the_chord() -> None:
    points = np.array([[1.0, 16.0], [2.0, 3.0], [4.0, 2.0], [16.0, 1.0]])
    found = knee(points)
    assert found is not None
    assert found[0] == 1
    assert knee(points[:2]) is None


def test_a_straight_front_has_no_knee() -> None:
    found = knee(np.array([[1.0, 4.0], [2.0, 2.0], [4.0, 1.0]]))
    assert found is not None
    assert found[1] == pytest.approx(0)


def option(trial: int, cost: float, latency: float, *, passes: bool = True, sd: float | None = 0.01) -> Option:
    rng = np.random.default_rng(trial)
    draws = [None if sd is None else value * np.exp(sd * rng.standard_normal(500)) for value in (cost, latency)]
    return Option(trial=trial, cost=cost, latency_ms=latency, passes=passes, cost_draws=draws[0], latency_draws=draws[1])


def test_cheapest_fastest_and_balanced() -> None:
    options = [option(1, 1.0, 16.0), option(2, 1.3, 5.0), option(3, 2.0, 4.0)]
    assert named_picks(options) == {"cheapest": 1, "fastest": 3, "balanced": 2}


def test_the_fastest_costs_at_most_twice_the_cheapest() -> None:
    assert named_picks([option(1, 1.0, 16.0), option(2, 2.01, 1.0)]) == {"cheapest": 1, "fastest": 1}
    assert named_picks([option(1, 1.0, 16.0), option(2, 2.0, 1.0)]) == {"cheapest": 1, "fastest": 2}


def test_only_what_passes_is_picked_and_what_is_unknown_is_not_ranked() -> None:
    assert named_picks([option(1, 1.0, 1.0, passes=False), option(2, 5.0, 5.0), option(3, math.nan, 0.1)]) == {"cheapest": 2, "fastest": 2}
    assert named_picks([option(1, 1.0, 1.0, passes=False)]) == {}


def test_a_knee_within_the_noise_is_not_named() -> None:
    options = [option(1, 1.0, 4.0, sd=0.3), option(2, 2.0, 1.9, sd=0.3), option(3, 4.0, 1.0, sd=0.3)]
    assert "balanced" not in named_picks(options)
    unbounded = [option(1, 1.0, 16.0, sd=None), option(2, 1.3, 5.0, sd=None), option(3, 2.0, 4.0, sd=None)]
    assert "balanced" not in named_picks(unbounded)


def test_draws_span_the_measurement_s_interval() -> None:
    rng = np.random.default_rng(2)
    one = measured("latency_p50_ms", 10.0, half=0.1)
    draws = independent_draws(one, draws=20_000, rng=rng)
    assert draws is not None
    assert np.quantile(draws, [0.025, 0.5, 0.975]) == pytest.approx([9.0, 10.0, 11.0], rel=0.01)


def test_stretched_bootstrap_draws_span_the_interval_and_keep_their_correlation() -> None:
    rng = np.random.default_rng(3)
    level = rng.standard_normal((5, 1))
    blocks = [np.exp(0.03 * level[i] + 0.001 * rng.standard_normal((12, 2))) * np.array([10.0, 20.0]) for i in range(5)]
    joint = hierarchical_bootstrap(blocks, seed=1, draws=2_000)
    kpis = (measured("latency_p50_ms", 10.0, half=0.08), measured("latency_p90_ms", 20.0, half=0.08))
    stretched = [stretch(joint[:, index], one) for index, one in enumerate(kpis)]
    for draws, one in zip(stretched, kpis, strict=True):
        assert draws is not None
        assert np.quantile(draws, [0.025, 0.975]) == pytest.approx([one.ci_low, one.ci_high], rel=1e-3)
    assert np.corrcoef(np.log(np.array(stretched)))[0, 1] > 0.95

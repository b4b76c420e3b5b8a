"""Hodges-Lehmann, exact signed ranks, effects and looks (measurement.md 6)."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from optimizer.errors import EngineFault, InputError
from optimizer.measure.compare import (
    LOOK_ERRORS,
    SequentialRace,
    effect_of,
    look_errors,
    paired_effect,
    signed_rank_index,
    signed_rank_interval,
    walsh_averages,
    welch_effect,
)
from optimizer.specs import Effect

INDEX = {
    (8, 1): (3, None, None, None),
    (16, 1): (26, 21, 17, 17),
    (32, 1): (145, 133, 121, 121),
    (64, 1): (706, 669, 635, 635),
    (8, 2): (1, None, None, None),
    (16, 2): (21, 17, 14, 14),
    (32, 2): (133, 121, 110, 110),
    (64, 2): (669, 635, 604, 604),
    (8, 3): (1, None, None, None),
    (16, 3): (19, 15, 12, 12),
    (32, 3): (126, 115, 105, 105),
    (64, 3): (649, 617, 587, 587),
}


@pytest.mark.parametrize(("blocks", "finalists"), INDEX)
def test_the_index_table_is_exact(blocks: int, finalists: int) -> None:
    got = tuple(signed_rank_index(blocks, error=error / finalists) for error in LOOK_ERRORS)
    assert got == tuple(_index_by_counting(blocks, error / finalists) for error in LOOK_ERRORS)
    expected = INDEX[blocks, finalists]
    assert got[0] == expected[0]
    if blocks > 8:
        assert got == expected


def _index_by_counting(n: int, error: float) -> int | None:
    """Oracle in exact integers: number of rank subsets per sum."""
    ways = [1] + [0] * (n * (n + 1) // 2)
    for rank in range(1, n + 1):
        for total in range(len(ways) - 1, rank - 1, -1):
            ways[total] += ways[total - rank]
    below, index = 0, 0
    for count in ways:
        below += count
        if below > error / 2 * 2**n:
            break
        index += 1
    return index or None


def test_the_schedule_spends_five_percent_in_all() -> None:
    assert sum(LOOK_ERRORS) == pytest.approx(0.05)
    assert look_errors((8, 16)) == (0.025, 0.0125)


@pytest.mark.parametrize("looks", [(), (0, 8), (16, 8), (8, 8), (1, 2, 3, 4, 5)])
def test_a_schedule_that_would_overspend_or_go_back_is_refused(looks: tuple[int, ...]) -> None:
    with pytest.raises(InputError):
        look_errors(looks)


def test_walsh_averages_are_all_pairs_with_themselves() -> None:
    values = np.array([1.0, 4.0, 2.0])
    expected = sorted((a + b) / 2 for a, b in itertools.combinations_with_replacement(values, 2))
    assert list(walsh_averages(values)) == expected


@pytest.mark.parametrize("n", [6, 8, 11])
def test_the_interval_is_the_inversion_of_scipy_s_exact_test(n: int) -> None:
    """Just inside an end the exact two-sided Wilcoxon test keeps the null, just outside it rejects."""
    data, error = np.random.default_rng(n).normal(0.1, 0.05, n), 0.05
    _, low, high = signed_rank_interval(data, error=error)
    for end, out in ((low, -1e-9), (high, 1e-9)):
        assert stats.wilcoxon(data - (end + out), method="exact").pvalue <= error
        assert stats.wilcoxon(data - (end - out), method="exact").pvalue > error


def test_too_few_blocks_have_no_interval() -> None:
    effect = paired_effect([0.5] * 5, error=0.05)
    assert (effect.ci_low, effect.ci_high, effect.effect) == (0.0, math.inf, Effect.INCONCLUSIVE)
    assert not effect.not_slower
    measured = effect.measurement()
    assert (measured.ci_low, measured.ci_high) == (None, None)


def test_no_block_at_all_is_inconclusive_without_an_estimate() -> None:
    effect = paired_effect([])
    assert effect.effect is Effect.INCONCLUSIVE
    assert effect.measurement().value is None


def test_a_block_that_did_not_finish_is_a_fault_here() -> None:
    with pytest.raises(EngineFault):
        paired_effect([0.1, math.nan])


@pytest.mark.parametrize(
    ("low", "high", "effect"),
    [
        (1.04, 1.2, Effect.FASTER),
        (1.02, 1.2, Effect.INCONCLUSIVE),
        (1.03, 1.2, Effect.INCONCLUSIVE),
        (0.8, 0.96, Effect.SLOWER),
        (0.8, 0.975, Effect.INCONCLUSIVE),
        (0.98, 1.02, Effect.EQUIVALENT),
        (1 / 1.03, 1.03, Effect.EQUIVALENT),
        (0.9, 1.1, Effect.INCONCLUSIVE),
    ],
)
def test_effects_at_a_margin_of_three_percent(low: float, high: float, effect: Effect) -> None:
    assert effect_of(low, high, margin=0.03) is effect


@given(st.floats(0.01, 10), st.floats(1, 10), st.floats(0, 0.10))
def test_turning_a_ratio_over_turns_the_word_over(low: float, width: float, margin: float) -> None:
    high = low * width
    turned = {Effect.FASTER: Effect.SLOWER, Effect.SLOWER: Effect.FASTER}
    one, other = effect_of(low, high, margin=margin), effect_of(1 / high, 1 / low, margin=margin)
    near = any(abs(end / edge - 1) < 1e-9 for end in (low, high) for edge in (1 + margin, 1 / (1 + margin)))
    assert near or other is turned.get(one, one)


@given(st.lists(st.floats(-1, 1), min_size=8, max_size=20), st.floats(-0.5, 0.5))
def test_a_shift_of_all_blocks_shifts_estimate_and_interval(values: list[float], shift: float) -> None:
    before = signed_rank_interval(np.array(values), error=0.05)
    after = signed_rank_interval(np.array(values) + shift, error=0.05)
    for one, other in zip(before, after, strict=True):
        assert other == pytest.approx(one + shift, abs=1e-9)


def test_looks_judge_only_at_their_counts_and_end_with_the_last() -> None:
    race = SequentialRace(looks=(8, 16))
    undecided = [0.02, 0.05] * 8
    assert [race.after(undecided[:blocks]) for blocks in (7, 9, 15)] == [None] * 3
    first, last = race.after(undecided[:8]), race.after(undecided)
    assert first is not None
    assert last is not None
    assert (first.number, first.decided) == (1, False)
    assert (last.number, last.decided, last.effect.effect) == (2, True, Effect.INCONCLUSIVE)


def test_a_large_effect_is_decided_at_the_first_look() -> None:
    look = SequentialRace(looks=(8, 16), finalists=3).after([1.4, 1.41, 1.39, 1.4, 1.42, 1.38, 1.4, 1.4])
    assert look is not None
    assert look.decided
    assert look.effect.effect is Effect.FASTER
    assert look.effect.error == pytest.approx(0.025 / 3)


def test_sharing_the_error_between_finalists_widens_the_interval() -> None:
    values = list(np.random.default_rng(1).normal(0.1, 0.03, 16))
    alone = SequentialRace(looks=(8, 16)).after(values)
    shared = SequentialRace(looks=(8, 16), finalists=3).after(values)
    assert alone is not None
    assert shared is not None
    assert shared.effect.ci_low < alone.effect.ci_low
    assert shared.effect.ci_high > alone.effect.ci_high


def test_welch_agrees_with_scipy() -> None:
    rng = np.random.default_rng(3)
    slow, fast = np.exp(rng.normal(0.3, 0.02, 5)), np.exp(rng.normal(0.0, 0.05, 8))
    effect = welch_effect(list(slow), list(fast), error=0.05)
    oracle = stats.ttest_ind(np.log(slow), np.log(fast), equal_var=False).confidence_interval(0.95)
    assert (math.log(effect.ci_low), math.log(effect.ci_high)) == pytest.approx((oracle.low, oracle.high))


def test_welch_of_a_single_start_is_open_and_of_equal_starts_is_exact() -> None:
    assert welch_effect([2.0], [1.0]).effect is Effect.INCONCLUSIVE
    assert welch_effect([2.0, 2.0], [1.0, 1.0]).ci_low == pytest.approx(2.0)
    with pytest.raises(EngineFault):
        welch_effect([], [1.0])

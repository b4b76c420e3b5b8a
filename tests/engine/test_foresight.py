"""Foresight: what would the limits say of more examples that agree as well as these did."""

from __future__ import annotations

import pytest

from optimizer.measure.foresight import growth_needed, limits_missed
from optimizer.measure.proportions import wilson
from optimizer.specs import Measurement

TOP1, COSINE = "fidelity_top1_agreement_fraction", "fidelity_cosine_p01_ratio"


def share(right: int, n: int) -> Measurement:
    return wilson(right, n).measurement(TOP1)


def cosine(value: float, ci_low: float | None) -> Measurement:
    return Measurement(kpi=COSINE, value=value, unit="ratio", ci_low=ci_low, n=64)


def test_perfect_agreement_on_few_examples_foresees_a_proof_on_many() -> None:
    assert limits_missed([share(64, 64)], {TOP1: 0.99}, growth=1.0) == (TOP1,)
    assert limits_missed([share(64, 64)], {TOP1: 0.99}, growth=500 / 64) == ()


def test_one_error_in_two_hundred_is_too_near_to_the_limit() -> None:
    assert limits_missed([share(199, 200)], {TOP1: 0.99}, growth=2.5) == (TOP1,)
    assert limits_missed([share(199, 200)], {TOP1: 0.97}, growth=2.5) == ()


def test_parts_that_are_worth_more_than_their_examples_prove_no_more_than_flawless_ones() -> None:
    lines = Measurement(kpi="fidelity_character_agreement_fraction", value=0.9995, unit="fraction", ci_low=0.93, n=50, n_eff=5_000)
    assert limits_missed([lines], {lines.kpi: 0.99}, growth=1.0) == (lines.kpi,)
    assert limits_missed([lines], {lines.kpi: 0.99}, growth=8.0) == ()


@pytest.mark.parametrize(
    ("value", "ci_low", "missed"), [(0.999, 0.99, False), (0.992, 0.97, True), (0.9905, None, True), (0.9999, None, False)]
)
def test_other_limits_by_their_interval_or_by_a_clear_distance(value: float, ci_low: float | None, missed: bool) -> None:
    assert bool(limits_missed([cosine(value, ci_low)], {COSINE: 0.99}, growth=4.0)) is missed


def test_a_limit_without_a_measurement_is_missed() -> None:
    assert limits_missed([], {TOP1: 0.99}, growth=9.0) == (TOP1,)


def test_the_growth_that_would_just_do_is_found() -> None:
    narrow = share(993, 1_000)
    growth = growth_needed([narrow], {TOP1: 0.99}, most=20.0)
    assert growth is not None
    assert limits_missed([narrow], {TOP1: 0.99}, growth=growth) == ()
    assert limits_missed([narrow], {TOP1: 0.99}, growth=0.95 * growth) == (TOP1,)
    assert growth_needed([narrow], {TOP1: 0.99}, most=0.9 * growth) is None
    assert growth_needed([share(980, 1_000)], {TOP1: 0.99}, most=1e6) is None
    assert growth_needed([share(1_000, 1_000)], {TOP1: 0.99}, most=20.0) == 1.0


def test_caution_allows_for_luck_but_takes_flawless_agreement_as_it_is() -> None:
    lucky, flawless, clear = share(199, 200), share(200, 200), share(1_999, 2_000)
    assert limits_missed([lucky], {TOP1: 0.99}, growth=50.0) == ()
    assert limits_missed([lucky], {TOP1: 0.99}, growth=50.0, is_cautious=True) == (TOP1,)
    for one in (flawless, clear):
        assert limits_missed([one], {TOP1: 0.99}, growth=5.0, is_cautious=True) == ()
    assert growth_needed([lucky], {TOP1: 0.99}, most=50.0, is_cautious=True) is None


@pytest.mark.parametrize(("ci_low", "missed"), [(0.9915, False), (0.98, True)])
def test_caution_takes_a_part_of_the_interval_off(ci_low: float, missed: bool) -> None:
    assert limits_missed([cosine(0.993, ci_low)], {COSINE: 0.99}, growth=100.0) == ()
    assert bool(limits_missed([cosine(0.993, ci_low)], {COSINE: 0.99}, growth=100.0, is_cautious=True)) is missed

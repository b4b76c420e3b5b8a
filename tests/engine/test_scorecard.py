"""The scorecard: which trial is judged, on which numbers, in which words."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.codec import from_jsonable, to_jsonable
from optimizer.errors import InputError
from optimizer.score.change import unpaired_ratio
from optimizer.score.cost import COST
from optimizer.score.scorecard import Change, Needed, Scorecard, ScoreRow, Standing, build_scorecard
from optimizer.specs import Decision, Effect, InputSource, KpiTarget, Measurement, Provenance, Stage, Validity, Verdict
from tests.engine.scored_runs import (
    BASELINE,
    CANDIDATE,
    CATALOG_PRICE,
    TEAM_PRICE,
    asked,
    confirm_report,
    duel,
    kept,
    measured,
    race_report,
    reports_with,
    winning_duels,
    won,
)

HALF = KpiTarget(kpi="latency_p50_ms", value=0.8, relative=True)


def row(card: Scorecard, name: str) -> ScoreRow:
    return next(one for one in card.rows if one.kpi == name)


def test_a_winner_is_judged_and_named_with_size_and_certainty() -> None:
    card = build_scorecard(reports=reports_with(), outcome=won(), spec=asked(HALF), price=CATALOG_PRICE)
    assert (card.trial, card.label, card.baseline_label) == (3, CANDIDATE.label, BASELINE.label)
    assert row(card, "latency_p50_ms").verdict is Verdict.PASS
    assert card.finding == (
        "Trial 3 (as uploaded · openvino bf16) has 76.2% lower p50 latency [75.7, 76.7] than the baseline (as uploaded · onnxruntime)"
        " and costs 75.9% less per inference. Its outputs match the original on 400 sealed proxy inputs."
    )
    assert card.summary == "Meets 1 of 1 target"
    assert card.sandbox_level == "A"


def test_screening_numbers_never_reach_the_scorecard() -> None:
    card = build_scorecard(reports=reports_with(), outcome=won(), spec=asked(), price=CATALOG_PRICE)
    measurement = row(card, "latency_p50_ms").measurement
    assert measurement is not None
    assert measurement.value == pytest.approx(26.0 / 4.2)


def test_baseline_values_are_trial_0_s_race() -> None:
    card = build_scorecard(reports=reports_with(), outcome=won(), spec=asked(), price=CATALOG_PRICE)
    baseline = row(card, "latency_p50_ms").baseline
    assert baseline is not None
    assert baseline.value == 26.0


def test_without_a_winner_the_original_is_judged_and_the_nearest_miss_named() -> None:
    card = build_scorecard(reports=reports_with(25.9), outcome=kept(), spec=asked(HALF), price=CATALOG_PRICE)
    assert (card.trial, card.nearest, card.decision) == (0, 3, Decision.KEEP_ORIGINAL)
    assert card.finding == (
        "Keep the original: no candidate was faster by more than 3%."
        " The closest candidate, Trial 3 (as uploaded · openvino bf16), is equivalent within 3% on p50 latency."
        " p50 latency misses its target."
    )
    assert row(card, "latency_p50_ms").verdict is Verdict.FAIL
    assert row(card, "latency_p50_ms").change is None
    assert card.duel is not None
    assert card.duel.trial == 3


def test_an_original_that_meets_absolute_targets_passes_them() -> None:
    card = build_scorecard(
        reports=reports_with(25.9), outcome=kept(), spec=asked(KpiTarget(kpi="latency_p50_ms", value=30.0)), price=CATALOG_PRICE
    )
    assert row(card, "latency_p50_ms").verdict is Verdict.PASS


def test_the_original_is_its_own_reference_for_fidelity() -> None:
    target = KpiTarget(kpi="fidelity_cosine_p01_ratio", value=0.99)
    card = build_scorecard(reports=reports_with(25.9), outcome=kept(), spec=asked(target), price=CATALOG_PRICE)
    assert row(card, "fidelity_cosine_p01_ratio").verdict is Verdict.PASS


def test_an_inconclusive_race_keeps_the_original_for_now() -> None:
    open_duel = duel(3, "latency_p50_ms", 1.04, low=0.99, high=1.09, effect=Effect.INCONCLUSIVE)
    outcome = kept(decision=Decision.INCONCLUSIVE, reason="The time ended before the last look.", duels=(open_duel,))
    card = build_scorecard(reports=reports_with(25.0), outcome=outcome, spec=asked(), price=CATALOG_PRICE)
    assert card.trial == 0
    assert card.finding == (
        "Undecided, keep the original for now: the time ended before the last look."
        " The closest candidate, Trial 3 (as uploaded · openvino bf16), is inconclusive (−8.3 to +1.0%) on p50 latency."
    )


def test_a_relative_target_is_judged_on_the_paired_ratio_not_on_two_wide_intervals() -> None:
    wide = tuple(
        replace(report, measurements=tuple(replace(one, ci_low=0.1, ci_high=1e9) for one in report.measurements))
        if report.stage is Stage.RACE
        else report
        for report in reports_with()
    )
    card = build_scorecard(reports=wide, outcome=won(), spec=asked(HALF), price=CATALOG_PRICE)
    assert row(card, "latency_p50_ms").verdict is Verdict.PASS


def test_a_relative_target_inside_the_ratio_s_interval_is_unproven_with_what_would_decide() -> None:
    close = duel(3, "latency_p50_ms", 1.27, low=1.2, high=1.35, effect=Effect.FASTER)
    card = build_scorecard(reports=reports_with(20.5), outcome=won(duels=(close,)), spec=asked(HALF), price=CATALOG_PRICE)
    judged = row(card, "latency_p50_ms")
    assert judged.verdict is Verdict.UNPROVEN
    assert judged.needed is not None
    assert judged.needed.samples > 16
    assert judged.needed.seconds > 0
    assert "blocks in all would decide" in judged.reason
    assert "p50 latency is not proven." in card.finding


def test_a_catalogue_price_makes_cost_an_estimate_that_proves_nothing() -> None:
    target = KpiTarget(kpi=COST, value=5.0)
    card = build_scorecard(reports=reports_with(), outcome=won(), spec=asked(target), price=CATALOG_PRICE)
    cost = row(card, COST)
    assert (cost.verdict, cost.standing) == (Verdict.UNPROVEN, Standing.ESTIMATED)
    assert any("catalogue default" in one for one in card.warnings)


def test_the_team_s_own_price_may_pass() -> None:
    target = KpiTarget(kpi=COST, value=5.0)
    card = build_scorecard(reports=reports_with(), outcome=won(), spec=asked(target), price=TEAM_PRICE, today=date(2026, 11, 23))
    assert (row(card, COST).verdict, row(card, COST).standing) == (Verdict.PASS, Standing.PASS)
    assert not any("price" in one for one in card.warnings)
    old = build_scorecard(reports=reports_with(), outcome=won(), spec=asked(target), price=TEAM_PRICE, today=date(2027, 3, 1))
    assert any("older than 90 days" in one for one in old.warnings)


def test_a_relative_cost_target_needs_no_price_because_it_cancels() -> None:
    card = build_scorecard(
        reports=reports_with(), outcome=won(), spec=asked(KpiTarget(kpi=COST, value=0.5, relative=True)), price=CATALOG_PRICE
    )
    assert (row(card, COST).verdict, row(card, COST).standing) == (Verdict.PASS, Standing.PASS)


def test_a_new_price_changes_the_cost_and_nothing_measured() -> None:
    double = replace(TEAM_PRICE, usd_per_hour=TEAM_PRICE.usd_per_hour * 2)
    one, other = (build_scorecard(reports=reports_with(), outcome=won(), spec=asked(), price=price) for price in (TEAM_PRICE, double))
    before, after = row(one, COST).measurement, row(other, COST).measurement
    assert before is not None
    assert after is not None
    assert after.value == pytest.approx(2 * (before.value or 0))
    assert [each for each in one.rows if each.kpi != COST] == [each for each in other.rows if each.kpi != COST]


def test_power_without_a_source_is_not_measured_and_never_passes() -> None:
    card = build_scorecard(reports=reports_with(), outcome=won(), spec=asked(KpiTarget(kpi="power_w", value=1e6)), price=TEAM_PRICE)
    power = row(card, "power_w")
    assert (power.verdict, power.standing, power.measurement) == (Verdict.UNPROVEN, Standing.NOT_MEASURED, None)
    assert "Power is not proven." in card.finding


def test_modeled_power_is_estimated_and_never_passes() -> None:
    modeled = replace(measured("power_w", 40.0), provenance=Provenance.MODELED)
    reports = tuple(
        replace(one, measurements=(*one.measurements, modeled)) if one.stage is Stage.CONFIRM else one for one in reports_with()
    )
    card = build_scorecard(reports=reports, outcome=won(), spec=asked(KpiTarget(kpi="power_w", value=1e6)), price=TEAM_PRICE)
    assert (row(card, "power_w").verdict, row(card, "power_w").standing) == (Verdict.UNPROVEN, Standing.ESTIMATED)


def test_quick_shows_p99_and_does_not_judge_it() -> None:
    target = KpiTarget(kpi="latency_p99_ms", value=1e6)
    quick = build_scorecard(reports=reports_with(), outcome=won(), spec=asked(target, preset="quick"), price=TEAM_PRICE)
    standard = build_scorecard(reports=reports_with(), outcome=won(), spec=asked(target), price=TEAM_PRICE)
    assert row(quick, "latency_p99_ms").verdict is Verdict.UNPROVEN
    assert "standard" in row(quick, "latency_p99_ms").reason
    assert row(standard, "latency_p99_ms").verdict is Verdict.PASS
    assert any("quick" in one for one in quick.warnings)


def test_the_default_fidelity_limits_stand_as_targets_that_the_summary_does_not_count() -> None:
    card = build_scorecard(reports=reports_with(), outcome=won(), spec=asked(), price=TEAM_PRICE)
    cosine = row(card, "fidelity_cosine_p01_ratio")
    assert (cosine.verdict, cosine.default_target) == (Verdict.PASS, True)
    assert card.summary == "No targets set"


def test_the_finding_says_that_state_was_fed_back() -> None:
    reports = tuple(
        replace(report, detail={**report.detail, "stream_steps": 32}) if report.stage is Stage.CONFIRM and report.trial else report
        for report in reports_with()
    )
    card = build_scorecard(reports=reports, outcome=won(), spec=asked(), price=CATALOG_PRICE)
    assert "match the original on 400 sealed proxy inputs in streams of 32 with the state fed back." in card.finding
    assert "streams" not in build_scorecard(reports=reports_with(), outcome=won(), spec=asked(), price=CATALOG_PRICE).finding


def test_without_reported_limits_the_sealed_verdict_stands_on_the_first_fidelity_row() -> None:
    reports = [replace(one, detail={"reason": "Outputs match."}) if one.stage is Stage.CONFIRM else one for one in reports_with()]
    card = build_scorecard(reports=reports, outcome=won(), spec=asked(), price=TEAM_PRICE)
    cosine = row(card, "fidelity_cosine_p01_ratio")
    assert (cosine.verdict, cosine.target, cosine.reason) == (Verdict.PASS, None, "Outputs match.")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (InputSource.REAL, "Its outputs match the original on 400 sealed real inputs."),
        (InputSource.PROXY, "Its outputs match the original on 400 sealed proxy inputs."),
        (InputSource.SYNTHETIC, "Its outputs agree with the original to rounding on 400 sealed synthetic inputs."),
    ],
)
def test_the_finding_says_on_which_inputs_and_never_accuracy_preserved(source: InputSource, words: str) -> None:
    card = build_scorecard(reports=reports_with(), outcome=won(input_source=source), spec=asked(), price=TEAM_PRICE)
    assert card.finding.endswith(words)
    assert "accuracy" not in card.finding


def test_synthetic_inputs_warn_with_what_would_prove_more() -> None:
    card = build_scorecard(reports=reports_with(), outcome=won(input_source=InputSource.SYNTHETIC), spec=asked(), price=TEAM_PRICE)
    assert any("add 500 real inputs" in one for one in card.warnings)


def test_an_invalid_measurement_is_not_measured() -> None:
    spoiled = tuple(
        replace(one, measurements=tuple(replace(m, validity=Validity.INVALID, reasons=("steal time",)) for m in one.measurements))
        if one.stage is Stage.RACE
        else one
        for one in reports_with()
    )
    card = build_scorecard(reports=spoiled, outcome=kept(), spec=asked(KpiTarget(kpi="latency_p50_ms", value=1e6)), price=TEAM_PRICE)
    p50 = row(card, "latency_p50_ms")
    assert (p50.verdict, p50.standing) == (Verdict.UNPROVEN, Standing.NOT_MEASURED)
    assert "steal time" in p50.reason
    assert row(card, COST).standing is Standing.NOT_MEASURED


def test_a_run_without_trial_0_has_no_scorecard() -> None:
    with pytest.raises(InputError, match=r"scorecard\.no_baseline"):
        build_scorecard(reports=reports_with()[3:], outcome=won(), spec=asked(), price=TEAM_PRICE)


def test_picks_are_computed_from_the_race_when_the_search_named_none() -> None:
    card = build_scorecard(reports=reports_with(), outcome=won(), spec=asked(), price=TEAM_PRICE)
    assert card.picks == {"cheapest": 3, "fastest": 3}
    named = build_scorecard(reports=reports_with(), outcome=won(picks={"fastest": 0}), spec=asked(), price=TEAM_PRICE)
    assert named.picks == {"fastest": 0}


def test_a_trial_whose_fidelity_is_not_pass_is_never_picked() -> None:
    card = build_scorecard(reports=reports_with(verdict=Verdict.UNPROVEN), outcome=kept(), spec=asked(), price=TEAM_PRICE)
    assert card.picks == {"cheapest": 0, "fastest": 0}


def test_two_targets_on_one_kpi_get_a_row_each() -> None:
    card = build_scorecard(
        reports=reports_with(), outcome=won(), spec=asked(HALF, KpiTarget(kpi="latency_p50_ms", value=1.0)), price=TEAM_PRICE
    )
    assert [one.verdict for one in card.rows if one.kpi == "latency_p50_ms"] == [Verdict.PASS, Verdict.FAIL]
    assert card.summary == "Meets 1 of 2 targets; 1 missed"


def test_headroom_is_above_zero_on_the_good_side() -> None:
    targets = (KpiTarget(kpi="latency_p50_ms", value=10.0), KpiTarget(kpi="throughput_per_s", value=1_000.0))
    card = build_scorecard(reports=reports_with(), outcome=won(), spec=asked(*targets), price=TEAM_PRICE)
    assert (row(card, "latency_p50_ms").headroom or 0) == pytest.approx(1 - 26.0 / 42, rel=1e-6)
    assert (row(card, "throughput_per_s").headroom or 0) < 0


def test_every_row_without_a_duel_compares_the_two_intervals() -> None:
    card = build_scorecard(reports=reports_with(), outcome=won(), spec=asked(), price=TEAM_PRICE)
    memory = row(card, "memory_peak_host_bytes").change
    assert memory is not None
    assert memory.effect is Effect.EQUIVALENT
    assert row(card, "fidelity_cosine_p01_ratio").change is None


def test_the_duel_of_another_trial_says_nothing_about_this_one() -> None:
    other = duel(2, "latency_p50_ms", 9.0, low=8.9, high=9.1, effect=Effect.FASTER)
    card = build_scorecard(reports=reports_with(), outcome=won(duels=(other, *winning_duels())), spec=asked(), price=TEAM_PRICE)
    change = row(card, "latency_p50_ms").change
    assert change is not None
    assert change.ratio.value == 4.2
    assert card.duel is not None
    assert card.duel.trial == 3


def test_an_invalid_measurement_is_compared_with_nothing() -> None:
    sound = measured("memory_peak_host_bytes", 300e6)
    assert unpaired_ratio(sound, sound) is not None
    for broken in (
        replace(sound, validity=Validity.INVALID),
        replace(sound, validity=Validity.INSUFFICIENT_SAMPLES),
        replace(sound, value=None),
    ):
        assert unpaired_ratio(sound, broken) is None
        assert unpaired_ratio(broken, sound) is None


def test_a_nearest_miss_that_the_reason_names_is_not_named_twice() -> None:
    reason = "Trial 3 is faster but misses its memory target."
    card = build_scorecard(reports=reports_with(), outcome=kept(reason=reason), spec=asked(), price=TEAM_PRICE)
    assert card.finding == "Keep the original: Trial 3 is faster but misses its memory target."


def test_a_scorecard_survives_its_round_trip_through_json() -> None:
    for outcome in (won(), kept()):
        card = build_scorecard(reports=reports_with(), outcome=outcome, spec=asked(HALF), price=CATALOG_PRICE)
        assert from_jsonable(Scorecard, to_jsonable(card)) == card


FINITE = st.floats(allow_nan=False, allow_infinity=False)
TARGETS = st.builds(KpiTarget, kpi=st.just("latency_p50_ms"), value=st.floats(1e-6, 1e6), relative=st.booleans())
MEASUREMENTS = st.builds(
    Measurement, kpi=st.text(), value=st.none() | FINITE, unit=st.text(), ci_low=st.none() | FINITE, ci_high=st.none() | FINITE,
    validity=st.sampled_from(Validity), provenance=st.sampled_from(Provenance), reasons=st.lists(st.text()).map(tuple),
)  # fmt: skip
ROWS = st.builds(
    ScoreRow, kpi=st.text(), measurement=st.none() | MEASUREMENTS, baseline=st.none() | MEASUREMENTS, target=st.none() | TARGETS,
    verdict=st.none() | st.sampled_from(Verdict), standing=st.sampled_from(Standing), headroom=st.none() | FINITE,
    needed=st.none() | st.builds(Needed, samples=st.integers(0), seconds=st.floats(0, 1e9)),
    change=st.none() | st.builds(Change, kpi=st.text(), ratio=MEASUREMENTS, effect=st.sampled_from(Effect)),
)  # fmt: skip
CARDS = st.builds(
    Scorecard, decision=st.sampled_from(Decision), finding=st.text(), reason=st.text(), trial=st.integers(0), label=st.text(),
    baseline_label=st.text(), rows=st.lists(ROWS, max_size=3).map(tuple), picks=st.dictionaries(st.text(), st.integers(0), max_size=3),
    price=st.builds(replace, st.just(TEAM_PRICE), usd_per_hour=st.decimals(0, 10_000, places=6)), margin=st.floats(0, 0.1),
)  # fmt: skip


@given(CARDS)
def test_any_scorecard_survives_its_round_trip_through_text(card: Scorecard) -> None:
    assert from_jsonable(Scorecard, json.loads(json.dumps(to_jsonable(card), allow_nan=False))) == card


def test_only_ok_stages_count() -> None:
    lost = replace(race_report(3, CANDIDATE, p50_ms=1.0), status="failed")
    reports = (race_report(0, BASELINE), confirm_report(0, BASELINE), lost)
    card = build_scorecard(reports=reports, outcome=kept(duels=()), spec=asked(), price=TEAM_PRICE)
    assert "was not measured on p50 latency" in card.finding


def test_a_measurement_without_interval_is_never_ranked() -> None:
    bare = tuple(
        replace(one, measurements=tuple(replace(m, ci_low=None, ci_high=None) for m in one.measurements))
        if one.stage is Stage.RACE
        else one
        for one in reports_with()
    )
    assert build_scorecard(reports=bare, outcome=won(), spec=asked(), price=TEAM_PRICE).picks == {}


def test_measurements_keep_their_origin_on_the_way() -> None:
    card = build_scorecard(reports=reports_with(), outcome=won(), spec=asked(), price=CATALOG_PRICE)
    origins: dict[str, Measurement | None] = {one.kpi: one.measurement for one in card.rows}
    cost, p50 = origins[COST], origins["latency_p50_ms"]
    assert cost is not None
    assert p50 is not None
    assert (cost.provenance, p50.provenance) == (Provenance.CATALOG_DEFAULT, Provenance.MEASURED)

"""Pass, Fail, Unproven: the rule and everything that forbids a Pass (measurement.md 4)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.kpis import kpi
from optimizer.measure.statistics import latency_measurements
from optimizer.measure.verdict import judge, look_error
from optimizer.specs import KpiTarget, Measurement, Provenance, Validity, Verdict

P50 = KpiTarget(kpi="latency_p50_ms", value=8.0)
P99 = KpiTarget(kpi="latency_p99_ms", value=8.0)
RATE = KpiTarget(kpi="throughput_per_s", value=400.0)
SIZE = KpiTarget(kpi="model_size_bytes", value=100.0)


def measured(name: str, value: float | None, low: float | None = None, high: float | None = None, **more: object) -> Measurement:
    facts: dict[str, object] = {"n": 1_000, "n_eff": 900, "starts": 5} | more
    return Measurement(kpi=name, value=value, unit=kpi(name).unit, ci_low=low, ci_high=high, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (7.0, 7.9, Verdict.PASS),
        (7.0, 8.0, Verdict.PASS),
        (7.0, 8.1, Verdict.UNPROVEN),
        (8.0, 9.0, Verdict.UNPROVEN),
        (8.1, 9.0, Verdict.FAIL),
        (None, 7.9, Verdict.PASS),
        (7.0, None, Verdict.UNPROVEN),
        (8.1, None, Verdict.FAIL),
        (None, None, Verdict.UNPROVEN),
    ],
)
def test_at_most_is_judged_on_the_whole_interval(low: float | None, high: float | None, verdict: Verdict) -> None:
    assert judge(P50, measured("latency_p50_ms", 8.05, low, high)).verdict is verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(400.0, 410.0, Verdict.PASS), (399.0, 410.0, Verdict.UNPROVEN), (380.0, 399.0, Verdict.FAIL), (400.0, None, Verdict.PASS)],
)
def test_at_least_is_the_mirror(low: float, high: float | None, verdict: Verdict) -> None:
    assert judge(RATE, measured("throughput_per_s", 400.0, low, high)).verdict is verdict


def test_a_percentile_below_its_floor_never_passes_but_may_fail() -> None:
    few = measured("latency_p99_ms", 7.5, 7.0, 7.9, n=661)
    assert judge(P99, few).verdict is Verdict.UNPROVEN
    assert judge(P99, replace(few, n=662)).verdict is Verdict.PASS
    assert judge(P99, replace(few, validity=Validity.INSUFFICIENT_SAMPLES, n=70, ci_low=8.5, ci_high=None)).verdict is Verdict.FAIL


@pytest.mark.parametrize(("starts", "verdict"), [(1, Verdict.UNPROVEN), (2, Verdict.UNPROVEN), (3, Verdict.PASS)])
def test_a_pass_needs_three_starts(starts: int, verdict: Verdict) -> None:
    assert judge(P50, measured("latency_p50_ms", 7.5, 7.0, 7.9, starts=starts)).verdict is verdict


def test_two_starts_may_still_fail() -> None:
    assert judge(P50, measured("latency_p50_ms", 9.0, 8.5, 9.5, starts=2)).verdict is Verdict.FAIL


def test_examples_need_no_starts() -> None:
    agreement = measured("fidelity_top1_agreement_fraction", 1.0, 0.991, 1.0, starts=0, n=420)
    assert judge(KpiTarget(kpi="fidelity_top1_agreement_fraction", value=0.99), agreement).verdict is Verdict.PASS


def test_a_file_size_is_exact() -> None:
    assert judge(SIZE, measured("model_size_bytes", 100.0, starts=0, n=1)).verdict is Verdict.PASS
    assert judge(SIZE, measured("model_size_bytes", 101.0, starts=0, n=1)).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    "broken",
    [
        None,
        measured("latency_p50_ms", None),
        measured("latency_p50_ms", 7.5, 7.0, 7.9, validity=Validity.INVALID),
        measured("latency_p50_ms", 7.5, 7.0, 7.9, provenance=Provenance.MODELED),
        measured("latency_p50_ms", 7.5, 7.0, 7.9, provenance=Provenance.CATALOG_DEFAULT),
        measured("latency_p50_ms", 9.5, 9.0, 9.9, provenance=Provenance.MODELED),
        measured("latency_p50_ms", 9.5, 9.0, 9.9, validity=Validity.INVALID),
    ],
)
def test_missing_invalid_and_estimated_numbers_prove_nothing(broken: Measurement | None) -> None:
    assert judge(P50, broken).verdict is Verdict.UNPROVEN


@pytest.mark.parametrize("provenance", [Provenance.MEASURED, Provenance.DERIVED, Provenance.USER_ENTERED])
def test_what_is_not_an_estimate_may_pass(provenance: Provenance) -> None:
    assert judge(P50, measured("latency_p50_ms", 7.5, 7.0, 7.9, provenance=provenance)).verdict is Verdict.PASS


def test_a_relative_target_is_judged_on_the_ratio_alone() -> None:
    """At most 80% of the baseline is a speed-up of at least 1.25, whatever the absolute interval says."""
    target = KpiTarget(kpi="latency_p50_ms", value=0.8, relative=True)
    wide = measured("latency_p50_ms", 7.0, 1.0, 20.0)
    ratio = measured("speedup_ratio", 1.4, 1.3, 1.5, n=16, starts=16)
    assert judge(target, wide, ratio).verdict is Verdict.PASS
    assert judge(target, wide, replace(ratio, ci_low=1.2)).verdict is Verdict.UNPROVEN
    assert judge(target, wide, replace(ratio, value=1.1, ci_low=1.05, ci_high=1.2)).verdict is Verdict.FAIL
    assert judge(target, wide).verdict is Verdict.UNPROVEN


def test_a_relative_target_on_a_rate_is_the_ratio_itself() -> None:
    target = KpiTarget(kpi="throughput_per_s", value=1.3, relative=True)
    assert judge(target, None, measured("speedup_ratio", 1.4, 1.31, 1.5, starts=8)).verdict is Verdict.PASS
    assert judge(target, None, measured("speedup_ratio", 1.4, 1.29, 1.5, starts=8)).verdict is Verdict.UNPROVEN


def test_a_ratio_of_estimates_proves_nothing() -> None:
    target = KpiTarget(kpi="power_w", value=0.8, relative=True)
    ratio = measured("speedup_ratio", 1.4, 1.3, 1.5, provenance=Provenance.MODELED)
    assert judge(target, None, ratio).verdict is Verdict.UNPROVEN


def test_unproven_says_how_many_samples_would_decide() -> None:
    """Half-width 0.4, distance 0.2: four times the samples."""
    judgement = judge(P50, measured("latency_p50_ms", 7.8, 7.4, 8.2, n=1_000))
    assert judgement.needed is not None
    assert judgement.needed.samples == pytest.approx(4_000, abs=2)
    assert f"{judgement.needed.samples:,} samples" in judgement.reason


def test_below_the_floor_at_least_the_floor_is_needed() -> None:
    judgement = judge(P99, measured("latency_p99_ms", 7.0, 6.0, 7.5, n=400, validity=Validity.INSUFFICIENT_SAMPLES))
    assert judgement.needed is not None
    assert judgement.needed.samples == 662
    assert "662" in judgement.reason


def test_a_value_on_its_target_promises_nothing() -> None:
    judgement = judge(P50, measured("latency_p50_ms", 8.0, 7.5, 8.5))
    assert judgement.needed is None
    assert "unlikely" in judgement.reason


def test_an_open_interval_asks_for_twice_the_samples() -> None:
    judgement = judge(P50, measured("latency_p50_ms", 7.0, 6.0, None, n=500))
    assert judgement.needed is not None
    assert judgement.needed.samples == 1_000


def test_errors_of_repeated_looks_sum_to_less_than_a_tenth() -> None:
    assert [look_error(look) for look in (1, 2, 3)] == [0.05, 0.025, 0.0125]
    assert sum(look_error(look) / 2 for look in (1, 2, 3)) < 0.05


@given(st.floats(0.1, 100), st.floats(0.5, 1), st.floats(1, 2), st.floats(0.1, 100))
def test_pass_and_fail_never_overlap_and_a_looser_target_never_turns_pass_into_fail(
    value: float, down: float, up: float, limit: float
) -> None:
    one = measured("latency_p50_ms", value, value * down, value * up)
    strict = judge(KpiTarget(kpi="latency_p50_ms", value=limit), one).verdict
    loose = judge(KpiTarget(kpi="latency_p50_ms", value=limit * 1.5), one).verdict
    order = [Verdict.FAIL, Verdict.UNPROVEN, Verdict.PASS]
    assert order.index(loose) >= order.index(strict)


def test_a_percentile_below_its_floor_reads_slowest_of_n() -> None:
    starts = [np.arange(1, 21, dtype=np.int64) * 1_000_000 for _ in range(3)]
    by_name = {one.kpi: one for one in latency_measurements(starts)}
    assert by_name["latency_p50_ms"].validity is Validity.VALID
    for name in ("latency_p90_ms", "latency_p99_ms"):
        assert by_name[name].validity is Validity.INSUFFICIENT_SAMPLES
        assert by_name[name].value == 20.0
        assert "slowest of 60" in by_name[name].reasons[0]


def test_rows_of_issue_and_completion_count_the_pauses_into_throughput() -> None:
    issued = np.arange(100, dtype=np.int64) * 2_000_000
    rows = np.stack([issued, issued + 1_000_000], axis=1)
    by_name = {one.kpi: one for one in latency_measurements([rows] * 3, batch=8)}
    assert by_name["latency_mean_ms"].value == pytest.approx(1.0)
    assert by_name["throughput_per_s"].value == pytest.approx(8 * 100 / 0.199)


def test_grouped_calls_give_means_but_no_percentiles() -> None:
    starts = [np.full(50, 10_000_000, dtype=np.int64) for _ in range(3)]
    by_name = {one.kpi: one for one in latency_measurements(starts, calls_per_sample=100)}
    assert by_name["latency_mean_ms"].value == pytest.approx(0.1)
    assert by_name["throughput_per_s"].value == pytest.approx(10_000)
    assert by_name["latency_p50_ms"].validity is Validity.INVALID
    assert by_name["latency_p50_ms"].value is None

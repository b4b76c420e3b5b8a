"""Numbers for people (ux.md 10), example by example."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.kpis import KPIS, kpi
from optimizer.measure.verdict import Needed
from optimizer.score.change import change_of
from optimizer.score.wording import (
    decimals_of,
    format_bytes,
    format_change,
    format_cost,
    format_count,
    format_duration,
    format_duration_range,
    format_measurement,
    format_needed,
    format_target,
    format_value,
    latency_unit,
)
from optimizer.specs import KpiTarget, Measurement, Provenance, Validity


def measured(name: str, value: float | None, low: float | None = None, high: float | None = None, **more: object) -> Measurement:
    return Measurement(kpi=name, value=value, unit=kpi(name).unit, ci_low=low, ci_high=high, **more)  # type: ignore[arg-type]


COST = "cost_usd_per_million_inferences"


@pytest.mark.parametrize(
    ("measurement", "text"),
    [
        (measured("latency_p99_ms", 7.834, 7.774, 7.894), "7.83 ±0.06 ms"),
        (measured("latency_p99_ms", 7.83, 7.70, 7.96), "7.83 ±0.13 ms"),
        (measured("latency_p99_ms", 7.834, n=1), "7.83 ms, n=1"),
        (measured("accuracy_delta_pp", 0.21, 0.08, 0.35), "0.21 pp [0.08, 0.35]"),
        (measured("accuracy_delta_pp", -0.21, -0.35, -0.08), "−0.21 pp [−0.35, −0.08]"),
        (measured("latency_p50_ms", 0.83, 0.82, 0.84), "830 ±10 µs"),
        (measured("throughput_per_s", 12_483, 12_438, 12_528), "12,480 ±50 inf/s"),
        (measured("throughput_per_s", 412, 407.1, 416.8), "412 ±5 inf/s"),
        (measured(COST, 0.312, 0.303, 0.321), "$0.31 /1M [0.30, 0.32]"),
        (measured(COST, 0.312, 0.303, 0.321, provenance=Provenance.CATALOG_DEFAULT), "~$0.31 /1M [0.30, 0.32] est."),
        (measured("model_size_bytes", 97.8 * 2**20, 97.8 * 2**20, 97.8 * 2**20), "97.8 MiB"),
        (measured("fidelity_top1_agreement_fraction", 0.995, 0.985, 0.999), "99.5% [98.5, 99.9]"),
        (measured("latency_p99_ms", 9.31, 7.0, None, n=71, validity=Validity.INSUFFICIENT_SAMPLES), "slowest of 71: 9.31 ms"),
        (measured("latency_p90_ms", 9.31, 7.0, None, n=71), "9.31 ms [7.00, open]"),
        (measured("latency_p95_ms", 0.042, 0.039, 3.06, n=8865), "42 µs [39, 3,060]"),
        (measured("latency_p50_ms", None), "— not measured"),
        (measured("latency_p50_ms", 1.0, validity=Validity.INVALID), "— not measured"),
        (None, "— not measured"),
    ],
)
def test_measurements(measurement: Measurement | None, text: str) -> None:
    assert format_measurement(measurement) == text


def test_a_column_has_one_unit() -> None:
    assert format_measurement(measured("latency_p50_ms", 0.83, 0.82, 0.84), "ms") == "0.830 ±0.010 ms"
    assert (latency_unit([0.2, 0.9]), latency_unit([0.2, 3.0]), latency_unit([2_000.0, 5_000.0]), latency_unit([])) == (
        "µs",
        "ms",
        "s",
        "ms",
    )


@pytest.mark.parametrize(
    ("name", "ratio", "text"),
    [
        ("latency_p99_ms", (1 / 0.71, 1 / 0.72, 1 / 0.70), "29% lower [28, 30]"),
        ("throughput_per_s", (1.41, 1.38, 1.44), "41% higher [38, 44]"),
        ("throughput_per_s", (3.4, 3.3, 3.5), "×3.4 [3.3, 3.5]"),
        ("latency_p50_ms", (0.7, 0.68, 0.72), "43% higher [39, 47]"),
        ("latency_p50_ms", (0.3, 0.29, 0.31), "×3.3 [3.2, 3.4]"),
        ("latency_p50_ms", (1.01, 1.0, 1.02), "≈ equivalent within 3%"),
        ("throughput_per_s", (1.01, 0.988, 1.04), "? inconclusive (−1.2 to +4.0%)"),
        ("latency_p50_ms", (1.01, None, 1.04), "? inconclusive (−3.8 to open%)"),
    ],
)
def test_changes(name: str, ratio: tuple[float, float | None, float | None], text: str) -> None:
    assert format_change(change_of(name, measured("speedup_ratio", *ratio), margin=0.03)) == text


def test_a_change_is_never_called_faster() -> None:
    for name in ("latency_p50_ms", "throughput_per_s"):
        assert "faster" not in format_change(change_of(name, measured("speedup_ratio", 1.5, 1.4, 1.6), margin=0.03))
    assert format_change(None) == "—"


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (KpiTarget(kpi="latency_p50_ms", value=0.8, relative=True), "≤80% of the baseline"),
        (KpiTarget(kpi="latency_p99_ms", value=8.0), "≤8 ms"),
        (KpiTarget(kpi="throughput_per_s", value=12_500.0), "≥12,500 inf/s"),
        (KpiTarget(kpi="model_size_bytes", value=100.0 * 2**20), "≤100 MiB"),
        (KpiTarget(kpi=COST, value=0.4), "≤$0.4 /1M"),
        (KpiTarget(kpi="fidelity_cosine_p01_ratio", value=0.99), "≥0.99"),
    ],
)
def test_targets(target: KpiTarget, text: str) -> None:
    assert format_target(target) == text


@pytest.mark.parametrize(
    ("usd", "text"), [(12.4, "$12.40 /1M"), (1, "$1.00 /1M"), (0.312, "$0.31 /1M"), (0.0123, "$0.012 /1M"), (0, "$0.00 /1M")]
)
def test_cost_has_two_decimals_from_a_dollar_else_two_digits(usd: float, text: str) -> None:
    assert format_cost(Decimal(str(usd))) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1,023 B"), (1024, "1.00 KiB"), (97.8 * 2**20, "97.8 MiB"), (2**40, "1.00 TiB")]
)
def test_bytes(size: float, text: str) -> None:
    assert format_bytes(size) == text


@pytest.mark.parametrize(("count", "text"), [(25.6e6, "25.6 M"), (12_480, "12.5 K"), (9_999, "9,999"), (0, "0"), (3.1e9, "3.10 G")])
def test_counts(count: float, text: str) -> None:
    assert format_count(count) == text


def test_durations_and_their_ranges() -> None:
    assert [format_duration(one) for one in (0.2, 45, 90, 480, 3_900, 7_200)] == ["1 s", "45 s", "2 min", "8 min", "1 h 5 min", "2 h"]
    assert format_duration_range(180, 300) == "3–5 min"
    assert format_duration_range(45, 300) == "1–5 min"
    assert format_duration_range(20, 40) == "20–40 s"
    assert format_duration_range(300, 310) == "5 min"


def test_what_is_needed() -> None:
    assert format_needed(Needed(samples=1_522), "fidelity_top1_agreement_fraction") == "1,522 examples"
    assert format_needed(Needed(samples=4_000, seconds=85.2), "latency_p50_ms") == "4,000 samples, about 86 s more"
    assert format_needed(None) == ""


def test_missing_values_are_a_dash_never_zero() -> None:
    assert {format_value("latency_p50_ms", None), format_cost(None), format_bytes(None), format_count(None), format_duration(None)} == {"—"}


@given(st.floats(1e-9, 1e9))
def test_half_widths_show_one_digit_or_two_after_a_one(half: float) -> None:
    decimals = decimals_of(half)
    shown = half * 10.0**decimals
    assert 1.99 < shown < 20.01


@given(st.sampled_from(sorted(KPIS)), st.floats(1e-6, 1e12), st.floats(0, 0.5), st.floats(0, 0.5))
def test_any_measurement_can_be_printed(name: str, value: float, down: float, up: float) -> None:
    text = format_measurement(measured(name, value, value * (1 - down), value * (1 + up), n=100))
    assert text
    assert "e+" not in text
    assert "nan" not in text

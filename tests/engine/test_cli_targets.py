"""What a person types for targets and bindings."""

from __future__ import annotations

import pytest

from optimizer.cli_targets import parse_binding, parse_target
from optimizer.errors import InputError
from optimizer.specs import KpiTarget, Operator


@pytest.mark.parametrize(
    ("text", "kpi", "value", "relative"),
    [
        ("latency_p50_ms<=0.8x", "latency_p50_ms", 0.8, True),
        ("latency_p50_ms <= 8", "latency_p50_ms", 8.0, False),
        ("throughput_per_s>=400", "throughput_per_s", 400.0, False),
        ("throughput_per_s≥1.5×", "throughput_per_s", 1.5, True),
        ("latency_p99<=8ms", "latency_p99_ms", 8.0, False),
        ("latency_p99<=500us", "latency_p99_ms", 0.5, False),
        ("latency_p99<=1s", "latency_p99_ms", 1000.0, False),
        ("model_size<=20MiB", "model_size_bytes", 20 * 2.0**20, False),
        ("fidelity_top1_agreement>=99.5%", "fidelity_top1_agreement_fraction", 0.995, False),
        ("accuracy_delta_pp>=-0.5", "accuracy_delta_pp", -0.5, False),
    ],
)
def test_targets_are_read_with_units_and_shares_of_the_baseline(text: str, kpi: str, value: float, relative: bool) -> None:
    target = parse_target(text)
    assert (target.kpi, target.relative) == (kpi, relative)
    assert target.value == pytest.approx(value)
    assert target.op in (Operator.AT_MOST, Operator.AT_LEAST)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "target.syntax"),
        ("fast", "target.syntax"),
        ("latency_p50_ms<8", "target.syntax"),
        ("latency_p50_ms<=eee", "target.syntax"),
        ("latency<=8", "kpi.unknown"),
        ("speed_of_light<=8", "kpi.unknown"),
        ("latency_p50_ms>=8", "target.direction"),
        ("latency_p50_ms<=0", "target.not_positive"),
        ("latency_p50_ms<=-3", "target.not_positive"),
        ("latency_p50_ms<=nan", "target.not_finite"),
        ("latency_p50_ms<=inf", "target.not_finite"),
        ("latency_p50_ms<=8MiB", "target.unit"),
        ("throughput_per_s>=400ms", "target.unit"),
        ("cost_usd_per_hour<=1", "target.not_targetable"),
    ],
)
def test_what_is_no_target_is_refused_with_a_stable_code(text: str, code: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_target(text)
    assert refused.value.code == code


def test_a_target_means_what_it_says() -> None:
    assert parse_target("latency_p50_ms<=0.8x") == KpiTarget(kpi="latency_p50_ms", value=0.8, relative=True)


def test_a_binding_may_shorten_the_name_of_the_dimension() -> None:
    symbols = ("batch_size", "sequence_length")
    assert parse_binding("seq=128", symbols) == ("sequence_length", 128)
    assert parse_binding("sequence_length = 64", symbols) == ("sequence_length", 64)
    assert parse_binding("x[2]=48", ("x[0]", "x[2]")) == ("x[2]", 48)


@pytest.mark.parametrize(
    ("text", "code"), [("seq", "binding.syntax"), ("seq=-1", "binding.syntax"), ("width=3", "input.refused"), ("e=3", "input.refused")]
)
def test_a_binding_that_names_nothing_or_too_much_is_refused(text: str, code: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_binding(text, ("batch_size", "sequence_length"))
    assert refused.value.code == code

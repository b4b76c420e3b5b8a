"""Cost per inference: identities, provenance, and the catalogue's rows (measurement.md 12)."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.codec import from_jsonable, to_jsonable
from optimizer.errors import InputError
from optimizer.measure.verdict import judge
from optimizer.score.catalog import (
    CatalogUnit,
    catalog,
    default_utilization,
    is_stale,
    machine_rows,
    missing_sources,
    price_for,
    price_of_row,
    vcpu_row,
)
from optimizer.score.cost import COST, MachinePrice, cost_per_hour, cost_per_million, inferences_per_usd, usd_per_million
from optimizer.specs import HardwareProfile, KpiTarget, Provenance, Validity, Verdict
from tests.engine.scored_runs import CATALOG_PRICE, TEAM_PRICE, measured

MONEY = st.decimals(Decimal("0.001"), Decimal(1000), places=4)
RATE = st.decimals(Decimal("0.01"), Decimal(100_000), places=3)
SHARE = st.decimals(Decimal("0.01"), Decimal(1), places=2)


def profile(**changes: object) -> HardwareProfile:
    facts: dict[str, object] = {
        "os": "linux", "os_version": "13", "architecture": "x86_64", "kernel": "6.12", "cpu_model": "cpu", "cores": 2, "memory_bytes": 1 << 33,
    }  # fmt: skip
    return HardwareProfile(**(facts | changes))  # type: ignore[arg-type]


def test_one_worked_cost() -> None:
    """$0.1008/h, 100/s at 40%: 144,000 inferences an hour, $0.70 per million."""
    assert usd_per_million(Decimal("0.1008"), throughput_per_s=Decimal(100), utilization=Decimal("0.4")) == Decimal("0.7")


@given(MONEY, RATE, SHARE)
def test_cost_and_inferences_per_dollar_are_reciprocal(usd: Decimal, rate: Decimal, share: Decimal) -> None:
    per_million = usd_per_million(usd, throughput_per_s=rate, utilization=share)
    per_usd = inferences_per_usd(usd, throughput_per_s=rate, utilization=share)
    assert float(per_million * per_usd) == pytest.approx(1e6)


@given(MONEY, RATE, SHARE)
def test_both_forms_of_the_cost_agree(usd: Decimal, rate: Decimal, share: Decimal) -> None:
    """TCO·10⁶/(3600·8760·q_avg) with q_avg = q·U is the same number."""
    yearly = usd * 8760 * 1_000_000 / (3600 * 8760 * (rate * share))
    assert float(usd_per_million(usd, throughput_per_s=rate, utilization=share)) == pytest.approx(float(yearly))


@given(RATE, RATE)
def test_on_one_host_the_cost_ratio_is_the_inverse_throughput_ratio(first: Decimal, second: Decimal) -> None:
    costs = [cost_per_million(measured("throughput_per_s", float(rate)), CATALOG_PRICE).value or 0 for rate in (first, second)]
    assert costs[0] / costs[1] == pytest.approx(float(second / first))


def test_the_interval_is_the_throughput_s_turned_over() -> None:
    rate = measured("throughput_per_s", 100.0, half=0.1)
    cost = cost_per_million(rate, TEAM_PRICE)
    assert (cost.value, cost.ci_low, cost.ci_high) == pytest.approx((0.7, 0.7 / 1.1, 0.7 / 0.9))
    assert (cost.kpi, cost.unit, cost.starts) == (COST, "$/1M", 16)


def test_an_open_end_of_the_throughput_stays_open() -> None:
    cost = cost_per_million(replace(measured("throughput_per_s", 100.0), ci_low=None), TEAM_PRICE)
    assert cost.ci_high is None
    assert cost.ci_low is not None


@pytest.mark.parametrize(
    ("rate_from", "price_from", "result"),
    [
        (Provenance.MEASURED, Provenance.CATALOG_DEFAULT, Provenance.CATALOG_DEFAULT),
        (Provenance.MEASURED, Provenance.USER_ENTERED, Provenance.USER_ENTERED),
        (Provenance.MODELED, Provenance.USER_ENTERED, Provenance.MODELED),
        (Provenance.MEASURED, Provenance.MEASURED, Provenance.DERIVED),
    ],
)
def test_cost_takes_the_weakest_origin(rate_from: Provenance, price_from: Provenance, result: Provenance) -> None:
    rate = replace(measured("throughput_per_s", 100.0), provenance=rate_from)
    assert cost_per_million(rate, replace(TEAM_PRICE, provenance=price_from)).provenance is result


def test_only_a_confirmed_price_passes_a_cost_target() -> None:
    target, rate = KpiTarget(kpi=COST, value=5.0), measured("throughput_per_s", 100.0)
    assert judge(target, cost_per_million(rate, TEAM_PRICE)).verdict is Verdict.PASS
    assert judge(target, cost_per_million(rate, CATALOG_PRICE)).verdict is Verdict.UNPROVEN


def test_utilization_can_be_stated() -> None:
    rate = measured("throughput_per_s", 100.0)
    assert (cost_per_million(rate, TEAM_PRICE, Decimal(1)).value or 0) == pytest.approx(0.28)


def test_without_throughput_cost_is_not_measured() -> None:
    for broken in (
        replace(measured("throughput_per_s", 1.0), value=None),
        replace(measured("throughput_per_s", 1.0), validity=Validity.INVALID),
    ):
        cost = cost_per_million(broken, TEAM_PRICE)
        assert (cost.value, cost.validity) == (None, Validity.INVALID)


@pytest.mark.parametrize(("usd", "share"), [("-1", "0.4"), ("NaN", "0.4"), ("Infinity", "0.4"), ("1", "0"), ("1", "1.01"), ("1", "-0.1")])
def test_impossible_prices_are_refused(usd: str, share: str) -> None:
    with pytest.raises(InputError):
        MachinePrice(key="x", usd_per_hour=Decimal(usd), utilization=Decimal(share))


def test_a_free_machine_costs_nothing() -> None:
    free = replace(TEAM_PRICE, usd_per_hour=Decimal(0))
    assert cost_per_million(measured("throughput_per_s", 100.0), free).value == 0
    with pytest.raises(InputError):
        inferences_per_usd(Decimal(0), throughput_per_s=Decimal(1), utilization=Decimal(1))
    with pytest.raises(InputError):
        usd_per_million(Decimal(1), throughput_per_s=Decimal(0), utilization=Decimal(1))


def test_every_catalogue_row_has_source_and_date_or_asks_to_be_verified() -> None:
    assert missing_sources(tuple(catalog().values())) == ()
    unsourced = replace(catalog()["aws.r5.xlarge"], source="-", dated="")
    assert missing_sources((unsourced,)) == ("aws.r5.xlarge",)


def test_catalogue_rows_have_sane_values() -> None:
    assert len(machine_rows()) == 26
    for row in catalog().values():
        assert row.value > 0
        assert row.unit in CatalogUnit
        assert row.low is None or row.high is None or row.low <= row.high
    assert default_utilization() == Decimal("0.40")


def test_vcpu_prices_follow_from_the_machines_they_name() -> None:
    m7i, m7g = catalog()["aws.m7i.4xlarge"], catalog()["aws.m7g.large"]
    assert vcpu_row("x86_64").value == m7i.value / (m7i.vcpus or 0)
    assert vcpu_row("aarch64").value == m7g.value / (m7g.vcpus or 0)


def test_a_machine_nobody_priced_takes_vcpu_price_times_cores() -> None:
    price = price_for(profile(cores=2))
    assert price.usd_per_hour == 2 * catalog()["vcpu.x86_64"].value
    assert (price.provenance, price.vcpus, price.utilization) == (Provenance.CATALOG_DEFAULT, 2, Decimal("0.40"))
    assert price.source
    assert price_for(profile(architecture="arm64")).key == "vcpu.arm64"


def test_accelerators_are_said_not_to_be_priced() -> None:
    price = price_for(profile(accelerators=({"name": "gpu"},)))
    assert "accelerators not priced" in price.hardware
    assert price.flag == "verify"


def test_a_catalogue_machine_as_a_price_and_its_hourly_cost() -> None:
    price = price_of_row(catalog()["aws.g5.xlarge"])
    assert cost_per_hour(price).value == 1.006
    assert cost_per_hour(price).provenance is Provenance.CATALOG_DEFAULT


def test_money_survives_json_exactly() -> None:
    price = replace(TEAM_PRICE, usd_per_hour=Decimal("0.100000000000000000001"))
    assert from_jsonable(MachinePrice, to_jsonable(price)) == price


@pytest.mark.parametrize(
    ("dated", "stale"), [("2026-11-01", False), ("2026-08-25", False), ("2026-08-24", True), ("2026-11", False), ("2026", True), ("", True)]
)
def test_prices_turn_stale_after_ninety_days(dated: str, stale: bool) -> None:
    assert is_stale(dated, today=date(2026, 11, 23)) is stale


def test_a_date_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match=r"price\.date"):
        is_stale("last week", today=date(2026, 11, 23))

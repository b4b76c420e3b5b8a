"""Money per inference: a machine's price, what it serves, and how much of it is used (measurement.md 12.1)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from optimizer.errors import InputError
from optimizer.kpis import kpi
from optimizer.specs import Measurement, Provenance, Validity, weakest

COST = "cost_usd_per_million_inferences"
SECONDS_PER_HOUR = Decimal(3600)
MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class MachinePrice:
    """What one hour of a machine costs, all in, and the share of paid time that serves requests.

    ``provenance`` covers price and utilization: whoever confirms the one confirms the other.
    """

    key: str
    hardware: str = ""
    usd_per_hour: Decimal
    vcpus: int | None = None
    source: str = ""
    dated: str = ""
    flag: str = ""
    provenance: Provenance = Provenance.CATALOG_DEFAULT
    utilization: Decimal = Decimal("0.40")
    currency: str = "USD"

    def __post_init__(self) -> None:
        if not self.usd_per_hour.is_finite() or self.usd_per_hour < 0:
            raise InputError("price.negative", "A price per hour must be a finite number, zero or above.")
        if not 0 < self.utilization <= 1:
            raise InputError("price.utilization", "Utilization must lie above 0 and at most at 1.")


def usd_per_million(usd_per_hour: Decimal, *, throughput_per_s: Decimal, utilization: Decimal) -> Decimal:
    """``C_hr·10⁶/(3600·q·U)``: q inferences per second served, U the utilization paid for."""
    if throughput_per_s <= 0:
        raise InputError("cost.throughput", "Cost per inference needs a throughput above zero.")
    return usd_per_hour * MILLION / (SECONDS_PER_HOUR * throughput_per_s * utilization)


def inferences_per_usd(usd_per_hour: Decimal, *, throughput_per_s: Decimal, utilization: Decimal) -> Decimal:
    """``3600·q·U/C_hr``, the reciprocal of the cost per inference."""
    if usd_per_hour <= 0:
        raise InputError("cost.free", "A machine without a price serves any number of inferences per dollar.")
    return SECONDS_PER_HOUR * throughput_per_s * utilization / usd_per_hour


def cost_per_million(throughput: Measurement, price: MachinePrice, utilization: Decimal | None = None) -> Measurement:
    """Cost per million inferences from a throughput Measurement; its interval is the throughput's, turned over.

    Provenance is the weakest of throughput and price: with a catalogue price the cost is *Estimated*.
    """
    share = price.utilization if utilization is None else utilization
    provenance = weakest(throughput.provenance, Provenance.DERIVED, price.provenance)
    if throughput.value is None or throughput.value <= 0 or throughput.validity is Validity.INVALID:
        return _not_measured(throughput, provenance)

    def at(rate: float | None) -> float | None:
        if rate is None or rate <= 0:
            return None
        return float(usd_per_million(price.usd_per_hour, throughput_per_s=Decimal(repr(float(rate))), utilization=share))

    return replace(
        throughput,
        kpi=COST,
        value=at(throughput.value),
        unit=kpi(COST).unit,
        ci_low=at(throughput.ci_high),
        ci_high=at(throughput.ci_low),
        method=f"{throughput.method}; {price.usd_per_hour} {price.currency}/h at utilization {share}",
        provenance=provenance,
    )


def cost_per_hour(price: MachinePrice) -> Measurement:
    """The price itself as a Measurement without sampling error."""
    usd = float(price.usd_per_hour)
    return Measurement(
        kpi="cost_usd_per_hour", value=usd, unit="$/h", ci_low=usd, ci_high=usd, n=1, n_eff=1, method="exact", provenance=price.provenance
    )


def _not_measured(throughput: Measurement, provenance: Provenance) -> Measurement:
    reasons = throughput.reasons or ("throughput was not measured",)
    return Measurement(kpi=COST, value=None, unit=kpi(COST).unit, validity=Validity.INVALID, reasons=reasons, provenance=provenance)

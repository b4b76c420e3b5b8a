"""The shipped catalogue of prices and defaults: dated, sourced, or flagged ``verify`` (measurement.md 12.5)."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from enum import StrEnum
from functools import cache
from importlib import resources

from optimizer.errors import InputError
from optimizer.score.cost import MachinePrice
from optimizer.specs import HardwareProfile, Provenance

STALE_AFTER_DAYS = 90
VERIFY = "verify"


class CatalogUnit(StrEnum):
    """Units of the rows this catalogue holds."""

    USD_PER_HOUR = "USD_per_hour"
    USD_PER_VCPU_HOUR = "USD_per_vcpu_hour"
    FRACTION = "fraction"


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogRow:
    """One default: ``low`` and ``high`` are its observed range (spot prices for machines), ``dated`` the date of the data."""

    key: str
    hardware: str
    vcpus: int | None
    value: Decimal
    unit: CatalogUnit
    low: Decimal | None
    high: Decimal | None
    source: str
    dated: str
    flag: str

    @property
    def is_sourced(self) -> bool:
        """A row without a source is shown with the flag ``verify``."""
        return self.source not in ("", "-") and bool(self.dated)


@cache
def catalog() -> dict[str, CatalogRow]:
    """Every row by key."""
    text = resources.files("optimizer.score").joinpath("catalog.csv").read_text(encoding="utf-8")
    return {row["key"]: _row(row) for row in csv.DictReader(text.splitlines())}


def machine_rows() -> tuple[CatalogRow, ...]:
    """Prices per machine hour, in the catalogue's order."""
    return tuple(row for row in catalog().values() if row.unit is CatalogUnit.USD_PER_HOUR)


def default_utilization() -> Decimal:
    """Share of paid time that serves requests."""
    return catalog()["tco.utilization"].value


def vcpu_row(architecture: str) -> CatalogRow:
    """The price per vCPU and hour of an architecture; x86 where it is unknown."""
    arm = architecture.lower() in ("arm64", "aarch64")
    return catalog()["vcpu.arm64" if arm else "vcpu.x86_64"]


def price_of_row(row: CatalogRow, *, utilization: Decimal | None = None) -> MachinePrice:
    """A catalogue machine as a MachinePrice."""
    return _price(row, usd_per_hour=row.value, hardware=row.hardware, vcpus=row.vcpus, utilization=utilization)


def price_for(profile: HardwareProfile, *, utilization: Decimal | None = None) -> MachinePrice:
    """The default price of a machine that nobody priced: the catalogue's vCPU price × cores. Accelerators are not in it."""
    row = vcpu_row(profile.architecture)
    hardware = f"{profile.cores} × vCPU price"
    priced = _price(row, usd_per_hour=row.value * profile.cores, hardware=hardware, vcpus=profile.cores, utilization=utilization)
    return priced if not profile.accelerators else _without_accelerators(priced)


def is_stale(dated: str, *, today: date) -> bool:
    """Older than 90 days, or too vaguely dated to prove otherwise; ``dated`` is a year, a month or a day.

    Raises InputError ``price.date`` for anything else.
    """
    if not dated:
        return True
    try:
        parts = [int(part) for part in dated.split("-")]
        year, month, day = (*parts, 1, 1)[:3]
        earliest = date(year, month, day)
    except ValueError:
        raise InputError("price.date", f"{dated!r} is no date; write a year, a month or a day such as 2026-04-26.") from None
    return (today - earliest).days > STALE_AFTER_DAYS


def _row(row: dict[str, str]) -> CatalogRow:
    return CatalogRow(
        key=row["key"],
        hardware=row["hardware"],
        vcpus=int(row["vcpus"]) if row["vcpus"] else None,
        value=Decimal(row["value"]),
        unit=CatalogUnit(row["unit"]),
        low=Decimal(row["low"]) if row["low"] else None,
        high=Decimal(row["high"]) if row["high"] else None,
        source=row["source"],
        dated=row["date"],
        flag=row["flag"],
    )


def _price(row: CatalogRow, *, usd_per_hour: Decimal, hardware: str, vcpus: int | None, utilization: Decimal | None) -> MachinePrice:
    return MachinePrice(
        key=row.key,
        hardware=hardware,
        usd_per_hour=usd_per_hour,
        vcpus=vcpus,
        source=row.source,
        dated=row.dated,
        flag=row.flag,
        provenance=Provenance.CATALOG_DEFAULT,
        utilization=default_utilization() if utilization is None else utilization,
    )


def _without_accelerators(price: MachinePrice) -> MachinePrice:
    return replace(price, hardware=f"{price.hardware}, accelerators not priced", flag=VERIFY)


def missing_sources(rows: Sequence[CatalogRow]) -> tuple[str, ...]:
    """Keys of rows that have neither source and date nor the flag ``verify``."""
    return tuple(row.key for row in rows if not row.is_sourced and row.flag != VERIFY)

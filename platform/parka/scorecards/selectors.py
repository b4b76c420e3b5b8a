"""Reading prices and scorecards."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from optimizer.codec import from_jsonable
from optimizer.score.catalog import VERIFY, catalog, default_utilization, machine_rows, price_for, vcpu_row
from optimizer.score.cost import MachinePrice
from optimizer.score.scorecard import Scorecard as ScorecardValue
from optimizer.specs import HardwareProfile, Provenance
from parka.accounts.access import Access, Capability
from parka.accounts.models import Team
from parka.core.errors import NotFound
from parka.core.rows import found
from parka.experiments.models import Run
from parka.fleet.models import Agent
from parka.scorecards.models import Comparison, Price, PriceBook, Scorecard

VCPU_KEYS = ("vcpu.x86_64", "vcpu.arm64")


def current_book(team: Team) -> PriceBook:
    """The team's newest prices; version 1 is made from the shipped catalogue on first use."""
    return _newest_book(team) or _first_book(team)


def price_book(access: Access, *, version: int | None = None) -> PriceBook:
    """The newest book or one version of it. Raises NotFound."""
    access.require(Capability.READ)
    if version is None:
        return current_book(access.team)
    return found(PriceBook.objects.filter(team=access.team, version=version).first())


def price_books(access: Access) -> QuerySet[PriceBook]:
    """Every version of the team's prices, newest first."""
    access.require(Capability.READ)
    current_book(access.team)
    return PriceBook.objects.filter(team=access.team).select_related("created_by").prefetch_related("prices").order_by("-version")


def agent_key(agent: Agent) -> str:
    """Key of a price that belongs to one agent alone."""
    return f"agent.{agent.public_id}"


def price_of(agent: Agent, book: PriceBook) -> MachinePrice:
    """What an hour of that agent costs: its own price, else the one it points at, else the vCPU price × cores, estimated."""
    prices = {price.key: price for price in book.prices.all()}
    named = prices.get(agent_key(agent)) or prices.get(agent.price_key)
    if named is not None:
        return machine_price(named, utilization=book.utilization)
    return _vcpu_price(agent, prices, utilization=book.utilization)


def machine_price(price: Price, *, utilization: Decimal) -> MachinePrice:
    """A row of the book as the engine's value."""
    return MachinePrice(
        key=price.key,
        hardware=price.hardware,
        usd_per_hour=price.usd_per_hour,
        vcpus=price.vcpus,
        source=price.source,
        dated=price.dated,
        flag=price.flag,
        provenance=Provenance(price.provenance),
        utilization=utilization,
    )


def scorecards(access: Access) -> QuerySet[Scorecard]:
    """Scorecards of the team's runs under any version of its prices, newest first."""
    access.require(Capability.READ)
    return Scorecard.objects.filter(run__team=access.team).select_related("run", "book").order_by("-id")


def scorecard(access: Access, run: Run, *, book_version: int | None = None) -> Scorecard:
    """The run's scorecard under the newest prices that judged it, or under one version. Raises NotFound ``scorecard.not_ready``."""
    access.require(Capability.READ)
    rows = Scorecard.objects.filter(run=run, run__team=access.team).select_related("run", "book").order_by("-book__version")
    row = (rows if book_version is None else rows.filter(book__version=book_version)).first()
    if row is None:
        raise NotFound("scorecard.not_ready")
    return row


def scorecard_value(scorecard: Scorecard) -> ScorecardValue:
    """The stored body as the engine's value."""
    return from_jsonable(ScorecardValue, scorecard.body)


def comparisons(access: Access) -> QuerySet[Comparison]:
    """Saved comparisons of the team, newest first."""
    access.require(Capability.READ)
    return Comparison.objects.filter(team=access.team).select_related("created_by").order_by("-id")


def comparison(access: Access, public_id: str) -> Comparison:
    """One saved comparison. Raises NotFound."""
    return found(comparisons(access).filter(public_id=public_id).first())


def _vcpu_price(agent: Agent, prices: dict[str, Price], *, utilization: Decimal) -> MachinePrice:
    """The catalogue's way, with the team's own vCPU price where it has set one. Raises NotFound ``price.unknown``."""
    if agent.profile is None:
        raise NotFound("price.unknown", "The agent has not told its hardware yet, so it has no price.")
    profile = from_jsonable(HardwareProfile, agent.profile.profile)
    default = price_for(profile, utilization=utilization)
    own = prices.get(vcpu_row(profile.architecture).key)
    if own is None or own.provenance != Provenance.USER_ENTERED:
        return default
    rate = machine_price(own, utilization=utilization)
    return replace(rate, hardware=default.hardware, vcpus=profile.cores, usd_per_hour=rate.usd_per_hour * profile.cores, flag=default.flag)


def _newest_book(team: Team) -> PriceBook | None:
    """With its prices, which ``price_of`` reads for every agent."""
    return PriceBook.objects.filter(team=team).prefetch_related("prices").order_by("-version").first()


def _first_book(team: Team) -> PriceBook:
    try:
        with transaction.atomic():
            book = PriceBook.objects.create(team=team, version=1, utilization=default_utilization())
            Price.objects.bulk_create(_catalog_prices(book))
    except IntegrityError:
        return found(_newest_book(team))
    return book


def _catalog_prices(book: PriceBook) -> list[Price]:
    rows = (*machine_rows(), *(catalog()[key] for key in VCPU_KEYS))
    return [
        Price(
            book=book,
            key=row.key,
            hardware=row.hardware,
            vcpus=row.vcpus,
            usd_per_hour=row.value,
            source=row.source,
            dated=row.dated,
            flag=row.flag or ("" if row.is_sourced else VERIFY),
            provenance=Provenance.CATALOG_DEFAULT,
        )
        for row in rows
    ]

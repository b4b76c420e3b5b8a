"""Writing scorecards and prices: a scorecard is derived, a change of prices makes a new book."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from django.db import transaction

from optimizer.codec import to_jsonable
from optimizer.errors import EngineError
from optimizer.score.catalog import is_stale
from optimizer.score.scorecard import build_scorecard
from optimizer.specs import Provenance, Verdict
from parka.accounts.access import Access, Capability
from parka.accounts.models import Team
from parka.audit.services import record
from parka.core.errors import Conflict, FieldError, NotFound, Refused
from parka.core.text import clean_line
from parka.experiments import selectors as experiments
from parka.experiments.models import Run
from parka.scorecards.models import Comparison, Price, PriceBook, Scorecard
from parka.scorecards.selectors import current_book, price_of

HIGHEST_USD_PER_HOUR = Decimal(100_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceChange:
    """A price per hour that somebody enters; ``usd_per_hour`` None takes the key out of the book."""

    key: str
    usd_per_hour: Decimal | None
    hardware: str = ""
    vcpus: int | None = None
    source: str = ""
    dated: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BookChanges:
    """What shall be different; ``base_version`` guards against overwriting somebody else's change."""

    prices: tuple[PriceChange, ...] = ()
    utilization: Decimal | None = None
    base_version: int | None = None


@transaction.atomic
def store_scorecard(run: Run, book: PriceBook) -> Scorecard:
    """Judge a finished run under a book and keep the result; repeating it gives the same row.

    Raises Conflict ``scorecard.not_ready`` when the run has no outcome, Refused with the engine's code when it cannot be judged.
    """
    outcome = experiments.outcome(run)
    if outcome is None:
        raise Conflict("scorecard.not_ready")
    try:
        card = build_scorecard(
            reports=experiments.reports(run), outcome=outcome, spec=experiments.spec(run.experiment), price=price_of(run.agent, book)
        )
    except EngineError as error:
        raise Refused(error.code, error.message) from error
    row, _ = Scorecard.objects.update_or_create(
        run=run,
        book=book,
        defaults={
            "finding": card.finding,
            "decision": card.decision,
            "passed": card.count(Verdict.PASS),
            "failed": card.count(Verdict.FAIL),
            "unproven": card.count(Verdict.UNPROVEN),
            "body": to_jsonable(card),
        },
    )
    return row


@transaction.atomic
def revise_book(access: Access, changes: BookChanges) -> PriceBook:
    """A new version of the team's prices; entered ones count as the user's own. Old scorecards keep their version.

    Raises Conflict ``price.conflict``, Refused ``price.invalid`` ``price.utilization`` with one error per field.
    """
    access.require(Capability.EDIT_PRICES)
    Team.objects.select_for_update().get(pk=access.team.pk)
    base = current_book(access.team)
    if changes.base_version is not None and changes.base_version != base.version:
        raise Conflict("price.conflict")
    _check(changes)
    book = PriceBook.objects.create(
        team=access.team,
        version=base.version + 1,
        utilization=base.utilization if changes.utilization is None else changes.utilization,
        created_by=access.user,
    )
    Price.objects.bulk_create(_revised(base, book, changes))
    record(
        "prices.changed", **access.trail, target=f"version {book.version}", before=_audited(base, changes), after=_audited(book, changes)
    )
    return book


@transaction.atomic
def save_comparison(access: Access, *, name: str, query: str) -> Comparison:
    """Keep a view under a name; ``query`` is the URL's query string."""
    access.require(Capability.SAVE_VIEWS)
    title = clean_line(name, limit=120)
    if not title:
        raise Refused("request.invalid", fields=(FieldError(pointer="/name", code="field.blank", detail="Give the comparison a name."),))
    return Comparison.objects.create(team=access.team, name=title, query=query[:4000], created_by=access.user)


@transaction.atomic
def delete_comparison(access: Access, comparison: Comparison) -> None:
    """Forget a saved view. Raises NotFound."""
    access.require(Capability.SAVE_VIEWS)
    if not Comparison.objects.filter(team=access.team, pk=comparison.pk).delete()[0]:
        raise NotFound


def _check(changes: BookChanges) -> None:
    wrong = [error for index, change in enumerate(changes.prices) for error in _wrong(change, index)]
    if changes.utilization is not None and not (changes.utilization.is_finite() and 0 < changes.utilization <= 1):
        wrong.append(FieldError(pointer="/utilization", code="price.utilization", detail="Utilization must lie above 0 and at most 1."))
    if wrong:
        raise Refused(wrong[0].code if len(wrong) == 1 else "request.invalid", fields=tuple(wrong))


def _wrong(change: PriceChange, index: int) -> list[FieldError]:
    wrong = []
    usd = change.usd_per_hour
    if usd is not None and not (usd.is_finite() and 0 <= usd <= HIGHEST_USD_PER_HOUR):
        detail = f"A price per hour lies between 0 and {HIGHEST_USD_PER_HOUR} dollars."
        wrong.append(FieldError(pointer=f"/prices/{index}/usd_per_hour", code="price.invalid", detail=detail))
    if not change.key or clean_line(change.key, limit=80) != change.key:
        wrong.append(FieldError(pointer=f"/prices/{index}/key", code="field.invalid", detail="A key is one short line of text."))
    try:
        is_stale(change.dated, today=datetime.now(tz=UTC).date())
    except EngineError as error:
        wrong.append(FieldError(pointer=f"/prices/{index}/dated", code=error.code, detail=error.message))
    return wrong


def _revised(base: PriceBook, book: PriceBook, changes: BookChanges) -> list[Price]:
    prices = {price.key: price for price in base.prices.all()}
    for change in changes.prices:
        old = prices.pop(change.key, None)
        if change.usd_per_hour is not None:
            prices[change.key] = _entered(change, old)
    for price in prices.values():
        price.pk, price.book = None, book
    return list(prices.values())


def _entered(change: PriceChange, old: Price | None) -> Price:
    return Price(
        key=change.key,
        usd_per_hour=change.usd_per_hour or Decimal(0),
        hardware=clean_line(change.hardware, limit=120) or (old.hardware if old else ""),
        vcpus=change.vcpus or (old.vcpus if old else None),
        source=clean_line(change.source, limit=120) or "entered by the team",
        dated=change.dated,
        provenance=Provenance.USER_ENTERED,
    )


def _audited(book: PriceBook, changes: BookChanges) -> dict[str, str]:
    keys = {change.key for change in changes.prices}
    shown = {price.key: str(price.usd_per_hour) for price in book.prices.all() if price.key in keys}
    return {"version": str(book.version), "utilization": str(book.utilization), **shown}

"""PriceBook: dated prices with sources; a change makes a new version."""

from __future__ import annotations

from decimal import Decimal

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_GET, require_http_methods

from parka.accounts.access import Access, Capability
from parka.core.errors import NotFound, PlatformError
from parka.dashboard.forms import PriceForm
from parka.dashboard.pages import crumb, show, team_view
from parka.dashboard.words import percent
from parka.fleet.selectors import agent as agent_of
from parka.fleet.selectors import agents
from parka.scorecards.selectors import agent_key, price_book, price_books
from parka.scorecards.services import BookChanges, PriceChange
from parka.workflow.prices import change_prices


@require_GET
@team_view
def prices(request: HttpRequest, access: Access) -> HttpResponse:
    """The current prices, or an earlier version of them."""
    wanted = request.GET.get("version", "")
    if wanted and not (wanted.isdecimal() and len(wanted) < 9):
        raise NotFound
    book = price_book(access, version=int(wanted) if wanted else None)
    books = list(price_books(access))
    context = {
        "title": "PriceBook",
        "section": "prices",
        "subtitle": f"Version {book.version}: what an hour of each machine costs",
        "book": book,
        "books": books,
        "is_current": book.pk == books[0].pk,
        "prices": book.prices.order_by("-provenance", "hardware"),
        "utilization": percent(book.utilization),
        "may_price": access.may(Capability.EDIT_PRICES),
    }
    return show(request, access, "costs/prices.html", context)


@require_http_methods(["GET", "POST"])
@team_view
def prices_edit(request: HttpRequest, access: Access) -> HttpResponse:
    """Set the price of an agent's machine or the utilization."""
    access.require(Capability.EDIT_PRICES)
    book = price_book(access)
    initial = {"agent": request.GET.get("agent", ""), "utilization": percent(book.utilization), "base_version": book.version}
    form = PriceForm(request.POST or None, initial=initial, agents=[(one.slug, one.name) for one in agents(access)])
    if request.method == "POST" and form.is_valid():
        try:
            newer = change_prices(access, _changes(access, form))
            messages.success(request, f"Saved as version {newer.version}; runs are being scored again.")
            return redirect("prices", access.team.slug)
        except PlatformError as error:
            form.take(error, fields={"/prices/0/usd_per_hour": "usd_per_hour", "/prices/0/dated": "dated", "/utilization": "utilization"})
    context = {
        "title": "Edit prices",
        "section": "prices",
        "crumbs": [crumb(access, "PriceBook", "prices")],
        "form": form,
        "next_version": book.version + 1,
    }
    return show(request, access, "costs/edit.html", context, status=422 if form.errors else 200)


def _changes(access: Access, form: PriceForm) -> BookChanges:
    data = form.cleaned_data
    return BookChanges(
        prices=(_price(access, data),) if data["agent"] else (),
        utilization=Decimal(data["utilization"]) / 100,
        base_version=data["base_version"],
    )


def _price(access: Access, data: dict[str, object]) -> PriceChange:
    machine = agent_of(access, str(data["agent"]))
    usd = data["usd_per_hour"]
    return PriceChange(
        key=agent_key(machine),
        usd_per_hour=usd if isinstance(usd, Decimal) else None,
        hardware=machine.name,
        source=str(data["source"]),
        dated=str(data["dated"]),
    )

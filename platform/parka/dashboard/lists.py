"""A list page: filter, sort, page; the same rows as page, as fragment and by link."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django_tables2 import RequestConfig

from parka.accounts.access import Access
from parka.dashboard.filters import ListFilter
from parka.dashboard.pages import is_fragment, show
from parka.dashboard.tables import ParkaTable

PER_PAGE = 25


def paged(request: HttpRequest, table: ParkaTable) -> ParkaTable:
    """Sort and cut the table as the address says; a page beyond the end is the last."""
    RequestConfig(request, paginate={"per_page": PER_PAGE, "silent": True}).configure(table)
    return table


def show_list(
    request: HttpRequest, access: Access, template: str, *, table: ParkaTable, filters: ListFilter, context: dict[str, Any]
) -> HttpResponse:
    """The page or its list alone; typing replaces the address, choosing adds a step to the history."""
    base = {"table": table, "filters": filters.form, "filtered": filters.is_active, **context}
    response = show(request, access, template, base, fragment="components/_list.html")
    if is_fragment(request):
        typed = request.headers.get("HX-Trigger-Name") in (None, "q")
        response["HX-Replace-Url" if typed else "HX-Push-Url"] = request.get_full_path()
    return response

"""The web edge of accounts: which team a page belongs to, and the one-click sign-in link."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, cast

from allauth.account.authentication import get_authentication_records
from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from parka.accounts.access import Access, access_for
from parka.accounts.models import User
from parka.accounts.tokens import redeem_login_link
from parka.core.addresses import client_address
from parka.core.errors import Forbidden

Args = ParamSpec("Args")
RECENT_S = 600
BACKEND = settings.AUTHENTICATION_BACKENDS[0]


def request_access(request: HttpRequest, team_slug: str) -> Access:
    """Access of the signed-in person of a request to a team. Raises NotFound for strangers."""
    return access_for(cast(User, request.user), team_slug, address=client_address(request))


def team_page(
    view: Callable[Concatenate[HttpRequest, Access, Args], HttpResponseBase],
) -> Callable[Concatenate[HttpRequest, str, Args], HttpResponseBase]:
    """Turn a view of ``(request, access, …)`` into a page under ``/t/<slug:team>/…``; visitors are sent to sign in."""

    @login_required
    @wraps(view)
    def page(request: HttpRequest, team: str, *args: Args.args, **kwargs: Args.kwargs) -> HttpResponseBase:
        return view(request, request_access(request, team), *args, **kwargs)

    return cast(Callable[Concatenate[HttpRequest, str, Args], HttpResponseBase], page)


def signed_in_recently(request: HttpRequest) -> bool:
    """Whether the person typed a password within the last ten minutes: asked before tokens, roles and agents change."""
    records = get_authentication_records(request, request.user if request.user.is_authenticated else None)
    return any(time.time() - record["at"] < RECENT_S for record in records)


@never_cache
@require_GET
def use_login_link(request: HttpRequest, token: str) -> HttpResponse:
    """Sign in by a single-use link and go to the first page."""
    try:
        user = redeem_login_link(token, address=client_address(request))
    except Forbidden as refusal:
        return HttpResponse(refusal.message, status=refusal.status, content_type="text/plain; charset=utf-8")
    login(request, user, backend=BACKEND)
    return HttpResponseRedirect("/")

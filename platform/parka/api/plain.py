"""Plain async views beside DRF: raw bodies and waiting replies, with the same callers, limits and problem documents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from parka.accounts.access import Access
from parka.api.authentication import plain_access
from parka.api.denials import note_denial
from parka.api.problems import describe, problem_response
from parka.api.throttles import Allowance, count_request
from parka.core.errors import Forbidden, PlatformError

Args = ParamSpec("Args")
View = Callable[Concatenate[HttpRequest, Access, Args], Awaitable[HttpResponseBase]]


def plain_resource(view: View[Args]) -> Callable[..., Any]:
    """Give an async view of ``(request, access, …)`` authentication, rate limits and problem+json.

    The view holds no database connection while it waits: every query runs inside its own ``sync_to_async``. A session's
    CSRF token is checked by the authentication itself.
    """

    @wraps(view)
    async def resource(request: HttpRequest, *args: Args.args, **kwargs: Args.kwargs) -> HttpResponseBase:
        allowance: Allowance | None = None
        access: Access | None = None
        try:
            access, allowance = await sync_to_async(_admit)(request)
            response = await view(request, access, *args, **kwargs)
        except Exception as error:
            response = await sync_to_async(_explain)(error, request, access)
        for name, value in (allowance.headers if allowance else {}).items():
            response.headers[name] = value
        response.headers.setdefault("Cache-Control", "private, no-cache")
        return response

    return csrf_exempt(resource)


def _admit(request: HttpRequest) -> tuple[Access, Allowance]:
    try:
        access = plain_access(request)
    except PlatformError as refusal:
        if refusal.code == "unauthenticated":
            count_request(request, access=None)
        raise
    return access, count_request(request, access=access)


def _explain(error: Exception, request: HttpRequest, access: Access | None) -> HttpResponse:
    if isinstance(error, Forbidden):
        note_denial(request, access, error)
    return problem_response(describe(error, request=request), request)

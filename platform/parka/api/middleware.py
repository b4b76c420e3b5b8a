"""The outermost layer of a request: its id, and problem documents for whatever fails under ``/api/``."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response, set_response_etag
from django.utils.decorators import sync_and_async_middleware

from parka.api.problems import MEDIA_TYPE, of_status, problem_response

API = "/api/"
REQUEST_ID = "X-Request-Id"


@sync_and_async_middleware
def api_edge(get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]) -> Callable[[HttpRequest], object]:
    """Give every request an id, answer errors of the API as problem+json, and ETag its answers."""
    if iscoroutinefunction(get_response):

        async def edge_async(request: HttpRequest) -> HttpResponseBase:
            begin(request)
            return finish(request, await get_response(request))

        return edge_async

    def edge(request: HttpRequest) -> HttpResponseBase:
        begin(request)
        return finish(request, get_response(request))  # type: ignore[arg-type]

    return edge


def begin(request: HttpRequest) -> None:
    """A fresh id; a client's own one is not trusted."""
    request.request_id = f"req_{secrets.token_hex(10)}"  # type: ignore[attr-defined]


def finish(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """The id in a header, and under ``/api/`` problem documents and conditional answers."""
    if request.path.startswith(API):
        response = _as_problem(request, response)
        response = _conditional(request, response)
    response.headers.setdefault(REQUEST_ID, request.request_id)  # type: ignore[attr-defined]
    return response


def _as_problem(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    if response.status_code < 400 or response.headers.get("Content-Type") == MEDIA_TYPE or request.method == "HEAD":
        return response
    problem = of_status(response.status_code)
    kept = {name: response.headers[name] for name in ("Allow", "Retry-After") if name in response.headers}
    answer = problem_response(problem, request)
    for name, value in kept.items():
        answer.headers[name] = value
    return answer


def _conditional(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    if request.method not in ("GET", "HEAD") or response.status_code != 200 or not isinstance(response, HttpResponse):
        return response
    if not response.headers.get("ETag"):
        set_response_etag(response)
    return get_conditional_response(request, etag=response.headers.get("ETag"), response=response) or response

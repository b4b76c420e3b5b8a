"""RFC 9457 problem+json for every error under ``/api/``."""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import structlog
from django.conf import settings
from django.core.exceptions import PermissionDenied, RequestDataTooBig, TooManyFieldsSent
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from optimizer.errors import InputError
from parka.api.validation import field_errors
from parka.core.codes import sentence
from parka.core.errors import FieldError, PlatformError

log = structlog.get_logger(__name__)
MEDIA_TYPE = "application/problem+json"
BUSY_RETRY_S = 2
CODE_OF_STATUS = {
    400: "request.malformed",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method.not_allowed",
    406: "request.not_acceptable",
    413: "request.too_large",
    415: "request.media_type",
    429: "rate.limited",
    503: "server.busy",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One problem document with its status and headers."""

    code: str
    status: int
    detail: str = ""
    fields: tuple[FieldError, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)

    def body(self, request: HttpRequest | None) -> dict[str, Any]:
        """The document; ``instance`` is the request's id. The body of a 404 is the same for every object."""
        return {
            "type": problem_url(self.code),
            "title": sentence(self.code) or HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail or sentence(self.code),
            "instance": getattr(request, "request_id", ""),
            "code": self.code,
            "errors": [{"pointer": one.pointer, "code": one.code, "detail": one.detail} for one in self.fields],
        }


def problem_url(code: str) -> str:
    """The page that explains a code."""
    return f"{settings.PUBLIC_URL}/problems/{code}/"


def exception_handler(error: Exception, context: dict[str, Any]) -> Response:
    """DRF's hook: any error becomes a problem document; unknown ones are logged and say only that the server failed."""
    set_rollback()
    request = context["request"]
    problem = describe(error, request=request._request)
    headers = dict(problem.headers)
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="parka"'
    return Response(problem.body(request._request), status=problem.status, headers=headers, content_type=MEDIA_TYPE)


def problem_response(problem: Problem, request: HttpRequest | None) -> HttpResponse:
    """The document as a plain Django response."""
    headers = {**problem.headers, **({"WWW-Authenticate": 'Bearer realm="parka"'} if problem.status == HTTPStatus.UNAUTHORIZED else {})}
    return JsonResponse(problem.body(request), status=problem.status, headers=headers, content_type=MEDIA_TYPE)


def describe(error: Exception, *, request: HttpRequest | None = None) -> Problem:
    """The problem that an exception stands for."""
    if isinstance(error, PlatformError):
        retry = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
        return Problem(code=error.code, status=error.status, detail=error.message, fields=error.fields, headers=retry)
    if isinstance(error, InputError):
        return Problem(code=error.code, status=422, detail=error.message)
    if isinstance(error, exceptions.APIException):
        return _describe_framework(error)
    if isinstance(error, Http404):
        return Problem(code="not_found", status=404)
    if isinstance(error, PermissionDenied):
        return Problem(code="forbidden", status=403)
    if isinstance(error, (RequestDataTooBig, TooManyFieldsSent)):
        return Problem(code="request.too_large", status=413)
    if isinstance(error, (OperationalError, InterfaceError)):
        log.warning("server.busy", error=str(error))
        return Problem(code="server.busy", status=503, headers={"Retry-After": str(BUSY_RETRY_S)})
    log.exception("server.error", exc_info=error, path=getattr(request, "path", ""), request_id=getattr(request, "request_id", ""))
    return Problem(code="server.error", status=500)


def of_status(status: int) -> Problem:
    """The generic problem of a status that Django itself answered."""
    code = CODE_OF_STATUS.get(status) or ("server.error" if status >= 500 else "request.invalid")
    return Problem(code=code, status=status)


def _describe_framework(error: exceptions.APIException) -> Problem:
    if isinstance(error, exceptions.ValidationError):
        return Problem(code="request.invalid", status=422, fields=tuple(field_errors(error.detail)))
    if isinstance(error, exceptions.PermissionDenied) and "CSRF" in str(error.detail):
        return Problem(code="request.csrf", status=403)
    detail = str(error.detail) if isinstance(error, exceptions.ParseError) else ""
    return Problem(code=of_status(error.status_code).code, status=error.status_code, detail=detail)

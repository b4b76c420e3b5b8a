"""The error pages of the whole site."""

from __future__ import annotations

import uuid

import structlog
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from parka.core.codes import sentence
from parka.core.errors import Forbidden, NotFound
from parka.dashboard.pages import ErrorPage, show_error

log = structlog.get_logger(__name__)


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """404, the same for what is absent and what is not yours."""
    return show_error(request, NotFound())


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """403."""
    return show_error(request, Forbidden("forbidden"))


def form_expired(request: HttpRequest, reason: str = "") -> HttpResponse:
    """403 for a form whose CSRF token does not match."""
    return show_error(request, Forbidden("request.csrf"))


def server_failed(request: HttpRequest) -> HttpResponse:
    """500 with a reference that stands in the log."""
    reference = uuid.uuid4().hex[:12]
    log.error("request.failed", path=request.path, reference=reference)
    page = ErrorPage(status=500, title="The server failed", code="server.error", message=sentence("server.error"), reference=reference)
    template = "errors/_toast.html" if getattr(request, "htmx", False) else "errors/bare.html"
    return render(request, template, {"error": page, "title": page.title}, status=500)

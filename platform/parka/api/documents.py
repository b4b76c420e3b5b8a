"""The API's own pages: the OpenAPI document, the offline docs, and a page for every problem type."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from csp.constants import SELF, UNSAFE_INLINE
from csp.decorators import csp_replace
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiYamlRenderer

from parka.core.codes import CODES

COMMITTED = Path(__file__).resolve().parents[3] / "openapi.yaml"


@cache
def openapi_text() -> str:
    """The document as YAML."""
    schema: Any = SchemaGenerator().get_schema(request=None, public=True)
    text: bytes = OpenApiYamlRenderer().render(schema, renderer_context={})
    return text.decode()


@require_safe
def openapi(request: HttpRequest) -> HttpResponse:
    """The OpenAPI 3.1 document; readable without signing in."""
    return HttpResponse(openapi_text(), content_type="application/vnd.oai.openapi; charset=utf-8")


@csp_replace({"style-src": [SELF, UNSAFE_INLINE]})
@require_safe
def docs(request: HttpRequest) -> HttpResponse:
    """The reference, rendered by Swagger UI from our own static files."""
    return render(request, "api/docs.html")


@require_safe
def problem_page(request: HttpRequest, code: str) -> HttpResponse:
    """What a code means and what to do."""
    if code not in CODES:
        raise Http404
    return render(request, "api/problem.html", {"code": code, "sentence": CODES[code]})

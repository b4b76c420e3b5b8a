"""The base of every API resource: caller, limits, pages, counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView

from parka.accounts.access import Access
from parka.accounts.models import User
from parka.api.authentication import access_of
from parka.api.denials import note_denial
from parka.api.pagination import Cursor
from parka.api.throttles import Allowance, count_request
from parka.core.errors import Forbidden


class CountSerializer(serializers.Serializer):
    """How many rows a list has."""

    count = serializers.IntegerField()


class Resource(APIView):
    """One address of the API. Services and selectors check what the caller may do."""

    http_method_names = ["get", "post", "put", "patch", "delete", "head", "options"]

    @property
    def access(self) -> Access:
        """The caller inside their team. Raises as ``access_of``."""
        return access_of(self.request)

    @property
    def caller(self) -> User:
        return cast(User, self.request.user)

    def check_permissions(self, request: Request) -> None:
        """Count the request first, so that anonymous ones are limited too."""
        access = request.auth if isinstance(request.auth, Access) else None
        self.allowance: Allowance | None = count_request(request._request, access=access, user_id=request.user.pk)
        super().check_permissions(request)

    def handle_exception(self, exc: Exception) -> Response:
        """Denials of people that are known are audited."""
        if isinstance(exc, Forbidden):
            note_denial(self.request._request, self.request.auth, exc)
        return super().handle_exception(exc)

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        final = super().finalize_response(request, response, *args, **kwargs)
        allowance = getattr(self, "allowance", None)
        for name, value in (allowance.headers if allowance else {}).items():
            final.headers[name] = value
        final.headers.setdefault("Cache-Control", "private, no-cache")
        return final

    def page(self, rows: QuerySet[Any], as_json: Callable[[Any], Any], *, ordering: str = "-id") -> Response:
        """One cursor page of a queryset."""
        cursor = Cursor()
        cursor.ordering = ordering
        items = cursor.paginate_queryset(rows, self.request, view=self) or []
        return cursor.get_paginated_response([as_json(row) for row in items])

    def read(self, serializer: type[BaseSerializer]) -> dict[str, Any]:
        """The validated body. Raises ValidationError."""
        form = serializer(data=self.request.data)
        form.is_valid(raise_exception=True)
        return cast(dict[str, Any], form.validated_data)


def total(rows: QuerySet[Any]) -> Response:
    """``{count}`` of a list."""
    return Response({"count": rows.count()})

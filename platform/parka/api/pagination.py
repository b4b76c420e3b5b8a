"""Cursor pages: ``{items, next, previous}``."""

from rest_framework.pagination import CursorPagination
from rest_framework.response import Response


class Cursor(CursorPagination):
    """Newest first; totals only at ``/count``."""

    ordering = "-id"
    page_size_query_param = "limit"
    max_page_size = 200

    def get_paginated_response(self, data: list[object]) -> Response:
        return Response({"items": data, "next": self.get_next_link(), "previous": self.get_previous_link()})

"""Cursor pages: ``{items, next, previous}`` and a ``Link`` header; totals only at ``/count``."""

from __future__ import annotations

from typing import Any

from rest_framework.pagination import CursorPagination
from rest_framework.response import Response

from parka.core.errors import BadRequest


class Cursor(CursorPagination):
    """Newest first by the row's id; ``?limit=`` up to 200."""

    ordering = "-id"
    page_size_query_param = "limit"
    max_page_size = 200
    invalid_cursor_message = "This cursor is not valid; start from the first page."

    def decode_cursor(self, request: Any) -> Any:
        try:
            return super().decode_cursor(request)
        except Exception:
            raise BadRequest("request.cursor") from None

    def get_paginated_response(self, data: Any) -> Response:
        links = {"next": self.get_next_link(), "previous": self.get_previous_link()}
        header = ", ".join(f'<{url}>; rel="{"prev" if name == "previous" else name}"' for name, url in links.items() if url)
        return Response({"items": data, **links}, headers={"Link": header} if header else None)

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": ["string", "null"], "format": "uri"}
        return {
            "type": "object",
            "required": ["items", "next", "previous"],
            "properties": {"items": schema, "next": link, "previous": link},
        }

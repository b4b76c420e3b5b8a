"""RFC 9457 problem+json for every error."""

from __future__ import annotations

from typing import Any

from rest_framework.response import Response


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's hook: turn any known error into a problem document."""
    return None

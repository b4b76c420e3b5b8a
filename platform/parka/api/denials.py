"""What somebody was not allowed to do goes into the team's audit log."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.http import HttpRequest

from parka.accounts.access import Access
from parka.audit.services import record
from parka.core.errors import Forbidden


def note_denial(request: HttpRequest, access: Access | Any, error: Forbidden) -> None:
    """Record a refusal of a caller whose team is known; the request's own transaction is over by now."""
    if isinstance(access, Access):
        with transaction.atomic():
            record("access.denied", **access.trail, target=f"{request.method} {request.path}", after={"code": error.code})

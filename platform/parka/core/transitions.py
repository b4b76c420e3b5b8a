"""A state change is one conditional UPDATE; the loser gets Conflict."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db.models import Model, QuerySet

from parka.core.errors import Conflict

M = TypeVar("M", bound=Model)


def compare_and_set(rows: QuerySet[M], *, code: str, message: str, **changes: Any) -> None:
    """Update the one row that still meets the queryset's conditions. Raises Conflict when none does."""
    if rows.update(**changes) == 0:
        raise Conflict(code, message)

"""A state change is one conditional UPDATE; the loser gets Conflict."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db.models import Model, QuerySet

from parka.core.errors import Conflict

M = TypeVar("M", bound=Model)


def own_columns(rows: QuerySet[M]) -> QuerySet[M]:
    """The queryset, whose conditions must lie in its own table; a condition on another one is written as ``Exists``.

    A join would move all conditions into a subquery, which PostgreSQL does not evaluate again for those who waited for the row:
    several would then win. Raises TypeError.
    """
    joined = [alias for alias, uses in rows.query.alias_refcount.items() if uses]
    if len(joined) > 1:
        raise TypeError(f"a conditional update must not join: {', '.join(joined)}")
    return rows


def compare_and_set(rows: QuerySet[M], *, code: str, message: str, **changes: Any) -> None:
    """Update the one row that still meets the queryset's conditions. Raises Conflict when none does."""
    if own_columns(rows).update(**changes) == 0:
        raise Conflict(code, message)

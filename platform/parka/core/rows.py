"""A row, or the one answer for rows that are absent and rows that are somebody else's."""

from __future__ import annotations

from typing import TypeVar

from parka.core.errors import NotFound

Row = TypeVar("Row")


def found(row: Row | None) -> Row:
    """The row. Raises NotFound when there is none."""
    if row is None:
        raise NotFound
    return row

"""Times and shares as people read them. Numbers are worded by ``optimizer.score.wording``, never here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

MINUTE, HOUR, DAY = 60, 3600, 86400
STEPS = ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (1, "s"))
RELATIVE_WITHIN = timedelta(days=7)


def percent(share: Decimal) -> str:
    """A share as plain percent: 0.400 is ``40``."""
    text = f"{share * 100:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def ago(moment: datetime, *, now: datetime | None = None) -> str:
    """Relative within seven days of the past, else the date: ``2 h ago``, ``3 Nov 2025``; ``in 12 d`` for what is ahead."""
    age = (now or datetime.now(UTC)) - moment
    if age < timedelta(0):
        return f"in {_rounded(-age)}"
    if age >= RELATIVE_WITHIN:
        return f"{moment.day} {moment:%b %Y}"
    return "now" if age < timedelta(seconds=5) else f"{_rounded(age)} ago"


def _rounded(length: timedelta) -> str:
    seconds = max(1, int(length.total_seconds()))
    return next(f"{seconds // size} {unit}" for size, unit in STEPS if seconds >= size)

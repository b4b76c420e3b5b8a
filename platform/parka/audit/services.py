"""Writing the audit log."""

from __future__ import annotations

from typing import Any

from django.db import connection, transaction

from parka.audit.models import SecurityEvent
from parka.core.text import clean_line
from parka.core.tokens import without_tokens


def record(
    action: str, *, actor: str, team: str = "", target: str = "", address: str = "", before: Any = None, after: Any = None
) -> SecurityEvent:
    """Append one event in the transaction of the action itself. ``team`` is the team's public id.

    Raises TransactionManagementError outside a transaction: an event that survives a failed action would be a lie.
    """
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError("an audit event belongs to the transaction of its action")
    return SecurityEvent.objects.create(
        action=action,
        actor=clean_line(actor, limit=200),
        team=team,
        target=clean_line(without_tokens(target), limit=200),
        address=address,
        before=before,
        after=after,
    )

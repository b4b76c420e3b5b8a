"""Reading the audit log."""

from __future__ import annotations

from django.db.models import QuerySet

from parka.audit.models import SecurityEvent


def events(team: str) -> QuerySet[SecurityEvent]:
    """Events of a team (its public id), newest first. The caller checks ``Capability.READ_AUDIT``."""
    return SecurityEvent.objects.filter(team=team).order_by("-id")

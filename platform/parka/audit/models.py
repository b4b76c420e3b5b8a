"""Append-only security events; they name users and teams by string so that they outlive both."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from parka.core.models import PublicIdField, TimedModel


class SecurityEvent(TimedModel):
    """One audited action, written in the transaction of the action itself."""

    public_id = PublicIdField("evt")
    team = models.CharField(max_length=60, blank=True, db_index=True)
    actor = models.CharField(max_length=200)
    action = models.CharField(max_length=60, db_index=True)
    target = models.CharField(max_length=200, blank=True)
    address = models.CharField(max_length=60, blank=True)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)

    class Meta:
        ordering: ClassVar = ["-id"]

"""Registered hardware: agents, their tokens and their probed profiles."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from parka.accounts.models import Team, User
from parka.core.models import PublicIdField, TimedModel


class HardwareProfile(TimedModel):
    """A host as probed; ``fingerprint`` makes numbers comparable (the pool)."""

    fingerprint = models.CharField(max_length=64, unique=True)
    profile = models.JSONField()


class AgentState(models.TextChoices):
    PENDING = "pending", "Waiting for registration"
    ACTIVE = "active", "Active"
    DRAINING = "draining", "Draining"
    REVOKED = "revoked", "Revoked"


class Agent(TimedModel):
    """One device with one slot. ``facts`` and ``checks`` are claims of the agent."""

    public_id = PublicIdField("agent")
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="agents")
    slug = models.SlugField(max_length=80)
    name = models.CharField(max_length=120)
    state = models.CharField(max_length=10, choices=AgentState.choices, default=AgentState.PENDING)
    transport = models.CharField(max_length=10, default="celery")
    agent_version = models.CharField(max_length=40, blank=True)
    incarnation = models.CharField(max_length=64, blank=True)
    profile = models.ForeignKey(HardwareProfile, on_delete=models.PROTECT, null=True, related_name="agents")
    runtimes = models.JSONField(default=dict)
    sandbox_level = models.CharField(max_length=1, blank=True)
    sandbox_checks = models.JSONField(default=dict)
    last_seen_at = models.DateTimeField(null=True)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True)
    price_key = models.CharField(max_length=80, blank=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["team", "slug"], name="agent_slug_per_team")]

    def __str__(self) -> str:
        return self.name


class AgentIncarnation(TimedModel):
    """A process start of an agent that was heard of; ``Agent.incarnation`` names the newest, all others are superseded."""

    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="incarnations")
    incarnation = models.CharField(max_length=64)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["agent", "incarnation"], name="incarnation_once_per_agent")]


class AgentToken(TimedModel):
    """``pka_`` token: hash only. The previous one works until the new one is first used plus 60 s."""

    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="tokens")
    digest = models.CharField(max_length=64, unique=True)
    expires_at = models.DateTimeField()
    first_used_at = models.DateTimeField(null=True)
    retire_at = models.DateTimeField(null=True)


class RegistrationToken(TimedModel):
    """``pkr_`` token: one use, one hour, bound to its agent row."""

    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="registrations")
    digest = models.CharField(max_length=64, unique=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True)

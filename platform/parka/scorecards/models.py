"""Judgement and money: dated prices, scorecards derived from stored results, saved comparisons."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from parka.accounts.models import Team, User
from parka.core.models import PublicIdField, TimedModel
from parka.experiments.models import Run


class PriceBook(TimedModel):
    """A version of a team's prices. A change makes a new version; old scorecards keep theirs."""

    public_id = PublicIdField("pb")
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="price_books")
    version = models.PositiveIntegerField()
    currency = models.CharField(max_length=3, default="USD")
    utilization = models.DecimalField(max_digits=4, decimal_places=3, default="0.400")
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["team", "version"], name="pricebook_version_per_team"),
            models.CheckConstraint(condition=models.Q(utilization__gt=0, utilization__lte=1), name="pricebook_utilization_range"),
        ]


class Price(models.Model):
    """One dated, sourced price of a machine. ``provenance``: catalog_default or user_entered."""

    book = models.ForeignKey(PriceBook, on_delete=models.CASCADE, related_name="prices")
    key = models.CharField(max_length=80)
    hardware = models.CharField(max_length=120)
    vcpus = models.PositiveIntegerField(null=True)
    usd_per_hour = models.DecimalField(max_digits=12, decimal_places=6)
    source = models.CharField(max_length=120)
    dated = models.CharField(max_length=10, blank=True)
    flag = models.CharField(max_length=20, blank=True)
    provenance = models.CharField(max_length=20, default="catalog_default")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["book", "key"], name="price_key_per_book"),
            models.CheckConstraint(condition=models.Q(usd_per_hour__gte=0), name="price_not_negative"),
        ]


class Scorecard(TimedModel):
    """Measurements of a run judged against the targets under one price book; ``body`` is score.scorecard's JSON."""

    public_id = PublicIdField("card")
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="scorecards")
    book = models.ForeignKey(PriceBook, on_delete=models.PROTECT, related_name="scorecards")
    finding = models.TextField()
    decision = models.CharField(max_length=20)
    passed = models.PositiveSmallIntegerField(default=0)
    failed = models.PositiveSmallIntegerField(default=0)
    unproven = models.PositiveSmallIntegerField(default=0)
    body = models.JSONField()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["run", "book"], name="scorecard_per_run_and_book")]


class Comparison(TimedModel):
    """A saved view: chosen runs or trials with a pinned baseline; the state is the URL's query."""

    public_id = PublicIdField("cmp")
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="comparisons")
    name = models.CharField(max_length=120)
    query = models.TextField()
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True)

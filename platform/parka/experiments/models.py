"""Questions and their evidence: experiments, targets, runs, trials with staged reports."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from parka.accounts.models import Team, User
from parka.core.models import PublicIdField, TimedModel
from parka.fleet.models import Agent
from parka.registry.models import Artifact, Dataset, ModelVersion


class Experiment(TimedModel):
    """A question: model version, KPI targets, agents, budget. ``spec`` is the SearchSpec sent with each lease."""

    public_id = PublicIdField("exp")
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="experiments")
    number = models.PositiveIntegerField()
    title = models.CharField(max_length=160)
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="experiments")
    dataset = models.ForeignKey(Dataset, on_delete=models.PROTECT, null=True, related_name="experiments")
    objective = models.CharField(max_length=60)
    budget_s = models.FloatField()
    preset = models.CharField(max_length=12)
    spec = models.JSONField()
    estimate = models.JSONField(default=dict)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["team", "number"], name="experiment_number_per_team"),
            models.CheckConstraint(condition=Q(budget_s__gt=0), name="experiment_budget_positive"),
        ]

    @property
    def label(self) -> str:
        return f"E-{self.number}"


class Target(models.Model):
    """A KPI limit of an experiment; ``relative`` means a fraction of the baseline."""

    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="targets")
    kpi = models.CharField(max_length=60)
    op = models.CharField(max_length=2)
    value = models.FloatField()
    relative = models.BooleanField(default=False)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["experiment", "kpi", "relative"], name="target_once_per_kpi")]


class RunKind(models.TextChoices):
    SEARCH = "search"
    MEASURE = "measure"
    EXTEND = "extend"


class RunState(models.TextChoices):
    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    CANCELLING = "cancelling", "Cancelling"
    FINISHED = "finished", "Finished"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"
    LOST = "lost", "Lost"


ACTIVE = (RunState.RUNNING, RunState.CANCELLING)
TERMINAL = (RunState.FINISHED, RunState.FAILED, RunState.CANCELLED, RunState.LOST)


class Phase(models.TextChoices):
    """Display only."""

    QUEUED = "queued", "Queued"
    PREPARE = "prepare", "Prepare"
    BASELINE = "baseline", "Baseline"
    OPTIMISE = "optimise", "Optimise"
    CONFIRM = "confirm", "Confirm"
    SCORE = "score", "Score"


class Run(TimedModel):
    """One agent's part of an experiment. ``attempt`` is the fencing token; lease fields are set exactly while active."""

    public_id = PublicIdField("run")
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="runs")
    number = models.PositiveIntegerField()
    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="runs")
    agent = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="runs")
    kind = models.CharField(max_length=8, choices=RunKind.choices, default=RunKind.SEARCH)
    extends = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, related_name="extensions")
    state = models.CharField(max_length=12, choices=RunState.choices, default=RunState.QUEUED)
    phase = models.CharField(max_length=10, choices=Phase.choices, default=Phase.QUEUED)
    progress = models.JSONField(default=dict)
    priority = models.SmallIntegerField(default=0)
    min_level = models.CharField(max_length=1, default="C")
    attempt = models.PositiveSmallIntegerField(default=0)
    claim_id = models.CharField(max_length=64, blank=True)
    incarnation = models.CharField(max_length=64, blank=True)
    claimed_at = models.DateTimeField(null=True)
    first_claimed_at = models.DateTimeField(null=True)
    lease_expires_at = models.DateTimeField(null=True)
    cancel_deadline_at = models.DateTimeField(null=True)
    not_before_at = models.DateTimeField(null=True)
    queue_expires_at = models.DateTimeField(null=True)
    woken_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    error_code = models.CharField(max_length=60, blank=True)
    error_detail = models.TextField(blank=True)
    outcome = models.JSONField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["team", "number"], name="run_number_per_team"),
            models.UniqueConstraint(fields=["agent"], condition=Q(state__in=["running", "cancelling"]), name="run_one_active_per_agent"),
            models.CheckConstraint(condition=Q(attempt__lte=3), name="run_attempt_cap"),
            models.CheckConstraint(
                condition=(Q(state__in=["running", "cancelling"]) & Q(lease_expires_at__isnull=False) & ~Q(claim_id=""))
                | (~Q(state__in=["running", "cancelling"]) & Q(lease_expires_at__isnull=True)),
                name="run_lease_exactly_while_active",
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["state", "agent", "priority", "id"], name="run_claim_order")]

    @property
    def label(self) -> str:
        return f"R-{self.number}"

    @property
    def is_terminal(self) -> bool:
        return self.state in TERMINAL


class RunClaim(TimedModel):
    """A claim that was granted: its id is used up, a delayed copy of the request takes nothing."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="claims")
    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="claims")
    attempt = models.PositiveSmallIntegerField()
    claim_id = models.CharField(max_length=64)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["agent", "claim_id"], name="claim_id_once_per_agent")]


class RunEvent(TimedModel):
    """One state change of a run, written in the transaction that made it."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="events")
    event = models.CharField(max_length=40)
    from_state = models.CharField(max_length=12)
    to_state = models.CharField(max_length=12)
    attempt = models.PositiveSmallIntegerField()
    detail = models.JSONField(default=dict)


class Trial(TimedModel):
    """One recipe on one agent; index 0 is the untouched baseline."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="trials")
    index = models.PositiveIntegerField()
    recipe = models.JSONField()
    recipe_key = models.CharField(max_length=64)
    label = models.CharField(max_length=255)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "index"], name="trial_index_per_run"),
            models.UniqueConstraint(fields=["run", "recipe_key"], name="trial_recipe_per_run"),
        ]
        ordering: ClassVar = ["index"]


class TrialStage(TimedModel):
    """An accepted stage report (``optimizer.specs.StageReport`` as JSON in ``report``).

    One per (trial, stage): the report of a later attempt takes the place of an earlier one's, nothing counts twice.
    """

    trial = models.ForeignKey(Trial, on_delete=models.CASCADE, related_name="stages")
    stage = models.CharField(max_length=8)
    attempt = models.PositiveSmallIntegerField()
    body_sha256 = models.CharField(max_length=64)
    status = models.CharField(max_length=8)
    error_code = models.CharField(max_length=60, blank=True)
    report = models.JSONField()
    artifacts = models.ManyToManyField(Artifact, related_name="trial_stages")

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["trial", "stage"], name="stage_once_per_trial")]


class Reception(models.TextChoices):
    """What became of a received result."""

    ACCEPTED = "accepted"
    RELEASED = "released"
    ORPHAN = "orphan"


class RunResult(TimedModel):
    """A received result; orphans (late, fenced off) are kept and never shown."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="results")
    attempt = models.PositiveSmallIntegerField()
    claim_id = models.CharField(max_length=64)
    body_sha256 = models.CharField(max_length=64)
    body = models.JSONField()
    reception = models.CharField(max_length=8, choices=Reception.choices)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run"], condition=Q(reception="accepted"), name="one_accepted_result_per_run"),
            models.UniqueConstraint(fields=["run", "attempt", "claim_id", "body_sha256"], name="result_once_per_body"),
        ]


class LogPiece(TimedModel):
    """A piece of the log of one attempt, ``size_bytes`` of UTF-8 from ``offset_bytes`` on."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="log_pieces")
    attempt = models.PositiveSmallIntegerField()
    offset_bytes = models.PositiveIntegerField()
    size_bytes = models.PositiveIntegerField()
    text = models.TextField()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["run", "attempt", "offset_bytes"], name="log_piece_once")]
        ordering: ClassVar = ["attempt", "offset_bytes"]

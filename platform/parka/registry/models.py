"""What teams upload: content-addressed artifacts, models with versions, datasets, resumable uploads."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from parka.accounts.models import Team, User
from parka.core.models import PublicIdField, TimedModel


class ArtifactRole(models.TextChoices):
    MODEL = "model"
    DATASET = "dataset"
    OPTIMIZED = "optimized"
    SAMPLES = "samples"
    BUNDLE = "bundle"


class Artifact(TimedModel):
    """A team's access to one blob. The blob itself is shared by content; the row is the right to it."""

    public_id = PublicIdField("art")
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="artifacts")
    sha256 = models.CharField(max_length=64, db_index=True)
    size_bytes = models.BigIntegerField()
    role = models.CharField(max_length=12, choices=ArtifactRole.choices)
    file_name = models.CharField(max_length=255, blank=True)
    missing = models.BooleanField(default=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["team", "sha256", "role"], name="artifact_once_per_team"),
            models.CheckConstraint(condition=models.Q(size_bytes__gte=0), name="artifact_size_not_negative"),
        ]


class Intake(models.TextChoices):
    UPLOADED = "uploaded", "Uploaded"
    INSPECTING = "inspecting", "Inspecting"
    READY = "ready", "Ready"
    REJECTED = "rejected", "Rejected"


class Model(TimedModel):
    """A named network."""

    public_id = PublicIdField("model")
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="models")
    slug = models.SlugField(max_length=80)
    name = models.CharField(max_length=120)
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["team", "slug"], name="model_slug_per_team")]

    def __str__(self) -> str:
        return self.name


class ModelVersion(TimedModel):
    """One uploaded file set of a model, ``name@number``. ``card`` is the ModelCard as JSON once READY."""

    public_id = PublicIdField("ver")
    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    artifact = models.ForeignKey(Artifact, on_delete=models.PROTECT, related_name="model_versions")
    state = models.CharField(max_length=12, choices=Intake.choices, default=Intake.UPLOADED)
    code = models.CharField(max_length=60, blank=True)
    message = models.TextField(blank=True)
    card = models.JSONField(null=True)
    uploaded_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["model", "number"], name="version_number_per_model")]

    def __str__(self) -> str:
        return f"{self.model.slug}@{self.number}"


class Dataset(TimedModel):
    """Labelled or calibration samples. ``card``: arrays with dtype and shape, samples, labels, metric, source."""

    public_id = PublicIdField("data")
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="datasets")
    slug = models.SlugField(max_length=80)
    name = models.CharField(max_length=120)
    artifact = models.ForeignKey(Artifact, on_delete=models.PROTECT, related_name="datasets")
    state = models.CharField(max_length=12, choices=Intake.choices, default=Intake.UPLOADED)
    code = models.CharField(max_length=60, blank=True)
    message = models.TextField(blank=True)
    metric = models.CharField(max_length=40, blank=True)
    card = models.JSONField(null=True)
    uploaded_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["team", "slug"], name="dataset_slug_per_team")]

    def __str__(self) -> str:
        return self.name


class UploadState(models.TextChoices):
    OPEN = "open"
    COMPLETE = "complete"
    ABORTED = "aborted"
    EXPIRED = "expired"


class Upload(TimedModel):
    """A resumable (tus) upload. The row's offset is the truth; longer bytes on disk are cut."""

    public_id = PublicIdField("upl")
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="uploads")
    user = models.ForeignKey(User, on_delete=models.CASCADE, null=True, related_name="uploads")
    run_key = models.CharField(max_length=120, blank=True)
    role = models.CharField(max_length=12, choices=ArtifactRole.choices)
    file_name = models.CharField(max_length=255, blank=True)
    size_bytes = models.BigIntegerField()
    offset_bytes = models.BigIntegerField(default=0)
    sha256 = models.CharField(max_length=64, blank=True)
    state = models.CharField(max_length=10, choices=UploadState.choices, default=UploadState.OPEN)
    expires_at = models.DateTimeField()
    artifact = models.ForeignKey(Artifact, on_delete=models.SET_NULL, null=True, related_name="uploads")

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(offset_bytes__gte=0, offset_bytes__lte=models.F("size_bytes")), name="upload_offset_within_size"
            ),
        ]

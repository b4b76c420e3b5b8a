"""Reading the registry; every row is found through the asker's team."""

from __future__ import annotations

from django.db.models import Count, OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Now

from parka.accounts.access import Access, Capability
from parka.accounts.models import Team
from parka.core.rows import found
from parka.registry.models import Artifact, Dataset, Model, ModelVersion, Upload, UploadState
from parka.registry.owners import Owner, owned_by


def models(access: Access, *, archived: bool = False) -> QuerySet[Model]:
    """Models with ``version_count`` and ``latest_number``, newest first."""
    access.require(Capability.READ)
    latest = ModelVersion.objects.filter(model=OuterRef("pk")).order_by("-number").values("number")[:1]
    rows = Model.objects.filter(team=access.team, archived_at__isnull=not archived)
    return rows.annotate(version_count=Count("versions"), latest_number=Subquery(latest)).order_by("-id")


def model(access: Access, slug: str) -> Model:
    """One model by slug or public id, archived or not. Raises NotFound."""
    access.require(Capability.READ)
    rows = Model.objects.filter(team=access.team)
    return found(rows.filter(slug=slug).first() or rows.filter(public_id=slug).first())


def versions(model: Model) -> QuerySet[ModelVersion]:
    """Versions of a model that the asker has already been shown, newest first."""
    return ModelVersion.objects.filter(model=model).select_related("model", "artifact", "uploaded_by").order_by("-number")


def all_versions(access: Access) -> QuerySet[ModelVersion]:
    """Versions of all models of the team, newest first."""
    access.require(Capability.READ)
    return ModelVersion.objects.filter(model__team=access.team).select_related("model", "artifact", "uploaded_by").order_by("-id")


def version(access: Access, slug: str, number: int) -> ModelVersion:
    """``slug@number``. Raises NotFound."""
    return found(versions(model(access, slug)).filter(number=number).first())


def version_by_id(access: Access, public_id: str) -> ModelVersion:
    """One version by public id or by its name ``resnet50@7``. Raises NotFound."""
    slug, _, number = public_id.rpartition("@")
    if slug and number.isdecimal() and len(number) < 10:
        return version(access, slug, int(number))
    return found(all_versions(access).filter(public_id=public_id).first())


def identical_version(version: ModelVersion) -> ModelVersion | None:
    """An earlier version of the same team with the same bytes, or None."""
    same = ModelVersion.objects.filter(artifact_id=version.artifact_id, pk__lt=version.pk)
    return same.select_related("model", "uploaded_by").order_by("pk").first()


def datasets(access: Access) -> QuerySet[Dataset]:
    """Datasets of the team, newest first."""
    access.require(Capability.READ)
    return Dataset.objects.filter(team=access.team).select_related("artifact", "uploaded_by").order_by("-id")


def dataset(access: Access, slug: str) -> Dataset:
    """One dataset by slug or public id. Raises NotFound."""
    rows = datasets(access)
    return found(rows.filter(slug=slug).first() or rows.filter(public_id=slug).first())


def artifacts(access: Access, *, sha256: str = "") -> QuerySet[Artifact]:
    """Artifacts of the team, newest first; with ``sha256`` those of that content: "already have it" for the own team only."""
    access.require(Capability.READ)
    rows = Artifact.objects.filter(team=access.team).order_by("-id")
    return rows.filter(sha256=sha256, missing=False) if sha256 else rows


def artifact(access: Access, public_id: str) -> Artifact:
    """One artifact. Raises NotFound."""
    return found(artifacts(access).filter(public_id=public_id).first())


def uploads(owner: Owner) -> QuerySet[Upload]:
    """Uploads of that very person or run attempt, newest first."""
    return Upload.objects.filter(owned_by(owner)).select_related("artifact").order_by("-id")


def storage_used_bytes(team: Team) -> int:
    """Bytes of the team's artifacts plus what its open uploads have reserved."""
    kept = Artifact.objects.filter(team=team, missing=False).aggregate(total=Sum("size_bytes"))["total"] or 0
    reserved = Upload.objects.filter(team=team, state=UploadState.OPEN).aggregate(total=Sum("size_bytes"))["total"] or 0
    return int(kept) + int(reserved)


def open_uploads(owner: Owner) -> QuerySet[Upload]:
    """Uploads of the owner that still take pieces, newest first."""
    return uploads(owner).filter(state=UploadState.OPEN, expires_at__gt=Now())

"""Writing the registry: versions and datasets from uploaded artifacts. Uploads themselves are in ``registry.uploads``."""

from __future__ import annotations

from django.db import transaction
from django.db.models import Max
from django.db.models.functions import Now

from parka.accounts.access import Access, Capability
from parka.accounts.models import Team
from parka.audit.services import record
from parka.core.errors import FieldError, NotFound, Refused
from parka.core.text import clean_line, free_slug
from parka.registry.models import Artifact, ArtifactRole, Dataset, Intake, Model, ModelVersion
from parka.registry.owners import Fence
from parka.registry.uploads import abort, append, complete, create_upload, purge_expired_uploads, store_file, upload_of

__all__ = [
    "Fence",
    "abort",
    "append",
    "archive_model",
    "complete",
    "create_upload",
    "purge_expired_uploads",
    "register_dataset",
    "register_version",
    "rename_model",
    "restore_model",
    "store_file",
    "upload_of",
]


@transaction.atomic
def register_version(access: Access, *, artifact: Artifact, model: Model | None = None, name: str = "") -> ModelVersion:
    """The next version of a model, or the first of a new one; state UPLOADED until inspected.

    ``selectors.identical_version`` tells whether the same bytes were there before. Raises Refused ``upload.role``
    ``model.name`` ``model.archived``.
    """
    access.require(Capability.UPLOAD)
    _check_artifact(access, artifact, ArtifactRole.MODEL)
    target = _own_model(access, model) if model else _new_model(access, name or _stem(artifact) or "model")
    version = ModelVersion.objects.create(model=target, number=_next_version(target), artifact=artifact, uploaded_by=access.user)
    record("version.uploaded", **access.trail, target=f"{target.slug}@{version.number}", after={"sha256": artifact.sha256})
    return version


@transaction.atomic
def register_dataset(access: Access, *, artifact: Artifact, name: str = "", metric: str = "") -> Dataset:
    """A dataset from an uploaded ``.npz``; state UPLOADED until inspected."""
    access.require(Capability.UPLOAD)
    _check_artifact(access, artifact, ArtifactRole.DATASET)
    title = _named(name or _stem(artifact) or "dataset", code="dataset.name")
    Team.objects.select_for_update().get(pk=access.team.pk)
    slug = free_slug(Dataset.objects.filter(team=access.team), text=title, fallback="dataset", limit=70)
    dataset = Dataset.objects.create(
        team=access.team, slug=slug, name=title, artifact=artifact, metric=clean_line(metric, limit=40), uploaded_by=access.user
    )
    record("dataset.uploaded", **access.trail, target=slug, after={"sha256": artifact.sha256})
    return dataset


@transaction.atomic
def rename_model(access: Access, *, model: Model, name: str) -> Model:
    """Change the shown name; the slug stays, so that links keep working."""
    access.require(Capability.UPLOAD)
    current = Model.objects.get(pk=model.pk, team=access.team)
    before, current.name = current.name, _named(name)
    current.save(update_fields=["name"])
    record("model.renamed", **access.trail, target=current.slug, before={"name": before}, after={"name": current.name})
    return current


@transaction.atomic
def archive_model(access: Access, *, model: Model) -> None:
    """Take a model out of the lists; its runs and links stay."""
    access.require(Capability.UPLOAD)
    if Model.objects.filter(pk=model.pk, team=access.team, archived_at=None).update(archived_at=Now()):
        record("model.archived", **access.trail, target=model.slug)


@transaction.atomic
def restore_model(access: Access, *, model: Model) -> None:
    """Undo ``archive_model``."""
    access.require(Capability.UPLOAD)
    if Model.objects.filter(pk=model.pk, team=access.team, archived_at__isnull=False).update(archived_at=None):
        record("model.restored", **access.trail, target=model.slug)


def start_inspection(rows_id: int, *, kind: type[ModelVersion] | type[Dataset]) -> bool:
    """Mark an upload as being inspected; False when it is already settled. A repeated message inspects again, harmlessly."""
    waiting = kind.objects.filter(pk=rows_id, state__in=[Intake.UPLOADED, Intake.INSPECTING])
    return bool(waiting.update(state=Intake.INSPECTING))


def accept(rows_id: int, *, kind: type[ModelVersion] | type[Dataset], card: dict[str, object]) -> bool:
    """READY with its card; only from INSPECTING."""
    return bool(kind.objects.filter(pk=rows_id, state=Intake.INSPECTING).update(state=Intake.READY, card=card, code="", message=""))


def reject(rows_id: int, *, kind: type[ModelVersion] | type[Dataset], code: str, message: str) -> bool:
    """REJECTED with the code and the sentence; only from INSPECTING."""
    settled = {"state": Intake.REJECTED, "code": code[:60], "message": clean_line(message, limit=1000)}
    return bool(kind.objects.filter(pk=rows_id, state=Intake.INSPECTING).update(**settled))


def _check_artifact(access: Access, artifact: Artifact, role: ArtifactRole) -> None:
    if artifact.team_id != access.team.pk:
        raise NotFound
    if artifact.role != role:
        raise Refused("upload.role")


def _own_model(access: Access, model: Model) -> Model:
    if model.team_id != access.team.pk:
        raise NotFound
    if model.archived_at is not None:
        raise Refused("model.archived")
    return model


def _new_model(access: Access, name: str) -> Model:
    title = _named(name)
    Team.objects.select_for_update().get(pk=access.team.pk)
    slug = free_slug(Model.objects.filter(team=access.team), text=title, fallback="model", limit=70)
    return Model.objects.create(team=access.team, slug=slug, name=title)


def _next_version(model: Model) -> int:
    """One above the newest; the model's row is locked, so that two uploads cannot take the same number."""
    Model.objects.select_for_update().get(pk=model.pk)
    return (ModelVersion.objects.filter(model=model).aggregate(newest=Max("number"))["newest"] or 0) + 1


def _stem(artifact: Artifact) -> str:
    return artifact.file_name.rsplit(".", 1)[0]


def _named(name: str, *, code: str = "model.name") -> str:
    title = clean_line(name, limit=120)
    if not any(sign.isalnum() for sign in title):
        raise Refused(code, fields=(FieldError(pointer="/name", code="field.blank", detail="Give it a name."),))
    return title

"""Objects that a body names: only the team's own, else 422 ``field.unknown_object``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from parka.accounts.access import Access
from parka.core.errors import FieldError, Gone, NotFound, Refused
from parka.registry.models import Artifact, ArtifactRole
from parka.registry.uploads import complete

Row = TypeVar("Row")


def referenced(look: Callable[[], Row], *, pointer: str) -> Row:
    """The row that ``look`` finds in the team. Raises Refused ``field.unknown_object`` at ``pointer``."""
    try:
        return look()
    except (NotFound, Gone):
        raise Refused("field.unknown_object", fields=(unknown(pointer),)) from None


def unknown(pointer: str) -> FieldError:
    """The error of a reference to nothing, or to another team's object."""
    return FieldError(pointer=pointer, code="field.unknown_object", detail="There is no such object in your team.")


def uploaded_artifact(access: Access, upload_id: str, role: ArtifactRole) -> Artifact:
    """The artifact of one's own complete upload. Raises Refused ``field.unknown_object`` ``upload.role``, Conflict ``upload.incomplete``."""
    artifact = referenced(lambda: complete(access, upload_id), pointer="/upload")
    if artifact.role != role:
        raise Refused("upload.role", fields=(FieldError(pointer="/upload", code="upload.role", detail=f"Upload it with the role {role}."),))
    return artifact

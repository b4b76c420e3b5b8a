"""Downloads: always an attachment of opaque bytes, never something a browser would open."""

from __future__ import annotations

from django.http import FileResponse, Http404, HttpRequest
from django.views.decorators.http import require_GET

from parka.accounts.access import Access
from parka.core.blobs import SHA256, BlobStore
from parka.dashboard.pages import team_view
from parka.registry import selectors
from parka.registry.models import Artifact

SUFFIXES = {"optimized": ".zip", "samples": ".npy", "bundle": ".zip", "dataset": ".npz", "model": ".onnx"}


@require_GET
@team_view
def download(request: HttpRequest, access: Access, public_id: str) -> FileResponse:
    """The bytes of an artifact of the team."""
    return attachment(selectors.artifact(access, public_id))


@require_GET
@team_view
def samples(request: HttpRequest, access: Access, sha256: str) -> FileResponse:
    """Raw samples by their hash, for the own team only."""
    found = selectors.artifacts(access, sha256=sha256).first() if SHA256.fullmatch(sha256) else None
    if found is None:
        raise Http404
    return attachment(found)


def attachment(artifact: Artifact) -> FileResponse:
    """Octets to save under the artifact's name. Raises NotFound ``artifact.missing``."""
    name = artifact.file_name or f"{artifact.public_id}{SUFFIXES.get(artifact.role, '')}"
    response = FileResponse(BlobStore().open(artifact.sha256), as_attachment=True, filename=name, content_type="application/octet-stream")
    response["X-Content-Type-Options"] = "nosniff"
    return response

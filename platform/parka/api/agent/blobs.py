"""Signed downloads: the address itself is the right to read, for 15 minutes and one attempt."""

from __future__ import annotations

from django.http import FileResponse, HttpRequest, HttpResponseNotAllowed
from django.http.response import HttpResponseBase

from parka.api.agent.endpoint import explain
from parka.core.blobs import BlobStore
from parka.core.errors import Forbidden
from parka.core.signing import BlobGrant, read_grant
from parka.experiments.models import ACTIVE, Run
from parka.fleet.selectors import WORKING


def blob(request: HttpRequest, sha256: str) -> HttpResponseBase:
    """The bytes. 403 ``url.invalid`` for any other address, 404 ``artifact.missing`` when they are gone."""
    try:
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        grant = read_grant("GET", sha256=sha256, query={key: value for key, value in request.GET.items() if isinstance(value, str)})
        check_lease(grant)
        return stream(sha256)
    except Exception as error:
        return explain(error, request)


def check_lease(grant: BlobGrant) -> None:
    """The attempt still runs on an agent that is not revoked. Raises Forbidden ``url.invalid``."""
    rows = Run.objects.filter(public_id=grant.run, attempt=grant.attempt, state__in=ACTIVE)
    if not rows.filter(agent__public_id=grant.agent, agent__state__in=WORKING).exists():
        raise Forbidden("url.invalid")


def stream(sha256: str) -> FileResponse:
    """The blob as an attachment of unknown type."""
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private, no-store"}
    return FileResponse(
        BlobStore().open(sha256), as_attachment=True, filename=sha256, content_type="application/octet-stream", headers=headers
    )

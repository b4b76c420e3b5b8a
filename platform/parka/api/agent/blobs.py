"""Signed downloads: the address itself is the right to read, for 15 minutes and one attempt."""

from __future__ import annotations

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from parka.api.agent.endpoint import explain
from parka.api.downloads import blob_response
from parka.core.errors import Forbidden
from parka.core.signing import BlobGrant, read_grant
from parka.experiments.models import ACTIVE, Run
from parka.fleet.selectors import WORKING


@csrf_exempt
def blob(request: HttpRequest, sha256: str) -> HttpResponseBase:
    """The bytes. 403 ``url.invalid`` for any other address or method, 404 ``artifact.missing`` when they are gone."""
    try:
        grant = read_grant(
            str(request.method), sha256=sha256, query={key: value for key, value in request.GET.items() if isinstance(value, str)}
        )
        check_lease(grant)
        return blob_response(request, sha256=sha256, file_name=sha256)
    except Exception as error:
        return explain(error, request)


def check_lease(grant: BlobGrant) -> None:
    """The attempt still runs on an agent that is not revoked. Raises Forbidden ``url.invalid``."""
    rows = Run.objects.filter(public_id=grant.run, attempt=grant.attempt, state__in=ACTIVE)
    if not rows.filter(agent__public_id=grant.agent, agent__state__in=WORKING).exists():
        raise Forbidden("url.invalid")

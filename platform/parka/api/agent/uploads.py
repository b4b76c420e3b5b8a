"""Files that a run yields, by tus: raw samples and the winning artifact."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from parka.api import tus
from parka.api.agent.endpoint import agent_endpoint, fence_of
from parka.fleet.models import Agent
from parka.registry.models import ArtifactRole
from parka.workflow.reporting import upload_owner
from parka_agent.protocol import BASE_PATH

ROLES = frozenset({ArtifactRole.SAMPLES, ArtifactRole.OPTIMIZED, ArtifactRole.BUNDLE})


@agent_endpoint("POST", "OPTIONS")
def create(request: HttpRequest, agent: Agent, *, run: str, attempt: int) -> HttpResponse:
    """Open an upload for the attempt that holds the lease."""
    if request.method == "OPTIONS":
        return tus.options()
    location = f"{BASE_PATH}runs/{run}/attempts/{attempt}/uploads/{{id}}"
    return tus.create(request, upload_owner(fence_of(request, agent, run, attempt)), location=location, roles=ROLES)


@agent_endpoint("HEAD", "PATCH", "DELETE")
def detail(request: HttpRequest, agent: Agent, *, run: str, attempt: int, upload: str) -> HttpResponse:
    """State, next piece, or the end of an upload."""
    act = {"HEAD": tus.head, "PATCH": tus.patch, "DELETE": tus.terminate}[request.method or "HEAD"]
    return act(request, upload_owner(fence_of(request, agent, run, attempt)), upload)

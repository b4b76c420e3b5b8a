"""Claim and heartbeat."""

from __future__ import annotations

import asyncio
import time

from asgiref.sync import sync_to_async
from django.db import connections
from django.http import HttpRequest, HttpResponse, JsonResponse

from parka.api.agent.endpoint import agent_endpoint, read_message, reply, waiting_endpoint
from parka.fleet.models import Agent
from parka.workflow.leasing import grant_lease, hear_heartbeat
from parka_agent.protocol import Claim, Heartbeat, Lease

LOOK_EVERY_S = 1.0


@waiting_endpoint
async def claim(request: HttpRequest, agent: Agent) -> HttpResponse:
    """200 with a lease, or 204; waits up to ``wait_s`` for one, holding no database connection meanwhile."""
    message = await sync_to_async(read_message)(request, Claim)
    until = time.monotonic() + message.wait_s
    while (lease := await sync_to_async(look)(agent, message, until=until)) is None:
        if time.monotonic() + LOOK_EVERY_S > until:
            return HttpResponse(status=204)
        await asyncio.sleep(LOOK_EVERY_S)
    return reply(lease)


@agent_endpoint("POST", vital=True)
def beat(request: HttpRequest, agent: Agent) -> JsonResponse:
    """Prolong leases; the answer tells the agent how to go on."""
    return reply(hear_heartbeat(agent, read_message(request, Heartbeat)))


def look(agent: Agent, message: Claim, *, until: float) -> Lease | None:
    """One try; gives the database connection back before waiting for the next."""
    lease = grant_lease(agent, message)
    if lease is None and time.monotonic() + LOOK_EVERY_S <= until:
        connections.close_all()
    return lease

"""Registration, start of a process, rotation of the token."""

from __future__ import annotations

from datetime import datetime

from django.http import HttpRequest, JsonResponse

from optimizer.codec import from_jsonable
from optimizer.specs import HardwareProfile
from parka.api.agent.endpoint import agent_endpoint, public_endpoint, read_message, reply
from parka.api.throttles import count_guess
from parka.core.addresses import client_address
from parka.core.errors import Unauthorized
from parka.fleet import services
from parka.fleet.models import Agent
from parka.fleet.selectors import newest_token, token_expires_in_s
from parka.fleet.services import Facts
from parka.workflow.leasing import start_process
from parka.workflow.wakeup import broker_of
from parka_agent.protocol import Broker, Registered, Registration, Rotated, Start, Started, Timings


@public_endpoint
def register(request: HttpRequest) -> JsonResponse:
    """Exchange a registration token for the agent's own."""
    message = read_message(request, Registration)
    try:
        agent, token = services.register(message.token, facts=facts_of(message), address=client_address(request))
    except Unauthorized:
        count_guess(client_address(request))
        raise
    return reply(
        Registered(
            agent_id=agent.public_id,
            agent_token=token,
            expires_at=stamp(newest_token(agent).expires_at),
            form=agent.transport,
            timings=Timings(),
            broker=broker_for(agent),
        ),
        status=201,
    )


@agent_endpoint("POST", vital=True)
def start(request: HttpRequest, agent: Agent) -> JsonResponse:
    """A process of the agent begins; it learns where to listen."""
    message = read_message(request, Start)
    start_process(agent, incarnation=message.incarnation, facts=facts_of(message))
    answer = Started(
        agent_id=agent.public_id,
        form=agent.transport,
        timings=Timings(),
        token_expires_in_s=token_expires_in_s(agent),
        broker=broker_for(agent),
    )
    return reply(answer)


@agent_endpoint("POST", vital=True)
def rotate(request: HttpRequest, agent: Agent) -> JsonResponse:
    """A new token; the old one works until the new one was used for 60 s."""
    token = services.rotate(agent)
    return reply(Rotated(agent_token=token, expires_at=stamp(newest_token(agent).expires_at)))


def facts_of(message: Registration | Start) -> Facts:
    """What the agent claims. Raises InputError ``spec.invalid``."""
    return Facts(
        profile=from_jsonable(HardwareProfile, message.facts),
        agent_version=message.agent_version,
        sandbox_level=message.sandbox.level,
        sandbox_checks=message.sandbox.checks,
    )


def broker_for(agent: Agent) -> Broker | None:
    """Only hosts of the operator get the broker's address."""
    return broker_of(agent) if agent.transport == "celery" else None


def stamp(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")

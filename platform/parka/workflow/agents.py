"""What touches an agent and its runs in one transaction."""

from __future__ import annotations

from django.db import transaction

from parka.accounts.access import Access
from parka.experiments.lifecycle import end_leases, sweep
from parka.fleet import services
from parka.fleet.models import Agent
from parka.workflow.progress import announce


@transaction.atomic
def revoke_agent(access: Access, agent: Agent) -> None:
    """Retire an agent for good: its tokens stop working, its leases end, what waits for it is lost.

    Raises Forbidden; Conflict ``agent.revoked``.
    """
    services.revoke(access, agent)
    ended = end_leases(agent)
    announce([*ended, *sweep(agent=agent)])

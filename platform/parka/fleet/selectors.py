"""Reading the fleet: agents of a team, the agent behind a token."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import BooleanField, Case, Q, QuerySet, Value, When
from django.db.models.functions import Now

from optimizer.codec import from_jsonable
from optimizer.specs import HardwareProfile as Profile
from parka.accounts.access import Access, Capability
from parka.core.errors import NotFound, Unauthorized
from parka.core.tokens import TokenKind, token_digest
from parka.fleet.models import Agent, AgentState, AgentToken

OFFLINE_AFTER = timedelta(seconds=90)
SEEN_LATELY = Q(last_seen_at__gte=Now() - OFFLINE_AFTER)
WORKING = (AgentState.ACTIVE, AgentState.DRAINING)


def agents(access: Access) -> QuerySet[Agent]:
    """Agents of the team that are not revoked, by name; each carries ``online`` by the database clock."""
    access.require(Capability.READ)
    online = Case(When(SEEN_LATELY, then=Value(value=True)), default=Value(value=False), output_field=BooleanField())
    rows = Agent.objects.filter(team=access.team).exclude(state=AgentState.REVOKED)
    return rows.select_related("profile").annotate(online=online).order_by("name", "id")


def agent(access: Access, key: str) -> Agent:
    """One agent by slug or public id, revoked ones too. Raises NotFound."""
    access.require(Capability.READ)
    row = Agent.objects.filter(team=access.team).filter(Q(slug=key) | Q(public_id=key)).select_related("profile").first()
    if row is None:
        raise NotFound
    return row


def agent_by_token(plain: str) -> Agent:
    """The agent whose valid token this is. Raises Unauthorized ``agent.token_invalid``; see ``services.authenticate``."""
    return valid_token(plain).agent


def valid_token(plain: str) -> AgentToken:
    """The unexpired, unretired token of a working agent. Raises Unauthorized ``agent.token_invalid``."""
    if not plain.startswith(f"{TokenKind.AGENT}_"):
        raise Unauthorized("agent.token_invalid")
    current = Q(expires_at__gt=Now()) & (Q(retire_at=None) | Q(retire_at__gt=Now()))
    row = AgentToken.objects.filter(current, digest=token_digest(plain), agent__state__in=WORKING).select_related("agent__team").first()
    if row is None:
        raise Unauthorized("agent.token_invalid")
    return row


def is_online(agent: Agent) -> bool:
    """Whether the agent was heard of within the last 90 s, by the database clock."""
    return Agent.objects.filter(SEEN_LATELY, pk=agent.pk, state__in=WORKING).exists()


def hardware(agent: Agent) -> Profile | None:
    """The agent's probed hardware; None before it has registered."""
    return from_jsonable(Profile, agent.profile.profile) if agent.profile else None


def newest_token(agent: Agent) -> AgentToken:
    """The token handed out last. Raises NotFound when the agent has none."""
    row = AgentToken.objects.filter(agent=agent).order_by("-id").first()
    if row is None:
        raise NotFound
    return row


def token_expires_in_s(agent: Agent) -> float:
    """Seconds until the newest token ends, by the database clock."""
    row = AgentToken.objects.filter(pk=newest_token(agent).pk).annotate(now=Now()).values("now", "expires_at").get()
    return float((row["expires_at"] - row["now"]).total_seconds())

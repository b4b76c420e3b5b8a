"""Writing the fleet: agents, their tokens, process starts and hardware. Time is the database's."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from django.db import transaction
from django.db.models.functions import Now

from optimizer.codec import to_jsonable
from optimizer.sandbox.job import Level
from optimizer.specs import HardwareProfile as Profile
from parka.accounts.access import Access, Capability
from parka.audit.services import record
from parka.core.errors import Conflict, Refused, TooLarge, Unauthorized
from parka.core.text import clean_line, free_slug
from parka.core.tokens import TokenKind, new_token, token_digest
from parka.core.transitions import compare_and_set, own_columns
from parka.fleet.models import Agent, AgentIncarnation, AgentState, AgentToken, HardwareProfile, RegistrationToken
from parka.fleet.selectors import WORKING, valid_token

REGISTRATION_LIFE = timedelta(hours=1)
TOKEN_LIFE = timedelta(days=30)
RETIRE_AFTER = timedelta(seconds=60)
MOST_AGENTS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What an agent claims about its host and itself."""

    profile: Profile
    agent_version: str
    sandbox_level: Level
    sandbox_checks: dict[str, bool] = field(default_factory=dict)


@transaction.atomic
def create_agent(access: Access, *, name: str) -> tuple[Agent, str]:
    """A pending agent and its registration token, which is shown once and lives one hour.

    Raises Forbidden; Refused ``agent.name``; TooLarge ``quota.agents``.
    """
    access.require(Capability.MANAGE_AGENTS)
    label = _name(name)
    rows = Agent.objects.filter(team=access.team)
    if rows.exclude(state=AgentState.REVOKED).count() >= MOST_AGENTS:
        raise TooLarge("quota.agents")
    agent = Agent.objects.create(
        team=access.team, name=label, slug=free_slug(rows, text=label, fallback="agent", limit=76), created_by=access.user
    )
    record("agent.created", target=agent.public_id, after={"name": label}, **access.trail)
    return agent, _registration_token(agent, access)


@transaction.atomic
def new_registration(access: Access, agent: Agent) -> str:
    """Another one-time registration token for an agent that lost its credentials or never used them.

    Raises Conflict ``agent.revoked``.
    """
    access.require(Capability.MANAGE_AGENTS)
    if agent.state == AgentState.REVOKED:
        raise Conflict("agent.revoked")
    agent.registrations.filter(used_at=None).update(expires_at=Now())
    record("agent.registration_created", target=agent.public_id, **access.trail)
    return _registration_token(agent, access)


@transaction.atomic
def register(token: str, *, facts: Facts, address: str = "") -> tuple[Agent, str]:
    """Consume a registration token and hand out the agent's own.

    Earlier tokens of the agent end at once: one host speaks for one agent.
    Raises Unauthorized ``agent.registration_invalid``; Conflict ``agent.registration_used``.
    """
    agent = _consume(token).agent
    agent.tokens.all().delete()
    Agent.objects.filter(pk=agent.pk, state__in=(AgentState.PENDING, *WORKING)).update(
        state=AgentState.ACTIVE, last_seen_at=Now(), incarnation=""
    )
    agent.incarnations.all().delete()
    store_facts(agent, facts)
    record(
        "agent.registered",
        actor=f"agent {agent.public_id}",
        team=agent.team.public_id,
        target=agent.public_id,
        address=address,
        after={"level": facts.sandbox_level, "cpu": facts.profile.cpu_model},
    )
    agent.refresh_from_db()
    return agent, _agent_token(agent)


def store_facts(agent: Agent, facts: Facts) -> None:
    """Keep the latest probe of the host; equal fingerprints share one profile row."""
    profile, _ = HardwareProfile.objects.update_or_create(
        fingerprint=facts.profile.fingerprint, defaults={"profile": to_jsonable(facts.profile)}
    )
    Agent.objects.filter(pk=agent.pk).update(
        profile=profile,
        runtimes=dict(facts.profile.runtimes),
        agent_version=clean_line(facts.agent_version, limit=40),
        sandbox_level=facts.sandbox_level,
        sandbox_checks=facts.sandbox_checks,
    )


@transaction.atomic
def authenticate(plain: str) -> Agent:
    """The agent of a token; the first use of a new token starts the last 60 s of the older ones.

    Raises Unauthorized ``agent.token_invalid``.
    """
    token = valid_token(plain)
    if token.first_used_at is None and AgentToken.objects.filter(pk=token.pk, first_used_at=None).update(first_used_at=Now()):
        AgentToken.objects.filter(agent=token.agent, retire_at=None, pk__lt=token.pk).update(retire_at=Now() + RETIRE_AFTER)
    return token.agent


@transaction.atomic
def rotate(agent: Agent) -> str:
    """A new token for the agent; the old one goes on working until the new one is first used plus 60 s."""
    record("agent.token_rotated", actor=f"agent {agent.public_id}", team=agent.team.public_id, target=agent.public_id)
    return _agent_token(agent)


def touch(agent: Agent) -> None:
    """Note that the agent was heard of now."""
    Agent.objects.filter(pk=agent.pk).update(last_seen_at=Now())


@transaction.atomic
def hear(agent: Agent, incarnation: str) -> bool:
    """Note which process of the agent speaks; True when it is a new one, whose predecessors' leases must end.

    The first statement locks the agent's row, so that two requests of one new process agree.
    Raises Conflict ``agent.superseded`` for a process that a newer one has replaced.
    """
    touch(agent)
    if Agent.objects.filter(pk=agent.pk, incarnation=incarnation).exists():
        return False
    if AgentIncarnation.objects.filter(agent=agent, incarnation=incarnation).exists():
        raise Conflict("agent.superseded")
    AgentIncarnation.objects.create(agent=agent, incarnation=incarnation)
    Agent.objects.filter(pk=agent.pk).update(incarnation=incarnation)
    return True


@transaction.atomic
def drain(access: Access, agent: Agent) -> None:
    """Let the agent finish its run and take no other. Raises Conflict ``agent.not_active``."""
    _change(access, agent, source=AgentState.ACTIVE, target=AgentState.DRAINING)


@transaction.atomic
def resume(access: Access, agent: Agent) -> None:
    """Let a draining agent take work again. Raises Conflict ``agent.not_active``."""
    _change(access, agent, source=AgentState.DRAINING, target=AgentState.ACTIVE)


@transaction.atomic
def rename(access: Access, agent: Agent, *, name: str) -> None:
    """Change the display name; the slug stays. Raises Refused ``agent.name``."""
    access.require(Capability.MANAGE_AGENTS)
    label = _name(name)
    Agent.objects.filter(pk=agent.pk).update(name=label)
    record("agent.renamed", target=agent.public_id, before={"name": agent.name}, after={"name": label}, **access.trail)


def revoke(access: Access, agent: Agent) -> None:
    """Delete the agent's tokens for good; ``workflow.agents.revoke_agent`` also ends its leases, in the same transaction.

    Raises Conflict ``agent.revoked``.
    """
    access.require(Capability.MANAGE_AGENTS)
    rows = Agent.objects.filter(pk=agent.pk, team=access.team).exclude(state=AgentState.REVOKED)
    compare_and_set(rows, code="agent.revoked", message="", state=AgentState.REVOKED)
    agent.tokens.all().delete()
    agent.registrations.filter(used_at=None).update(expires_at=Now())
    record("agent.revoked", target=agent.public_id, **access.trail)


def _change(access: Access, agent: Agent, *, source: AgentState, target: AgentState) -> None:
    access.require(Capability.MANAGE_AGENTS)
    compare_and_set(Agent.objects.filter(pk=agent.pk, team=access.team, state=source), code="agent.not_active", message="", state=target)
    record(f"agent.{target}", target=agent.public_id, **access.trail)


def _name(name: str) -> str:
    label = clean_line(name, limit=120)
    if not any(sign.isalnum() for sign in label):
        raise Refused("agent.name")
    return label


def _consume(token: str) -> RegistrationToken:
    """One conditional UPDATE decides who registers.

    Its conditions name columns of this table alone: a joined one would move them all into a subquery, which PostgreSQL does not
    evaluate again for those who waited for the row.
    """
    rows = RegistrationToken.objects.filter(digest=token_digest(token))
    is_ours = own_columns(rows.filter(expires_at__gt=Now(), used_at=None)).update(used_at=Now())
    found = rows.select_related("agent__team").exclude(agent__state=AgentState.REVOKED).first()
    if found is None or (not is_ours and found.used_at is None):
        raise Unauthorized("agent.registration_invalid")
    if not is_ours:
        raise Conflict("agent.registration_used")
    return found


def _registration_token(agent: Agent, access: Access) -> str:
    plain = new_token(TokenKind.REGISTRATION)
    RegistrationToken.objects.create(agent=agent, digest=token_digest(plain), expires_at=Now() + REGISTRATION_LIFE, created_by=access.user)
    return plain


def _agent_token(agent: Agent) -> str:
    plain = new_token(TokenKind.AGENT)
    AgentToken.objects.create(agent=agent, digest=token_digest(plain), expires_at=Now() + TOKEN_LIFE)
    return plain

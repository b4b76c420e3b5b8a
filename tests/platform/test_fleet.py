"""Agents: one-time registration, rotation that locks nobody out, process starts, drain and revoke."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from optimizer.sandbox.job import Level
from parka.accounts.access import Access
from parka.audit.models import SecurityEvent
from parka.core.errors import Conflict, Forbidden, NotFound, PlatformError, Refused, Unauthorized
from parka.experiments.models import RunState
from parka.fleet import selectors, services
from parka.fleet.models import Agent, AgentState, AgentToken, RegistrationToken
from parka.workflow.agents import revoke_agent
from tests.platform.runs import age, claim, facts, new_agent, new_agent_with_token, new_run

FIRST, SECOND = "process-one-aaaaaaaa", "process-two-bbbbbbbb"


def test_registration_gives_the_agent_its_hardware_its_level_and_a_token(alice_access: Access) -> None:
    agent, token = new_agent_with_token(alice_access)
    assert (agent.state, agent.sandbox_level) == (AgentState.ACTIVE, Level.B)
    profile = selectors.hardware(agent)
    assert profile is not None
    assert profile.cpu_model == "Test CPU"
    assert services.authenticate(token) == agent
    assert not AgentToken.objects.filter(digest__contains=token).exists()


def test_a_registration_token_works_once(alice_access: Access) -> None:
    _, token = services.create_agent(alice_access, name="Bench")
    services.register(token, facts=facts())
    with pytest.raises(Conflict) as refusal:
        services.register(token, facts=facts())
    assert refusal.value.code == "agent.registration_used"


@pytest.mark.django_db(transaction=True)
def test_of_twenty_simultaneous_registrations_one_succeeds(alice_access: Access) -> None:
    _, token = services.create_agent(alice_access, name="Bench")

    def attempt(_: int) -> str:
        try:
            services.register(token, facts=facts())
        except PlatformError as refusal:
            return refusal.code
        finally:
            connection.close()
        return "registered"

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(attempt, range(20)))
    assert sorted(answers) == ["agent.registration_used"] * 19 + ["registered"]
    assert AgentToken.objects.count() == 1


def test_an_expired_an_unknown_and_a_revoked_registration_are_invalid(alice_access: Access) -> None:
    agent, expired = services.create_agent(alice_access, name="Late")
    age(3601)
    revoked_agent, revoked = services.create_agent(alice_access, name="Gone")
    revoke_agent(alice_access, revoked_agent)
    for token in (expired, revoked, "pkr_unknown-unknown-unknown"):
        with pytest.raises(Unauthorized) as refusal:
            services.register(token, facts=facts())
        assert refusal.value.code == "agent.registration_invalid"
    agent.refresh_from_db()
    assert agent.state == AgentState.PENDING


def test_a_new_registration_token_ends_the_earlier_one(alice_access: Access) -> None:
    agent, first = services.create_agent(alice_access, name="Bench")
    second = services.new_registration(alice_access, agent)
    with pytest.raises(Unauthorized):
        services.register(first, facts=facts())
    assert services.register(second, facts=facts())[0] == agent


def test_registering_again_ends_the_tokens_of_the_earlier_host(alice_access: Access) -> None:
    agent, old = new_agent_with_token(alice_access)
    services.register(services.new_registration(alice_access, agent), facts=facts())
    with pytest.raises(Unauthorized):
        services.authenticate(old)


def test_the_old_token_works_until_sixty_seconds_after_the_first_use_of_the_new_one(alice_access: Access) -> None:
    agent, old = new_agent_with_token(alice_access)
    services.authenticate(old)
    lost = services.rotate(agent)
    new = services.rotate(agent)
    age(3600)
    services.authenticate(old)
    services.authenticate(new)
    age(59)
    services.authenticate(old)
    age(2)
    for token in (old, lost):
        with pytest.raises(Unauthorized):
            services.authenticate(token)
    services.authenticate(new)


def test_a_token_ends_after_thirty_days(alice_access: Access) -> None:
    _, token = new_agent_with_token(alice_access)
    age(30 * 24 * 3600 + 1)
    with pytest.raises(Unauthorized):
        services.authenticate(token)


def test_a_registration_token_is_no_agent_token(alice_access: Access) -> None:
    _, token = services.create_agent(alice_access, name="Bench")
    with pytest.raises(Unauthorized):
        services.authenticate(token)


def test_a_newer_process_supersedes_the_older_one_for_good(alice_access: Access) -> None:
    agent = new_agent(alice_access)
    assert services.hear(agent, FIRST) is True
    assert services.hear(agent, FIRST) is False
    assert services.hear(agent, SECOND) is True
    with pytest.raises(Conflict) as refusal:
        services.hear(agent, FIRST)
    assert refusal.value.code == "agent.superseded"


def test_an_agent_is_online_for_ninety_seconds_after_it_was_heard(alice_access: Access) -> None:
    agent = new_agent(alice_access)
    assert selectors.is_online(agent)
    age(91)
    assert not selectors.is_online(agent)
    assert [row.online for row in selectors.agents(alice_access)] == [False]  # type: ignore[attr-defined]
    services.touch(agent)
    assert selectors.is_online(agent)


def test_drain_and_resume_go_back_and_forth_and_nowhere_else(alice_access: Access) -> None:
    agent = new_agent(alice_access)
    services.drain(alice_access, agent)
    with pytest.raises(Conflict):
        services.drain(alice_access, agent)
    services.resume(alice_access, agent)
    agent.refresh_from_db()
    assert agent.state == AgentState.ACTIVE


def test_revoking_ends_token_lease_and_waiting_runs_in_one_go(alice_access: Access) -> None:
    agent, token = new_agent_with_token(alice_access)
    run, waiting = new_run(alice_access, agent), new_run(alice_access, agent)
    claim(agent)
    revoke_agent(alice_access, agent)
    with pytest.raises(Unauthorized):
        services.authenticate(token)
    for row in (run, waiting):
        row.refresh_from_db()
        assert row.state == RunState.LOST
    assert SecurityEvent.objects.filter(action="agent.revoked", target=agent.public_id).exists()
    with pytest.raises(Conflict):
        revoke_agent(alice_access, agent)


@pytest.mark.parametrize("name", ["", "   ", "---", "\u202e\u202e"])
def test_a_name_without_a_letter_or_digit_is_refused(alice_access: Access, name: str) -> None:
    with pytest.raises(Refused):
        services.create_agent(alice_access, name=name)


def test_only_admins_and_owners_manage_agents(ada_access: Access, bob_access: Access, vic_access: Access) -> None:
    agent = new_agent(ada_access)
    for access in (bob_access, vic_access):
        for act in (
            lambda a: services.create_agent(a, name="x1"),
            lambda a: services.drain(a, agent),
            lambda a: services.rename(a, agent, name="y1"),
            lambda a: services.new_registration(a, agent),
            lambda a: revoke_agent(a, agent),
        ):
            with pytest.raises(Forbidden):
                act(access)
    assert RegistrationToken.objects.count() == 1


def test_a_stranger_sees_no_agent(alice_access: Access, charlie_access: Access) -> None:
    agent = new_agent(alice_access)
    assert list(selectors.agents(charlie_access)) == []
    for key in (agent.slug, agent.public_id):
        with pytest.raises(NotFound):
            selectors.agent(charlie_access, key)
    with pytest.raises(Conflict):
        services.drain(charlie_access, agent)
    assert Agent.objects.get(pk=agent.pk).state == AgentState.ACTIVE

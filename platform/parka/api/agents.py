"""``/agents``: registered hardware."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from optimizer.specs import HardwareProfile
from parka.accounts.access import Access
from parka.api.authentication import check_recent_sign_in
from parka.api.fields import SpecField
from parka.api.idempotency import once
from parka.api.links import api_link, page_link
from parka.api.resource import CountSerializer, Resource, total
from parka.fleet import selectors, services
from parka.fleet.models import Agent, AgentState
from parka.workflow.agents import revoke_agent


class AgentSerializer(serializers.Serializer):
    """A registered machine. Its facts are its own claims."""

    id = serializers.CharField(source="public_id")
    slug = serializers.CharField()
    name = serializers.CharField()
    state = serializers.ChoiceField(choices=AgentState.choices)
    online = serializers.BooleanField(help_text="Heard of within the last 90 s.")
    transport = serializers.CharField()
    agent_version = serializers.CharField(allow_blank=True)
    sandbox_level = serializers.CharField(allow_blank=True)
    hardware = SpecField(HardwareProfile, source="profile.profile", default=None, allow_null=True)
    fingerprint = serializers.CharField(source="profile.fingerprint", default=None, allow_null=True)
    last_seen_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()


class AgentDetailSerializer(AgentSerializer):
    """An agent with its sandbox self-test and links."""

    sandbox_checks = serializers.DictField()
    links = serializers.DictField(child=serializers.CharField())


class RegistrationSerializer(serializers.Serializer):
    """A one-time registration token, shown once, left out of idempotent replays."""

    agent = AgentDetailSerializer()
    registration_token = serializers.CharField(required=False)


class NewAgentSerializer(serializers.Serializer):
    """The name of a new agent."""

    name = serializers.CharField(max_length=120)


class AgentChangeSerializer(serializers.Serializer):
    """What may change of an agent."""

    name = serializers.CharField(max_length=120, required=False)
    draining = serializers.BooleanField(required=False)


class Agents(Resource):
    """Agents of the team."""

    @extend_schema(operation_id="list_agents", tags=["agents"], responses=AgentSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Agents that are not revoked."""
        return self.page(selectors.agents(self.access), lambda row: AgentSerializer(row).data)

    @extend_schema(operation_id="create_agent", tags=["agents"], request=NewAgentSerializer, responses={201: RegistrationSerializer})
    def post(self, request: Request) -> Response:
        """A new agent and the token with which its machine registers within one hour."""
        check_recent_sign_in(request)
        return once(request, self._create, secrets=("registration_token",))

    def _create(self) -> Response:
        agent, token = services.create_agent(self.access, name=self.read(NewAgentSerializer)["name"])
        body = {"agent": shown(self.access, agent.public_id), "registration_token": token}
        return Response(body, status=201, headers={"Location": api_link("agents", agent.public_id)})


class AgentCount(Resource):
    """How many agents there are."""

    @extend_schema(operation_id="count_agents", tags=["agents"], responses=CountSerializer)
    def get(self, request: Request) -> Response:
        """Total of the list."""
        return total(selectors.agents(self.access))


class AgentDetail(Resource):
    """One agent, by slug or id."""

    @extend_schema(operation_id="get_agent", tags=["agents"], responses=AgentDetailSerializer)
    def get(self, request: Request, key: str) -> Response:
        """An agent with its hardware as probed."""
        return Response(shown(self.access, key))

    @extend_schema(operation_id="change_agent", tags=["agents"], request=AgentChangeSerializer, responses=AgentDetailSerializer)
    def patch(self, request: Request, key: str) -> Response:
        """Rename an agent, drain it (it finishes its run and takes no other) or let it take work again."""
        check_recent_sign_in(request)
        agent, body = selectors.agent(self.access, key), self.read(AgentChangeSerializer)
        if "name" in body:
            services.rename(self.access, agent, name=body["name"])
        if "draining" in body:
            (services.drain if body["draining"] else services.resume)(self.access, agent)
        return Response(shown(self.access, agent.public_id))

    @extend_schema(operation_id="revoke_agent", tags=["agents"], responses={204: None})
    def delete(self, request: Request, key: str) -> Response:
        """Retire an agent for good: its token stops working, its leases end."""
        check_recent_sign_in(request)
        revoke_agent(self.access, selectors.agent(self.access, key))
        return Response(status=204)


class AgentRegistration(Resource):
    """Another registration token."""

    @extend_schema(operation_id="create_registration", tags=["agents"], request=None, responses={201: RegistrationSerializer})
    def post(self, request: Request, key: str) -> Response:
        """A fresh one-time token for an agent whose machine must register again."""
        check_recent_sign_in(request)
        agent = selectors.agent(self.access, key)
        return once(request, lambda: self._create(agent), secrets=("registration_token",))

    def _create(self, agent: Agent) -> Response:
        token = services.new_registration(self.access, agent)
        return Response({"agent": shown(self.access, agent.public_id), "registration_token": token}, status=201)


def shown(access: Access, key: str) -> dict[str, Any]:
    """One agent with its self-test and links."""
    agent = selectors.agent(access, key)
    links = {"self": api_link("agents", agent.public_id), "page": page_link(access.team, "agents", agent.slug)}
    body = AgentSerializer(_with_online(agent)).data
    return {**body, "sandbox_checks": agent.sandbox_checks, "links": links}


def _with_online(agent: Agent) -> Agent:
    agent.online = selectors.is_online(agent)  # type: ignore[attr-defined]
    return agent

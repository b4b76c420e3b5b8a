"""``/me`` and ``/teams``: who calls, and which teams they belong to."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from parka.accounts import selectors, services
from parka.accounts.access import Access, Capability, access_for
from parka.accounts.models import Membership, Role, Scope
from parka.api.idempotency import once
from parka.api.links import api_link
from parka.api.resource import Resource
from parka.core.addresses import client_address
from parka.core.errors import Forbidden


class TeamSerializer(serializers.Serializer):
    """A team and the caller's role in it."""

    id = serializers.CharField(source="team.public_id")
    slug = serializers.CharField(source="team.slug")
    name = serializers.CharField(source="team.name")
    role = serializers.ChoiceField(choices=Role.choices)
    margin = serializers.FloatField(source="team.margin", help_text="Differences within this share count as equivalent.")
    created_at = serializers.DateTimeField(source="team.created_at")


class NewTeamSerializer(serializers.Serializer):
    """What a new team needs."""

    name = serializers.CharField(max_length=120)


class MeSerializer(serializers.Serializer):
    """The caller. ``team`` is null for a browser session of a person in several teams that named none."""

    id = serializers.CharField()
    email = serializers.EmailField()
    name = serializers.CharField()
    team = TeamSerializer(allow_null=True)
    scope = serializers.ChoiceField(choices=Scope.choices, allow_null=True)
    capabilities = serializers.ListField(child=serializers.ChoiceField(choices=[one.value for one in Capability]))


class Me(Resource):
    """The caller."""

    @extend_schema(operation_id="get_me", tags=["account"], responses=MeSerializer)
    def get(self, request: Request) -> Response:
        """Who this token or session is, and what it may do."""
        access = self._access_if_one()
        body: dict[str, Any] = {
            "id": self.caller.public_id,
            "email": self.caller.email,
            "name": self.caller.display_name,
            "team": access and {"team": access.team, "role": access.role},
            "scope": access and access.scope,
            "capabilities": [one.value for one in Capability if access and access.may(one)],
        }
        return Response(MeSerializer(body).data)

    def _access_if_one(self) -> Access | None:
        only = list(selectors.memberships(self.caller)[:2])
        if isinstance(self.request.auth, Access) or len(only) == 1 or "Parka-Team" in self.request.headers:
            return self.access
        return None


class Teams(Resource):
    """Teams of the caller."""

    @extend_schema(operation_id="list_teams", tags=["account"], responses=TeamSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Teams of the caller; a token sees its own one."""
        return Response({"items": TeamSerializer(self._memberships(), many=True).data, "next": None, "previous": None})

    @extend_schema(operation_id="create_team", tags=["account"], request=NewTeamSerializer, responses={201: TeamSerializer})
    def post(self, request: Request) -> Response:
        """A new team with the caller as its owner; browser sessions only."""
        return once(request, self._create)

    def _create(self) -> Response:
        if isinstance(self.request.auth, Access):
            raise Forbidden("token.scope", "A token is bound to one team and cannot make another; sign in to the dashboard.")
        name = self.read(NewTeamSerializer)["name"]
        team = services.create_team(self.caller, name=name, address=client_address(self.request._request))
        body = TeamSerializer({"team": team, "role": Role.OWNER}).data
        return Response(body, status=201, headers={"Location": api_link("teams", team.slug)})

    def _memberships(self) -> list[Membership]:
        rows = selectors.memberships(self.caller)
        return list(rows.filter(team=self.request.auth.team) if isinstance(self.request.auth, Access) else rows)


class TeamDetail(Resource):
    """One team."""

    @extend_schema(operation_id="get_team", tags=["account"], responses=TeamSerializer)
    def get(self, request: Request, slug: str) -> Response:
        """A team the caller belongs to; a token sees its own one only."""
        access = access_for(self.caller, slug if not isinstance(request.auth, Access) or request.auth.team.slug == slug else "")
        return Response(TeamSerializer({"team": access.team, "role": access.role}).data)

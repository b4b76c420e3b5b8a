"""``/members``: people of the team and their roles."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from parka.accounts import selectors, services
from parka.accounts.models import Membership, Role
from parka.api.authentication import check_recent_sign_in
from parka.api.idempotency import once
from parka.api.links import api_link
from parka.api.resource import Resource


class MemberSerializer(serializers.Serializer):
    """A person in the team."""

    id = serializers.CharField(source="user.public_id")
    email = serializers.EmailField(source="user.email")
    name = serializers.CharField(source="user.display_name")
    role = serializers.ChoiceField(choices=Role.choices)
    last_login_at = serializers.DateTimeField(source="user.last_login", allow_null=True)
    created_at = serializers.DateTimeField()


class NewMemberSerializer(serializers.Serializer):
    """Whom to add, and as what."""

    email = serializers.EmailField(max_length=254)
    role = serializers.ChoiceField(choices=Role.choices)


class MemberChangeSerializer(serializers.Serializer):
    """The new role."""

    role = serializers.ChoiceField(choices=Role.choices)


class Members(Resource):
    """People of the team."""

    @extend_schema(operation_id="list_members", tags=["members"], responses=MemberSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Everybody in the team."""
        return self.page(selectors.members(self.access), lambda row: MemberSerializer(row).data)

    @extend_schema(operation_id="add_member", tags=["members"], request=NewMemberSerializer, responses={201: MemberSerializer})
    def post(self, request: Request) -> Response:
        """Give a person a role; they are told by mail. The answer is the same whether or not they had an account."""
        check_recent_sign_in(request)
        return once(request, self._add)

    def _add(self) -> Response:
        body = self.read(NewMemberSerializer)
        member = services.add_member(self.access, email=body["email"], role=Role(body["role"]))
        member.refresh_from_db()
        return Response(shown(member), status=201, headers={"Location": api_link("members", member.user.public_id)})


class MemberDetail(Resource):
    """One person of the team."""

    @extend_schema(operation_id="get_member", tags=["members"], responses=MemberSerializer)
    def get(self, request: Request, user_id: str) -> Response:
        """A person and their role."""
        return Response(shown(selectors.member(self.access, user_id)))

    @extend_schema(operation_id="change_role", tags=["members"], request=MemberChangeSerializer, responses=MemberSerializer)
    def patch(self, request: Request, user_id: str) -> Response:
        """Set a role; owners only."""
        check_recent_sign_in(request)
        member = selectors.member(self.access, user_id)
        return Response(shown(services.change_role(self.access, member=member, role=Role(self.read(MemberChangeSerializer)["role"]))))

    @extend_schema(operation_id="remove_member", tags=["members"], responses={204: None})
    def delete(self, request: Request, user_id: str) -> Response:
        """End a membership and the person's tokens at once; everyone may leave."""
        check_recent_sign_in(request)
        services.remove_member(self.access, member=selectors.member(self.access, user_id))
        return Response(status=204)


def shown(member: Membership) -> dict[str, object]:
    return dict(MemberSerializer(member).data)

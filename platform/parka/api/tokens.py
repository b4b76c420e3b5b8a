"""``/tokens``: API tokens of the team."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from parka.accounts import selectors
from parka.accounts import tokens as services
from parka.accounts.models import Scope
from parka.api.authentication import check_recent_sign_in
from parka.api.idempotency import once
from parka.api.links import api_link
from parka.api.resource import Resource


class TokenSerializer(serializers.Serializer):
    """A token without its secret."""

    id = serializers.CharField(source="public_id")
    name = serializers.CharField()
    scope = serializers.ChoiceField(choices=Scope.choices)
    last_four = serializers.CharField()
    created_by = serializers.CharField(source="creator.display_name")
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    last_used_at = serializers.DateTimeField(allow_null=True)
    last_used_from = serializers.IPAddressField(allow_null=True)


class FreshTokenSerializer(TokenSerializer):
    """A token just made; ``token`` is shown this once and left out of idempotent replays."""

    token = serializers.CharField(required=False)


class NewTokenSerializer(serializers.Serializer):
    """What a new token shall be allowed."""

    name = serializers.CharField(max_length=80)
    scope = serializers.ChoiceField(choices=Scope.choices)
    days = serializers.IntegerField(default=services.DEFAULT_DAYS, min_value=1, max_value=services.MAX_DAYS)


class Tokens(Resource):
    """API tokens."""

    @extend_schema(operation_id="list_tokens", tags=["tokens"], responses=TokenSerializer(many=True))
    def get(self, request: Request) -> Response:
        """One's own tokens; all of the team for admins and owners."""
        return self.page(selectors.tokens(self.access), lambda row: TokenSerializer(row).data)

    @extend_schema(operation_id="create_token", tags=["tokens"], request=NewTokenSerializer, responses={201: FreshTokenSerializer})
    def post(self, request: Request) -> Response:
        """A new token, at most as wide as one's role; its text is shown once."""
        check_recent_sign_in(request)
        return once(request, self._create, secrets=("token",))

    def _create(self) -> Response:
        body: dict[str, Any] = self.read(NewTokenSerializer)
        token, plain = services.create_token(self.access, name=body["name"], scope=Scope(body["scope"]), days=body["days"])
        token.refresh_from_db()
        return Response(
            {**TokenSerializer(token).data, "token": plain}, status=201, headers={"Location": api_link("tokens", token.public_id)}
        )


class TokenDetail(Resource):
    """One API token."""

    @extend_schema(operation_id="get_token", tags=["tokens"], responses=TokenSerializer)
    def get(self, request: Request, token_id: str) -> Response:
        """A token without its secret."""
        return Response(TokenSerializer(selectors.token(self.access, token_id)).data)

    @extend_schema(operation_id="revoke_token", tags=["tokens"], responses={204: None})
    def delete(self, request: Request, token_id: str) -> Response:
        """End a token at once."""
        check_recent_sign_in(request)
        services.revoke_token(self.access, token=selectors.token(self.access, token_id))
        return Response(status=204)

"""``/audit``: the append-only log of the team."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from parka.accounts.access import Capability
from parka.api.resource import Resource
from parka.audit import selectors


class AuditEventSerializer(serializers.Serializer):
    """One audited action."""

    id = serializers.CharField(source="public_id")
    at = serializers.DateTimeField(source="created_at")
    actor = serializers.CharField()
    action = serializers.CharField()
    target = serializers.CharField(allow_blank=True)
    address = serializers.CharField(allow_blank=True)
    before = serializers.JSONField(allow_null=True)
    after = serializers.JSONField(allow_null=True)


class AuditLog(Resource):
    """Audited actions."""

    @extend_schema(operation_id="list_audit_events", tags=["account"], responses=AuditEventSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Actions in the team, newest first; admins and owners."""
        access = self.access
        access.require(Capability.READ_AUDIT)
        return self.page(selectors.events(access.team.public_id), lambda row: AuditEventSerializer(row).data)

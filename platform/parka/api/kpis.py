"""``/kpis``: the one registry of metrics."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from optimizer.kpis import KPIS, Direction
from parka.api.resource import Resource


class KpiSerializer(serializers.Serializer):
    """A metric: its name carries the unit last."""

    name = serializers.CharField()
    title = serializers.CharField()
    unit = serializers.CharField()
    direction = serializers.ChoiceField(choices=[one.value for one in Direction])
    definition = serializers.CharField()
    targetable = serializers.BooleanField()


class Kpis(Resource):
    """Metrics that can be measured and targeted."""

    @extend_schema(operation_id="list_kpis", tags=["experiments"], responses=KpiSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Every metric."""
        return Response({"items": KpiSerializer(list(KPIS.values()), many=True).data, "next": None, "previous": None})

"""``/compare`` and ``/comparisons``: columns side by side, and views worth keeping."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from optimizer.codec import to_jsonable
from optimizer.score.comparison import ComparisonTable
from parka.api.fields import SpecField
from parka.api.idempotency import once
from parka.api.links import api_link
from parka.api.resource import Resource
from parka.scorecards import selectors, services
from parka.scorecards.comparing import Chosen, compare
from parka.scorecards.models import Comparison


class ColumnSerializer(serializers.Serializer):
    """One column of a comparison."""

    key = serializers.CharField()
    run = serializers.CharField(source="run.public_id")
    trial = serializers.IntegerField()
    label = serializers.CharField(source="entry.label")  # type: ignore[assignment]
    version_name = serializers.CharField(source="run.experiment.version.__str__")
    agent = serializers.CharField(source="run.agent.public_id")
    agent_name = serializers.CharField(source="run.agent.name")


class ComparedSerializer(serializers.Serializer):
    """A comparison: ``table.rows[i].cells[j]`` belongs to ``columns[j]``; ``unknown`` names picks that led nowhere."""

    columns = ColumnSerializer(many=True)
    table = SpecField(ComparisonTable)
    unknown = serializers.ListField(child=serializers.CharField())


class ComparisonSerializer(serializers.Serializer):
    """A saved view; ``query`` is the query string of ``/compare`` and of its page."""

    id = serializers.CharField(source="public_id")
    name = serializers.CharField()
    query = serializers.CharField()
    created_by = serializers.CharField(source="created_by.display_name", default=None, allow_null=True)
    created_at = serializers.DateTimeField()


class NewComparisonSerializer(serializers.Serializer):
    """A view to keep."""

    name = serializers.CharField(max_length=120)
    query = serializers.CharField(max_length=4000)


class Compare(Resource):
    """Runs and trials side by side."""

    @extend_schema(
        operation_id="compare",
        tags=["scorecards"],
        parameters=[
            OpenApiParameter(
                "runs", str, required=True, description="Comma-separated: R-118 or run_… (its answer), R-118/19 (a trial), E-45."
            ),
            OpenApiParameter("base", str, description="The pinned baseline; the first one by default."),
        ],
        responses=ComparedSerializer,
    )
    def get(self, request: Request) -> Response:
        """Every KPI that any of them measured, with its change against the baseline and what differs between them."""
        query = request.query_params
        compared = compare(self.access, picks=query.get("runs", "").split(","), base=query.get("base", ""))
        columns: list[Chosen] = list(compared.chosen)
        table = to_jsonable(compared.table)
        return Response({"columns": ColumnSerializer(columns, many=True).data, "table": table, "unknown": list(compared.unknown)})


class Comparisons(Resource):
    """Saved comparisons."""

    @extend_schema(operation_id="list_comparisons", tags=["scorecards"], responses=ComparisonSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Saved comparisons, newest first."""
        return self.page(selectors.comparisons(self.access), lambda row: ComparisonSerializer(row).data)

    @extend_schema(
        operation_id="save_comparison", tags=["scorecards"], request=NewComparisonSerializer, responses={201: ComparisonSerializer}
    )
    def post(self, request: Request) -> Response:
        """Keep a comparison under a name."""
        return once(request, self._save)

    def _save(self) -> Response:
        body: dict[str, Any] = self.read(NewComparisonSerializer)
        comparison = services.save_comparison(self.access, name=body["name"], query=body["query"])
        comparison.refresh_from_db()
        return Response(shown(comparison), status=201, headers={"Location": api_link("comparisons", comparison.public_id)})


class ComparisonDetail(Resource):
    """One saved comparison."""

    @extend_schema(operation_id="get_comparison", tags=["scorecards"], responses=ComparisonSerializer)
    def get(self, request: Request, comparison_id: str) -> Response:
        """A saved comparison."""
        return Response(shown(selectors.comparison(self.access, comparison_id)))

    @extend_schema(operation_id="delete_comparison", tags=["scorecards"], responses={204: None})
    def delete(self, request: Request, comparison_id: str) -> Response:
        """Forget a saved comparison."""
        services.delete_comparison(self.access, selectors.comparison(self.access, comparison_id))
        return Response(status=204)


def shown(comparison: Comparison) -> dict[str, Any]:
    return dict(ComparisonSerializer(comparison).data)

"""``/runs/…/trials``: each recipe tried, stage by stage."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from optimizer.specs import Recipe, StageReport
from parka.api.artifacts import ArtifactSerializer
from parka.api.fields import SpecField
from parka.api.resource import Resource
from parka.api.runs import found_run
from parka.core.rows import found
from parka.experiments import selectors


class StageSerializer(serializers.Serializer):
    """An accepted stage report."""

    stage = serializers.CharField()
    status = serializers.CharField()
    error_code = serializers.CharField(allow_blank=True)
    attempt = serializers.IntegerField()
    report = SpecField(StageReport)
    artifacts = ArtifactSerializer(source="artifacts.all", many=True)
    created_at = serializers.DateTimeField()


class TrialSerializer(serializers.Serializer):
    """One recipe on one agent; index 0 is the untouched baseline."""

    index = serializers.IntegerField()
    label = serializers.CharField()  # type: ignore[assignment]
    recipe = SpecField(Recipe)
    recipe_key = serializers.CharField()
    stages = StageSerializer(source="stages.all", many=True)


class Trials(Resource):
    """Trials of one run."""

    @extend_schema(operation_id="list_trials", tags=["runs"], responses=TrialSerializer(many=True))
    def get(self, request: Request, key: str) -> Response:
        """Trials in order."""
        return self.page(selectors.trials(found_run(self.access, key)), lambda row: TrialSerializer(row).data, ordering="index")


class TrialDetail(Resource):
    """One trial."""

    @extend_schema(operation_id="get_trial", tags=["runs"], responses=TrialSerializer)
    def get(self, request: Request, key: str, index: int) -> Response:
        """A trial with its stage reports and artifacts."""
        return Response(TrialSerializer(found(selectors.trials(found_run(self.access, key)).filter(index=index).first())).data)

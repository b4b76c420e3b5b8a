"""``/scorecards``: measurements judged against the targets, under a version of the prices."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from optimizer.score.scorecard import Scorecard as ScorecardValue
from optimizer.specs import Decision
from parka.accounts.access import Access
from parka.api.artifacts import ArtifactSerializer
from parka.api.fields import SpecField
from parka.api.links import api_link, page_link
from parka.api.resource import Resource
from parka.api.runs import found_run
from parka.core.errors import NotFound
from parka.experiments.models import Run
from parka.scorecards import selectors
from parka.scorecards.answers import winning_artifacts
from parka.scorecards.models import Scorecard


class ScorecardSummarySerializer(serializers.Serializer):
    """A scorecard in a list."""

    id = serializers.CharField(source="public_id")
    run = serializers.CharField(source="run.public_id")
    run_label = serializers.CharField(source="run.label")
    decision = serializers.ChoiceField(choices=[one.value for one in Decision])
    finding = serializers.CharField()
    passed = serializers.IntegerField()
    failed = serializers.IntegerField()
    unproven = serializers.IntegerField()
    price_book_version = serializers.IntegerField(source="book.version")
    created_at = serializers.DateTimeField()


class ScorecardSerializer(ScorecardSummarySerializer):
    """A scorecard in full; ``artifacts`` are the files of the judged trial."""

    scorecard = SpecField(ScorecardValue, source="body")
    artifacts = ArtifactSerializer(many=True)
    links = serializers.DictField(child=serializers.CharField())


class Scorecards(Resource):
    """Scorecards of the team."""

    @extend_schema(operation_id="list_scorecards", tags=["scorecards"], responses=ScorecardSummarySerializer(many=True))
    def get(self, request: Request) -> Response:
        """Scorecards, newest first; a run has one per version of the prices."""
        return self.page(selectors.scorecards(self.access), lambda row: ScorecardSummarySerializer(row).data)


class RunScorecard(Resource):
    """The scorecard of one run."""

    @extend_schema(
        operation_id="get_scorecard",
        tags=["scorecards"],
        parameters=[OpenApiParameter("prices", int, description="Version of the prices; the newest by default.")],
        responses=ScorecardSerializer,
    )
    def get(self, request: Request, key: str) -> Response:
        """The scorecard of a run; 404 ``scorecard.not_ready`` until it is judged."""
        run = found_run(self.access, key)
        version = request.query_params.get("prices", "")
        if version and not version.isdecimal():
            raise NotFound("scorecard.not_ready")
        return Response(shown(self.access, run, selectors.scorecard(self.access, run, book_version=int(version[:9]) if version else None)))


def shown(access: Access, run: Run, scorecard: Scorecard) -> dict[str, Any]:
    """A scorecard with the files of its trial."""
    links = {
        "self": api_link("runs", run.public_id, "scorecard"),
        "run": api_link("runs", run.public_id),
        "page": page_link(access.team, "runs", run.label),
    }
    body = ScorecardSummarySerializer(scorecard).data
    artifacts = ArtifactSerializer(winning_artifacts(run, scorecard), many=True).data
    return {**body, "scorecard": scorecard.body, "artifacts": artifacts, "links": links}

"""``/runs/…/events``: what happened, as a list; the same ids as the page's server-sent events."""

from __future__ import annotations

import re

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from parka.api.resource import Resource
from parka.api.runs import found_run
from parka.core.errors import BadRequest, Unavailable
from parka.workflow import events

ID = re.compile(r"\d{1,19}-\d{1,19}")


class RunEventSerializer(serializers.Serializer):
    """One event of a run."""

    id = serializers.CharField()
    kind = serializers.ChoiceField(choices=[one.value for one in events.EventKind])
    payload = serializers.DictField()


class RunEventsSerializer(serializers.Serializer):
    """Events after an id; ``resync``: older ones are gone, read the run again."""

    items = RunEventSerializer(many=True)
    resync = serializers.BooleanField()


class RunEvents(Resource):
    """Events of one run."""

    @extend_schema(
        operation_id="list_run_events",
        tags=["runs"],
        parameters=[OpenApiParameter("after", str, description="Id of the last event you have seen.")],
        responses=RunEventsSerializer,
    )
    def get(self, request: Request, key: str) -> Response:
        """Events after ``after``, oldest first, at most 200."""
        run = found_run(self.access, key)
        after = request.query_params.get("after", events.START)
        if not ID.fullmatch(after):
            raise BadRequest("request.cursor")
        try:
            batch = events.read(run.public_id, after=after)
        except events.StreamDown:
            raise Unavailable("server.busy", retry_after_s=5) from None
        return Response(RunEventsSerializer({"items": batch.events, "resync": batch.resync}).data)

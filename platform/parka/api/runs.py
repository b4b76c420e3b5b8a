"""``/runs``: one agent's part of an experiment; its trials, log, events and cancel."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from optimizer.specs import SearchOutcome
from parka.accounts.access import Access
from parka.api.fields import SpecField
from parka.api.idempotency import once
from parka.api.links import api_link, page_link
from parka.api.plain import plain_resource
from parka.api.resource import CountSerializer, Resource, total
from parka.api.waiting import wait_s, wait_until
from parka.experiments import selectors
from parka.experiments.models import TERMINAL, Phase, Run, RunKind, RunState
from parka.workflow.runs import cancel_run

ENDED = frozenset(str(state) for state in TERMINAL)


class RunErrorSerializer(serializers.Serializer):
    """Why a run failed; empty otherwise."""

    code = serializers.CharField(source="error_code", allow_blank=True)
    detail = serializers.CharField(source="error_detail", allow_blank=True)


class RunSerializer(serializers.Serializer):
    """One agent's part of an experiment."""

    id = serializers.CharField(source="public_id")
    label = serializers.CharField(help_text="Such as R-118.")  # type: ignore[assignment]
    number = serializers.IntegerField()
    kind = serializers.ChoiceField(choices=RunKind.choices)
    experiment = serializers.CharField(source="experiment.public_id")
    version = serializers.CharField(source="experiment.version.public_id")
    version_name = serializers.CharField(source="experiment.version.__str__")
    agent = serializers.CharField(source="agent.public_id")
    agent_name = serializers.CharField(source="agent.name")
    status = serializers.ChoiceField(source="state", choices=RunState.choices)
    phase = serializers.ChoiceField(choices=Phase.choices, help_text="Display only.")
    progress = serializers.JSONField()
    attempt = serializers.IntegerField()
    error = RunErrorSerializer(source="*")
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(source="first_claimed_at", allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)


class RunDetailSerializer(RunSerializer):
    """A run with the search's answer and links."""

    queue_position = serializers.IntegerField()
    outcome = SpecField(SearchOutcome, allow_null=True)
    links = serializers.DictField(child=serializers.CharField())


FILTERS = [
    OpenApiParameter("status", str, enum=[one.value for one in RunState], description="Only runs in this state."),
    OpenApiParameter("experiment", str, description="Only runs of this experiment (exp_…)."),
    OpenApiParameter("agent", str, description="Only runs on this agent (agent_…)."),
]


class Runs(Resource):
    """Runs of the team."""

    @extend_schema(operation_id="list_runs", tags=["runs"], parameters=FILTERS, responses=RunSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Runs, newest first."""
        return self.page(wanted(self.access, request), lambda row: RunSerializer(row).data)


class RunCount(Resource):
    """How many runs there are."""

    @extend_schema(operation_id="count_runs", tags=["runs"], parameters=FILTERS, responses=CountSerializer)
    def get(self, request: Request) -> Response:
        """Total of the list."""
        return total(wanted(self.access, request))


class RunCancel(Resource):
    """The end of a run."""

    @extend_schema(operation_id="cancel_run", tags=["runs"], request=None, responses={202: RunDetailSerializer})
    def post(self, request: Request, key: str) -> Response:
        """Ask for the end of a run: a queued one ends at once, a running one within 45 s; finished trials stay."""
        run = found_run(self.access, key)
        return once(request, lambda: self._cancel(run))

    def _cancel(self, run: Run) -> Response:
        cancel_run(self.access, run)
        body = shown(self.access, run.public_id)
        return Response(body, status=202, headers={"Location": body["links"]["self"], "Retry-After": "5"})


class RunLog(Resource):
    """What the agent wrote while working."""

    @extend_schema(operation_id="get_run_log", tags=["runs"], responses={(200, "text/plain"): OpenApiTypes.STR})
    def get(self, request: Request, key: str) -> HttpResponse:
        """The stored log of the latest attempt, as text."""
        text = selectors.log_text(found_run(self.access, key))
        return HttpResponse(text, content_type="text/plain; charset=utf-8", headers={"X-Content-Type-Options": "nosniff"})


@plain_resource
async def run_detail(request: HttpRequest, access: Access, key: str) -> HttpResponse:
    """One run, by id or ``R-118``; with ``?wait=`` once it has ended."""
    if request.method not in ("GET", "HEAD"):
        return HttpResponseNotAllowed(["GET"])
    await sync_to_async(found_run)(access, key)
    body = await wait_until(lambda: shown(access, key), ended=lambda state: state["status"] in ENDED, wait_s=wait_s(request))
    return JsonResponse(body, headers={} if body["status"] in ENDED else {"Retry-After": "5"})


def wanted(access: Access, request: Request) -> QuerySet[Run]:
    rows, query = selectors.runs(access), request.query_params
    if query.get("status"):
        rows = rows.filter(state=query["status"])
    if query.get("experiment"):
        rows = rows.filter(experiment__public_id=query["experiment"])
    if query.get("agent"):
        rows = rows.filter(agent__public_id=query["agent"])
    return rows


def found_run(access: Access, key: str) -> Run:
    """By public id or ``R-118``. Raises NotFound."""
    number = key[2:] if key[:2].upper() == "R-" else ""
    if number.isdecimal() and len(number) < 10:
        return selectors.run(access, int(number))
    return selectors.run_by_id(access, key)


def shown(access: Access, key: str) -> dict[str, Any]:
    """A run with what only its own page needs."""
    run = found_run(access, key)
    path = ("runs", run.public_id)
    links = {
        "self": api_link(*path),
        "page": page_link(access.team, "runs", run.label),
        "trials": api_link(*path, "trials"),
        "events": api_link(*path, "events"),
        "log": api_link(*path, "log"),
        "scorecard": api_link(*path, "scorecard"),
    }
    more = {"queue_position": selectors.queue_position(run), "outcome": run.outcome, "links": links}
    return {**RunSerializer(run).data, **more}

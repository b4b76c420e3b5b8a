"""``/experiments``: questions, their estimate before the start, their runs."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from parka.accounts.access import Access
from parka.api.idempotency import once
from parka.api.links import api_link, page_link
from parka.api.plain import plain_resource
from parka.api.questions import Question, QuestionSerializer, read_question
from parka.api.resource import CountSerializer, Resource, total
from parka.api.waiting import wait_s, wait_until
from parka.core.rows import found
from parka.experiments import selectors
from parka.experiments.models import ACTIVE, TERMINAL, Experiment, RunState
from parka.workflow.experiments import estimate_experiment, start_experiment

ENDED = frozenset(str(state) for state in TERMINAL)


class TargetSerializer(serializers.Serializer):
    """A KPI limit."""

    kpi = serializers.CharField()
    op = serializers.CharField()
    value = serializers.FloatField()
    relative = serializers.BooleanField()


class EtaSerializer(serializers.Serializer):
    """Seconds until the answer: likely and unlucky."""

    p50 = serializers.FloatField(allow_null=True)
    p90 = serializers.FloatField(allow_null=True)


class ExperimentSerializer(serializers.Serializer):
    """A question: model version, targets, agents, budget."""

    id = serializers.CharField(source="public_id")
    label = serializers.CharField(help_text="Such as E-45.")  # type: ignore[assignment]
    number = serializers.IntegerField()
    title = serializers.CharField()
    status = serializers.SerializerMethodField(help_text="queued, running, or as its runs ended.")
    version = serializers.CharField(source="version.public_id")
    version_name = serializers.CharField(source="version.__str__")
    dataset = serializers.CharField(source="dataset.public_id", default=None, allow_null=True)
    objective = serializers.CharField()
    budget_s = serializers.FloatField()
    preset = serializers.CharField()
    targets = TargetSerializer(source="targets.all", many=True)
    agents = serializers.SerializerMethodField()
    runs = serializers.SerializerMethodField()
    eta_seconds = serializers.SerializerMethodField()
    created_by = serializers.CharField(source="created_by.display_name", default=None, allow_null=True)
    created_at = serializers.DateTimeField()

    def get_status(self, experiment: Experiment) -> str:
        return status_of({run.state for run in experiment.runs.all()})

    def get_agents(self, experiment: Experiment) -> list[str]:
        return [run.agent.public_id for run in experiment.runs.all()]

    def get_runs(self, experiment: Experiment) -> list[str]:
        return [run.public_id for run in experiment.runs.all()]

    def get_eta_seconds(self, experiment: Experiment) -> dict[str, float | None]:
        return eta_of(experiment.estimate.values())


class ExperimentDetailSerializer(ExperimentSerializer):
    """An experiment with its specification, estimate and links."""

    spec = serializers.JSONField()
    estimate = serializers.JSONField()
    links = serializers.DictField(child=serializers.CharField())


class EstimateSerializer(serializers.Serializer):
    """What an experiment will take on one agent."""

    agent = serializers.CharField()
    low_s = serializers.FloatField()
    high_s = serializers.FloatField()
    trials = serializers.IntegerField()
    sealed_needed = serializers.IntegerField()
    parts = serializers.DictField(child=serializers.FloatField())
    problems = serializers.ListField(child=serializers.CharField())


class Experiments(Resource):
    """Experiments of the team."""

    @extend_schema(operation_id="list_experiments", tags=["experiments"], responses=ExperimentSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Experiments, newest first."""
        return self.page(selectors.experiments(self.access), lambda row: ExperimentSerializer(row).data)

    @extend_schema(
        operation_id="start_experiment", tags=["experiments"], request=QuestionSerializer, responses={202: ExperimentDetailSerializer}
    )
    def post(self, request: Request) -> Response:
        """Start an experiment: one run per agent. Poll ``Location``, best with ``?wait=30``."""
        return once(request, self._start)

    def _start(self) -> Response:
        question = read_question(self.access, self.read(QuestionSerializer))
        experiment = start_experiment(self.access, **arguments(question), dataset=question.dataset, title=question.title)
        body = shown(self.access, experiment.public_id)
        return Response(body, status=202, headers={"Location": body["links"]["self"], "Retry-After": "5"})


class ExperimentEstimate(Resource):
    """The estimate before the start."""

    @extend_schema(
        operation_id="estimate_experiment", tags=["experiments"], request=QuestionSerializer, responses=EstimateSerializer(many=True)
    )
    def post(self, request: Request) -> Response:
        """What the same body would take on each agent; nothing is stored."""
        question = read_question(self.access, self.read(QuestionSerializer))
        estimates = estimate_experiment(self.access, **arguments(question))
        items = [EstimateSerializer({"agent": agent.public_id, **_facts(estimate)}).data for agent, estimate in estimates]
        return Response({"items": items, "next": None, "previous": None})


class ExperimentCount(Resource):
    """How many experiments there are."""

    @extend_schema(operation_id="count_experiments", tags=["experiments"], responses=CountSerializer)
    def get(self, request: Request) -> Response:
        """Total of the list."""
        return total(selectors.experiments(self.access))


@plain_resource
async def experiment_detail(request: HttpRequest, access: Access, key: str) -> HttpResponse:
    """One experiment, by id or ``E-45``; with ``?wait=`` once all its runs have ended."""
    if request.method not in ("GET", "HEAD"):
        return HttpResponseNotAllowed(["GET"])
    await sync_to_async(found_experiment)(access, key)
    body = await wait_until(lambda: shown(access, key), ended=lambda state: state["status"] in ENDED, wait_s=wait_s(request))
    return JsonResponse(body, headers={} if body["status"] in ENDED else {"Retry-After": "5"})


def found_experiment(access: Access, key: str) -> Experiment:
    """By public id or ``E-45``. Raises NotFound."""
    number = key[2:] if key[:2].upper() == "E-" else ""
    if number.isdecimal() and len(number) < 10:
        return selectors.experiment(access, int(number))
    return found(selectors.experiment_by_id(access, key))


def shown(access: Access, key: str) -> dict[str, Any]:
    """An experiment with what only its own page needs."""
    experiment = found_experiment(access, key)
    links = {"self": api_link("experiments", experiment.public_id), "page": page_link(access.team, "experiments", experiment.label)}
    return {**ExperimentSerializer(experiment).data, "spec": experiment.spec, "estimate": experiment.estimate, "links": links}


def arguments(question: Question) -> dict[str, Any]:
    """What starting and estimating have in common."""
    return {"version": question.version, "agents": question.agents, "spec": question.spec}


def status_of(states: set[str]) -> str:
    """Running while any run is, queued before; then finished, unless no run did."""
    for state in (*ACTIVE, RunState.QUEUED, RunState.FINISHED, RunState.FAILED, RunState.LOST, RunState.CANCELLED):
        if state in states:
            return str(RunState.RUNNING if state in ACTIVE else state)
    return str(RunState.QUEUED)


def eta_of(estimates: Any) -> dict[str, float | None]:
    """Agents work side by side: the slowest one decides."""
    lows = [float(one["low_s"]) for one in estimates]
    highs = [float(one["high_s"]) for one in estimates]
    return {"p50": (max(lows) + max(highs)) / 2 if lows else None, "p90": max(highs, default=None)}


def _facts(estimate: Any) -> dict[str, Any]:
    names = ("low_s", "high_s", "trials", "sealed_needed", "parts", "problems")
    return {name: getattr(estimate, name) for name in names}

"""The body of a new experiment: references to the team's objects and a SearchSpec."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from rest_framework import serializers

from optimizer.errors import InputError
from optimizer.specs import Budget, KpiTarget, Operator, Scenario, SearchSpec, TaskKind, TrafficShare, check_traffic
from parka.accounts.access import Access
from parka.api.references import referenced
from parka.core.errors import FieldError, Refused
from parka.fleet import selectors as fleet
from parka.fleet.models import Agent
from parka.registry import selectors as registry
from parka.registry.models import Dataset, ModelVersion

DEFAULT_BUDGET_S = Budget().total_s
Made = TypeVar("Made")
MOST_AGENTS = 50
MOST_TARGETS = 20


class NewTargetSerializer(serializers.Serializer):
    """A KPI limit; ``relative`` makes ``value`` a fraction of the untouched baseline's measured value."""

    kpi = serializers.CharField(max_length=60)
    value = serializers.FloatField()
    op = serializers.ChoiceField(choices=[one.value for one in Operator], required=False, allow_null=True, default=None)
    relative = serializers.BooleanField(required=False, default=False)


class TrafficShareSerializer(serializers.Serializer):
    """One shape of the requests: sizes of dynamic dims and how often they come, relative to the other rows."""

    bindings = serializers.DictField(child=serializers.IntegerField(min_value=1, max_value=1_000_000))
    weight = serializers.FloatField(required=False, default=1.0)


class QuestionSerializer(serializers.Serializer):
    """Can this version meet these targets on these agents, within this budget?"""

    version = serializers.CharField(max_length=120, help_text="ver_… or resnet50@7.")
    agents = serializers.ListField(child=serializers.CharField(max_length=120), min_length=1, max_length=MOST_AGENTS)
    dataset = serializers.CharField(max_length=120, required=False, allow_null=True, default=None)
    title = serializers.CharField(max_length=160, required=False, default="", allow_blank=True)
    targets = NewTargetSerializer(many=True, required=False, default=list)
    objective = serializers.CharField(max_length=60, required=False, default="latency_p50_ms")
    budget_s = serializers.FloatField(required=False, default=DEFAULT_BUDGET_S, help_text="Wall time of each run in seconds.")
    preset = serializers.ChoiceField(choices=["quick"], required=False, default="quick")
    bindings = serializers.DictField(
        child=serializers.IntegerField(min_value=1, max_value=1_000_000), required=False, default=dict, help_text="Sizes of dynamic dims."
    )
    traffic = TrafficShareSerializer(
        many=True, required=False, default=list, help_text="A histogram of request shapes; the measured calls follow it."
    )
    scenario = serializers.ChoiceField(
        choices=[one.value for one in Scenario],
        required=False,
        allow_null=True,
        default=None,
        help_text="Left out: offline (batches and parallel streams are free) for throughput and cost, else single_stream.",
    )
    task = serializers.ChoiceField(choices=[one.value for one in TaskKind], required=False, allow_null=True, default=None)
    margin = serializers.FloatField(required=False, allow_null=True, default=None)
    seed = serializers.IntegerField(required=False, default=1, min_value=0, max_value=2**31 - 1)
    passes = serializers.ListField(child=serializers.CharField(max_length=60), required=False, allow_null=True, default=None)
    backends = serializers.ListField(child=serializers.CharField(max_length=60), required=False, allow_null=True, default=None)
    max_threads = serializers.IntegerField(required=False, allow_null=True, default=None, min_value=1, max_value=1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A body whose references were found in the team."""

    version: ModelVersion
    dataset: Dataset | None
    agents: tuple[Agent, ...]
    spec: SearchSpec
    title: str


def read_question(access: Access, body: dict[str, Any]) -> Question:
    """Look up what the body names and build the spec. Raises Refused with one error per wrong field."""
    version = referenced(lambda: registry.version_by_id(access, body["version"]), pointer="/version")
    dataset_id = body["dataset"]
    dataset = referenced(lambda: registry.dataset(access, dataset_id), pointer="/dataset") if dataset_id else None
    agents = tuple(_agent(access, key, index) for index, key in enumerate(body["agents"]))
    return Question(version=version, dataset=dataset, agents=agents, spec=_spec(access, body), title=body["title"])


def _agent(access: Access, key: str, index: int) -> Agent:
    return referenced(lambda: fleet.agent(access, key), pointer=f"/agents/{index}")


def _spec(access: Access, body: dict[str, Any]) -> SearchSpec:
    """Raises Refused with the engine's codes at the fields they are about."""
    if len(body["targets"]) > MOST_TARGETS:
        raise Refused(
            "request.invalid", fields=(FieldError(pointer="/targets", code="field.too_long", detail=f"At most {MOST_TARGETS} targets."),)
        )
    targets = tuple(_target(target, index) for index, target in enumerate(body["targets"]))
    budget = _checked("/budget_s", lambda: Budget(preset=body["preset"], total_s=body["budget_s"]))
    options: dict[str, Any] = {name: body[name] for name in ("objective", "bindings", "seed", "max_threads")}
    options |= {name: None if body[name] is None else tuple(body[name]) for name in ("passes", "backends")}
    traffic = tuple(TrafficShare(bindings=dict(one["bindings"]), weight=one["weight"]) for one in body["traffic"])
    _checked("/traffic", lambda: check_traffic(traffic))
    options |= {"traffic": traffic, "scenario": Scenario(body["scenario"]) if body["scenario"] else None}
    margin = access.team.margin if body["margin"] is None else body["margin"]
    task = None if body["task"] is None else TaskKind(body["task"])
    return _checked("/spec", lambda: SearchSpec(targets=targets, budget=budget, margin=margin, task=task, **options))


def _target(target: dict[str, Any], index: int) -> KpiTarget:
    operator = None if target["op"] is None else Operator(target["op"])
    make = lambda: KpiTarget(kpi=target["kpi"], value=target["value"], relative=target["relative"], op=operator)  # noqa: E731
    return _checked(f"/targets/{index}", make)


def _checked(pointer: str, make: Callable[[], Made]) -> Made:
    try:
        return make()
    except InputError as error:
        field = FieldError(pointer=pointer, code=error.code, detail=error.message)
        raise Refused(error.code, error.message, fields=(field,)) from None

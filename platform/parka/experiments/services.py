"""Writing experiments: one question becomes one queued run per agent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from optimizer.codec import to_jsonable
from optimizer.specs import SearchSpec
from parka.accounts.access import Access, Capability
from parka.core.codes import sentence
from parka.core.counters import next_number
from parka.core.errors import FieldError, RateLimited, Refused
from parka.core.text import clean_line
from parka.experiments.lifecycle import QUEUE_TTL, Event, note
from parka.experiments.models import Experiment, Run, RunState, Target
from parka.fleet.models import Agent, AgentState
from parka.registry.models import Dataset, Intake, ModelVersion

MOST_QUEUED = 500
MOST_PER_HOUR = 60
LONGEST_BUDGET_S = 24 * 3600.0


@transaction.atomic
def create_experiment(
    access: Access,
    *,
    version: ModelVersion,
    dataset: Dataset | None,
    agents: Sequence[Agent],
    spec: SearchSpec,
    title: str = "",
    estimate: dict[str, object] | None = None,
) -> Experiment:
    """Store the question and queue one run per agent, all or nothing.

    Raises Forbidden; Refused with one error per wrong field; RateLimited ``quota.runs``, ``quota.experiments``.
    """
    access.require(Capability.RUN)
    _refuse_wrong_fields(access, version=version, dataset=dataset, agents=agents, spec=spec)
    _refuse_over_quota(access, more=len(agents))
    experiment = Experiment.objects.create(
        team=access.team,
        number=next_number(f"team:{access.team.pk}:experiment"),
        title=clean_line(title, limit=160) or f"{version} on {', '.join(agent.name for agent in agents)}"[:160],
        version=version,
        dataset=dataset,
        objective=spec.objective,
        budget_s=spec.budget.total_s,
        preset=spec.budget.preset[:12],
        spec=to_jsonable(spec),
        estimate=estimate or {},
        created_by=access.user,
    )
    Target.objects.bulk_create(
        Target(experiment=experiment, kpi=target.kpi, op=str(target.op), value=target.value, relative=target.relative)
        for target in spec.targets
    )
    for agent in agents:
        queue_run(experiment, agent)
    return experiment


@transaction.atomic
def queue_run(experiment: Experiment, agent: Agent) -> Run:
    """A new queued run of the experiment on that agent (row 1 of the state table)."""
    run = Run.objects.create(
        team=experiment.team,
        number=next_number(f"team:{experiment.team_id}:run"),
        experiment=experiment,
        agent=agent,
        min_level=settings.MIN_SANDBOX_LEVEL,
        not_before_at=Now(),
        queue_expires_at=Now() + QUEUE_TTL,
    )
    run.refresh_from_db()
    note(run.pk, event=Event.CREATED, source="", target=RunState.QUEUED, attempt=0)
    return run


def _refuse_over_quota(access: Access, *, more: int) -> None:
    if Run.objects.filter(team=access.team, state=RunState.QUEUED).count() + more > MOST_QUEUED:
        raise RateLimited("quota.runs")
    if Experiment.objects.filter(team=access.team, created_at__gt=Now() - timedelta(hours=1)).count() >= MOST_PER_HOUR:
        raise RateLimited("quota.experiments", retry_after_s=600)


def _refuse_wrong_fields(
    access: Access, *, version: ModelVersion, dataset: Dataset | None, agents: Sequence[Agent], spec: SearchSpec
) -> None:
    wrong = [*_wrong_version(access, version), *_wrong_dataset(access, dataset), *_wrong_agents(access, agents), *_wrong_spec(spec)]
    if wrong:
        raise Refused(
            wrong[0].code if len(wrong) == 1 else "request.invalid", wrong[0].detail if len(wrong) == 1 else "", fields=tuple(wrong)
        )


def _wrong_version(access: Access, version: ModelVersion) -> list[FieldError]:
    if version.model.team_id != access.team.pk:
        return [_wrong("/version", "field.unknown_object")]
    if version.state != Intake.READY:
        return [_wrong("/version", "model.not_ready")]
    if version.model.archived_at is not None:
        return [_wrong("/version", "model.archived")]
    return []


def _wrong_dataset(access: Access, dataset: Dataset | None) -> list[FieldError]:
    if dataset is None:
        return []
    if dataset.team_id != access.team.pk:
        return [_wrong("/dataset", "field.unknown_object")]
    return [] if dataset.state == Intake.READY else [_wrong("/dataset", "dataset.not_ready")]


def _wrong_agents(access: Access, agents: Sequence[Agent]) -> list[FieldError]:
    if not agents:
        return [_wrong("/agents", "experiment.no_agents")]
    if len({agent.pk for agent in agents}) != len(agents):
        return [_wrong("/agents", "experiment.agent_twice")]
    return [error for place, agent in enumerate(agents) for error in _wrong_agent(access, agent, pointer=f"/agents/{place}")]


def _wrong_agent(access: Access, agent: Agent, *, pointer: str) -> list[FieldError]:
    if agent.team_id != access.team.pk:
        return [_wrong(pointer, "field.unknown_object")]
    if agent.state == AgentState.REVOKED:
        return [_wrong(pointer, "agent.revoked")]
    if agent.state == AgentState.PENDING:
        return [_wrong(pointer, "agent.not_active")]
    return [] if agent.sandbox_level <= settings.MIN_SANDBOX_LEVEL else [_wrong(pointer, "agent.sandbox_too_weak")]


def _wrong_spec(spec: SearchSpec) -> list[FieldError]:
    seen: set[tuple[str, bool]] = set()
    wrong: list[FieldError] = []
    for place, target in enumerate(spec.targets):
        if (target.kpi, target.relative) in seen:
            wrong.append(_wrong(f"/targets/{place}", "target.twice"))
        seen.add((target.kpi, target.relative))
    if spec.budget.total_s > LONGEST_BUDGET_S:
        wrong.append(_wrong("/budget_s", "budget.too_long"))
    return wrong


def _wrong(pointer: str, code: str) -> FieldError:
    return FieldError(pointer=pointer, code=code, detail=sentence(code))

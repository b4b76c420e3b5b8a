"""Experiments: list, one of them, a new one with its estimate."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.db import transaction
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from optimizer.score.wording import format_duration_range, title_of
from optimizer.search.plan import Estimate
from optimizer.specs import SearchSpec
from parka.accounts.access import Access, Capability
from parka.core import idempotency
from parka.core.errors import Conflict, NotFound, PlatformError, Refused
from parka.dashboard.experiment_form import FIRST_TARGETS, ExperimentForm, Offer, initial_of, target_initials
from parka.dashboard.facts import seen_lately
from parka.dashboard.filters import ExperimentFilter
from parka.dashboard.lists import paged, show_list
from parka.dashboard.pages import crumb, show, team_view
from parka.dashboard.run_cards import run_lines
from parka.dashboard.scores import target_words
from parka.dashboard.tables import ExperimentTable
from parka.experiments import selectors
from parka.experiments.models import ACTIVE, Experiment, RunState
from parka.fleet.models import Agent, AgentState
from parka.fleet.selectors import agents
from parka.registry.models import Dataset, Intake, ModelVersion
from parka.registry.selectors import all_versions, datasets, version_by_id
from parka.workflow.experiments import estimate_experiment, start_experiment

PART_WORDS = {
    "prepare": "Preparing",
    "baseline": "Baseline",
    "screen": "Screening",
    "race": "Race",
    "sealed": "Accuracy check",
    "build": "Builds",
}
NOT_COMPARED = ("csrfmiddlewaretoken",)


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateRow:
    """An agent's expected time."""

    agent: str
    time: str
    trials: int
    ahead: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of the time."""

    name: str
    time: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateView:
    """The estimate as printed before the start."""

    error: str = ""
    time: str = ""
    rows: tuple[EstimateRow, ...] = ()
    parts: tuple[Part, ...] = ()
    sealed_needed: int = 0
    inputs: str = ""
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A form that is filled in completely."""

    version: ModelVersion
    dataset: Dataset | None
    agents: list[Agent]
    spec: SearchSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetLine:
    """A target in words."""

    title: str
    words: str


@require_GET
@team_view
def experiment_list(request: HttpRequest, access: Access) -> HttpResponse:
    """All experiments of the team."""
    filters = ExperimentFilter(request.GET, queryset=selectors.experiments(access))
    context = {
        "title": "Experiments",
        "section": "experiments",
        "subtitle": "One question each, one run per agent",
        "empty": "experiments/_empty.html",
        "may_run": access.may(Capability.RUN),
    }
    table = paged(request, ExperimentTable(filters.qs, label="Experiments", team=access.team))
    return show_list(request, access, "experiments/list.html", table=table, filters=filters, context=context)


@require_GET
@team_view
def experiment_detail(request: HttpRequest, access: Access, number: int) -> HttpResponse:
    """One experiment with its runs, side by side."""
    experiment = selectors.experiment(access, number)
    runs = list(selectors.runs(access).filter(experiment=experiment).order_by("number"))
    spec = selectors.spec(experiment)
    context = {
        "title": experiment.title,
        "section": "experiments",
        "crumbs": [crumb(access, "Experiments", "experiments")],
        "experiment": experiment,
        "lines": run_lines(access, runs),
        "live": any(not run.is_terminal for run in runs),
        "targets": [TargetLine(title=title_of(one.kpi), words=target_words(one)) for one in spec.targets],
        "objective": title_of(experiment.objective),
        "spec": spec,
        "margin_percent": f"{spec.margin * 100:g}",
        "compare_href": _compare_href(access, [run.label for run in runs if run.state == RunState.FINISHED]),
        "may_run": access.may(Capability.RUN),
    }
    return show(request, access, "experiments/detail.html", context, fragment="experiments/_detail.html")


@require_http_methods(["GET", "POST"])
@team_view
def experiment_new(request: HttpRequest, access: Access) -> HttpResponse:
    """Ask a question; a form that was sent twice starts one experiment."""
    access.require(Capability.RUN)
    form = _form(access, data=request.POST if request.method == "POST" else None, query=request.GET)
    if request.method == "POST":
        experiment = _started(access, form, request.POST)
        if experiment is not None:
            return redirect("experiment", access.team.slug, experiment)
    context = {
        "title": "New experiment",
        "section": "experiments",
        "crumbs": [crumb(access, "Experiments", "experiments")],
        "subtitle": "Can this model meet these targets on this hardware?",
        "form": form,
        "estimate": _first_estimate(access, form),
    }
    return show(request, access, "experiments/new.html", context, fragment="experiments/_form.html", status=422 if form.errors else 200)


@require_POST
@team_view
def experiment_estimate(request: HttpRequest, access: Access) -> HttpResponse:
    """What the form as it stands would take; nothing is stored."""
    access.require(Capability.RUN)
    form = _form(access, data=request.POST, query=QueryDict())
    context = {
        "title": "Estimate",
        "section": "experiments",
        "crumbs": [crumb(access, "New experiment", "experiment-new")],
        "estimate": _estimate(access, form),
    }
    return show(request, access, "experiments/estimate.html", context, fragment="experiments/_estimate.html")


def _offer(access: Access) -> Offer:
    versions = all_versions(access).filter(state=Intake.READY, model__archived_at=None)
    able = list(agents(access).exclude(state=AgentState.PENDING))
    waiting: dict[int, int] = {}
    for agent_id in selectors.runs(access).filter(state__in=(*ACTIVE, RunState.QUEUED)).values_list("agent_id", flat=True):
        waiting[agent_id] = waiting.get(agent_id, 0) + 1
    ready = datasets(access).filter(state=Intake.READY)
    online = frozenset(agent.pk for agent in able if seen_lately(agent))
    return Offer(versions=list(versions), datasets=list(ready), agents=able, waiting=waiting, online=online)


def _form(access: Access, *, data: QueryDict | None, query: QueryDict) -> ExperimentForm:
    offer = _offer(access)
    initial = {} if data is not None else _initial(access, offer, query)
    named = data.get("version") if data is not None else initial.get("version")
    version = next((one for one in offer.versions if str(one) == named), None)
    return ExperimentForm(data, offer=offer, version=version, initial=initial)


def _initial(access: Access, offer: Offer, query: QueryDict) -> dict[str, Any]:
    """Fields from the address, else the named experiment, else the last one's targets, else 80% of the baseline."""
    first = {"version": str(offer.versions[0]) if offer.versions else "", "agents": _first_agents(offer), **_last_targets(access)}
    earlier = _earlier(access, query.get("from", ""))
    if earlier is not None:
        first |= initial_of(earlier)
    if query.get("model"):
        first["version"] = _named_version(access, query.get("model", ""))
    if "version" in query:
        first = {name: query[name] for name in query if name != "agents"}
        first["agents"] = query.getlist("agents")
    return first


def _first_agents(offer: Offer) -> list[str]:
    known = sorted((agent for agent in offer.agents if agent.profile is not None), key=lambda agent: agent.pk not in offer.online)
    return [agent.slug for agent in known[:1]]


def _last_targets(access: Access) -> dict[str, Any]:
    last = selectors.experiments(access).first()
    return target_initials(selectors.spec(last).targets if last else FIRST_TARGETS)


def _earlier(access: Access, label: str) -> Experiment | None:
    number = label.removeprefix("E-")
    return selectors.experiment(access, int(number)) if number.isdecimal() and len(number) < 9 else None


def _named_version(access: Access, name: str) -> str:
    try:
        return str(version_by_id(access, name))
    except NotFound:
        return ""


def _question(access: Access, form: ExperimentForm) -> Question | None:
    """The form's answer, or None after its errors stand beside the fields."""
    if not form.is_valid():
        return None
    spec = form.search_spec(margin=access.team.margin)
    if spec is None:
        return None
    data = form.cleaned_data
    return Question(
        version=next(one for one in form.choice.versions if str(one) == data["version"]),
        dataset=next((one for one in form.choice.datasets if one.slug == data["dataset"]), None),
        agents=[one for one in form.choice.agents if one.slug in data["agents"]],
        spec=spec,
    )


def _started(access: Access, form: ExperimentForm, sent: QueryDict) -> str | None:
    """Label of the experiment that this form started, now or before; None after its errors stand beside the fields."""
    question = _question(access, form)
    if question is None:
        return None
    once = _once(access, form.cleaned_data["key"], sent)
    try:
        stored = idempotency.begin(once)
        return str(stored.response["label"]) if stored is not None else _start(access, form, question, once)
    except (Refused, Conflict) as error:
        form.take_refusal(error)
        return None


def _start(access: Access, form: ExperimentForm, question: Question, once: idempotency.Question) -> str:
    try:
        with transaction.atomic():
            experiment = start_experiment(
                access,
                version=question.version,
                dataset=question.dataset,
                agents=question.agents,
                spec=question.spec,
                title=form.cleaned_data["title"],
            )
            idempotency.finish(once, idempotency.Answer(status=201, response={"label": experiment.label}, headers={}))
    except BaseException:
        idempotency.give_up(once)
        raise
    return experiment.label


def _once(access: Access, key: str, sent: QueryDict) -> idempotency.Question:
    scope = hashlib.sha256(f"form:{access.user.pk}:{access.team.pk}:experiment".encode()).hexdigest()
    plain = sorted((name, sent.getlist(name)) for name in sent if name not in NOT_COMPARED)
    return idempotency.Question(scope=scope, key=key or "none", body_sha256=hashlib.sha256(repr(plain).encode()).hexdigest())


def _first_estimate(access: Access, form: ExperimentForm) -> EstimateView:
    """The estimate of a form nobody has touched yet: its own initial values, as if they had been sent."""
    if form.is_bound or not (form.has_models and form.has_agents):
        return _estimate(access, form) if form.is_bound else EstimateView()
    data = QueryDict(mutable=True)
    for bound in form:
        value = bound.value()
        data.setlist(bound.name, value if isinstance(value, list) else ["" if value is None else str(value)])
    return _estimate(access, _form(access, data=data, query=QueryDict()))


def _estimate(access: Access, form: ExperimentForm) -> EstimateView:
    question = _question(access, form)
    if question is None:
        return EstimateView(error=_first_errors(form))
    try:
        found = estimate_experiment(access, version=question.version, agents=question.agents, spec=question.spec)
    except PlatformError as error:
        return EstimateView(error=error.message)
    return _estimate_view(form, question, found)


def _first_errors(form: ExperimentForm) -> str:
    """One sentence per wrong field."""
    named = {name: str(field.label) for name, field in form.fields.items()}
    return " ".join(f"{named[name]}: {errors[0]}" if name in named else str(errors[0]) for name, errors in form.errors.items())


def _estimate_view(form: ExperimentForm, question: Question, found: Sequence[tuple[Agent, Estimate]]) -> EstimateView:
    if not found:
        return EstimateView()
    low, high = min(one.low_s for _, one in found), max(one.high_s for _, one in found)
    longest = max((one for _, one in found), key=lambda one: one.high_s)
    return EstimateView(
        time=format_duration_range(low, high),
        rows=tuple(
            EstimateRow(
                agent=agent.name,
                time=format_duration_range(one.low_s, one.high_s),
                trials=one.trials,
                ahead=form.choice.waiting.get(agent.pk, 0),
            )
            for agent, one in found
        ),
        parts=tuple(
            Part(name=PART_WORDS.get(name, name.replace("_", " ").capitalize()), time=_seconds(value))
            for name, value in longest.parts.items()
        ),
        sealed_needed=longest.sealed_needed,
        inputs=question.dataset.name if question.dataset else "shipped text or images if they fit, else synthetic",
        problems=tuple(dict.fromkeys(problem for _, one in found for problem in one.problems)),
    )


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value < 120 else f"{value / 60:.1f} min"


def _compare_href(access: Access, labels: list[str]) -> str:
    if len(labels) < 2:
        return ""
    return f"{reverse('compare', args=[access.team.slug])}?{urlencode({'runs': ','.join(labels)})}"

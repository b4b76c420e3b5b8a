"""Runs: list, the page of one (live, scorecard or how it ended), trials, Pareto, environment, log, cancel."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_GET, require_http_methods

from optimizer.codec import to_jsonable
from optimizer.score.evidence import gather
from optimizer.score.wording import title_of
from optimizer.specs import Stage, StageReport, StageStatus
from parka.accounts.access import Access
from parka.core.codes import sentence
from parka.core.errors import NotFound
from parka.core.text import clean_line
from parka.dashboard.facts import Fact, environment_facts, machine_facts, recipe_facts
from parka.dashboard.figures import axis_choices, pareto_figure, pick_views
from parka.dashboard.filters import RunFilter
from parka.dashboard.lists import paged, show_list
from parka.dashboard.live import live_view, token
from parka.dashboard.pages import crumb, is_fragment, show, team_view, whole_page_again
from parka.dashboard.run_cards import run_lines
from parka.dashboard.run_pages import chart_width, run_context, samples_link, trial_link
from parka.dashboard.scores import NumberView, number_view
from parka.dashboard.tables import RunTable
from parka.dashboard.trials import STAGE_TITLES, best_of, stage_words, trial_lines
from parka.dashboard.views.scorecards import show_scorecard
from parka.experiments import selectors
from parka.experiments.models import Run, RunEvent, RunState
from parka.fleet.selectors import agents, hardware
from parka.registry.models import ArtifactRole
from parka.scorecards.selectors import current_book, price_of, scorecards
from parka.workflow.events import latest_id
from parka.workflow.runs import cancel_run

LOG_LINES = 1000
LOG_PAGE_LINES = 5000
STOP_POLLING = 286
ENDINGS = {
    RunState.FAILED: ("The run failed.", "Finished trials are kept below. Mend the cause, then ask again."),
    RunState.CANCELLED: ("The run was cancelled.", "Finished trials are kept below; nothing was scored."),
    RunState.LOST: ("The run was lost.", "Finished trials are kept below. Check that the agent is online, then ask again."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """A line with its number from 1."""

    number: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StageView:
    """A stage of a trial."""

    name: str
    tone: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberGroup:
    """The measurements of one stage."""

    title: str
    note: str
    rows: list[NumberView]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """A state change in words."""

    words: str
    detail: str
    attempt: int
    at: datetime


@require_GET
@team_view
def run_list(request: HttpRequest, access: Access) -> HttpResponse:
    """All runs of the team, to tick for a comparison."""
    filters = RunFilter(request.GET, queryset=selectors.runs(access), agents=agents(access))
    table = paged(request, RunTable(filters.qs, label="Runs", team=access.team))
    table.lines = {line.run.pk: line for line in run_lines(access, [row.record for row in table.paginated_rows])}
    context = {
        "title": "Runs",
        "section": "runs",
        "subtitle": "One agent's part of an experiment each",
        "empty": "experiments/_empty.html",
    }
    return show_list(request, access, "runs/list.html", table=table, filters=filters, context=context)


@require_GET
@team_view
def run_detail(request: HttpRequest, access: Access, number: int) -> HttpResponse:
    """Live while it runs, its scorecard when it has finished, else how it ended."""
    run = selectors.run(access, number)
    if not run.is_terminal:
        return show(request, access, "runs/live.html", live_context(access, run))
    if run.state != RunState.FINISHED:
        return _show_ended(request, access, run)
    stored = scorecards(access).filter(run=run).order_by("-book__version").first()
    if stored is None:
        return show(request, access, "runs/waiting.html", run_context(access, run, "run"), fragment="runs/_scoring.html")
    return whole_page_again() if is_fragment(request) else show_scorecard(request, access, run, stored)


@require_GET
@team_view
def run_live(request: HttpRequest, access: Access, number: int) -> HttpResponse:
    """The live part alone, for polling: 204 when unchanged, 286 at the end."""
    run = selectors.run(access, number)
    if run.is_terminal:
        return HttpResponse(status=STOP_POLLING)
    context = live_context(access, run)
    if request.GET.get("after") == context["token"]:
        return HttpResponse(status=204)
    response = show(request, access, "runs/live.html", context, fragment="runs/_live.html")
    response["X-Parka-Token"] = context["token"]
    return response


@require_http_methods(["GET", "POST"])
@team_view
def run_cancel(request: HttpRequest, access: Access, number: int) -> HttpResponse:
    """Ask for the end of a run, after a question."""
    run = selectors.run(access, number)
    if request.method == "POST":
        state = cancel_run(access, run)
        messages.success(request, f"{run.label}: {RunState(state).label.lower()}.")
        return redirect("run", access.team.slug, run.label)
    context = {"title": f"Cancel {run.label}?", "section": "runs", "crumbs": [crumb(access, run.label, "run", run.label)], "run": run}
    return show(request, access, "runs/cancel.html", context)


@require_GET
@team_view
def run_trials(request: HttpRequest, access: Access, number: int) -> HttpResponse:
    """Every trial with how far it came."""
    run = selectors.run(access, number)
    trials = trial_lines(selectors.reports(run), outcome=selectors.outcome(run))
    return show(request, access, "runs/trials.html", {**run_context(access, run, "run-trials"), "trials": trials})


@require_GET
@team_view
def trial_detail(request: HttpRequest, access: Access, number: int, index: int) -> HttpResponse:
    """One trial: recipe, stages, every measurement with its origin."""
    run = selectors.run(access, number)
    reports = _reports_of(run, index)
    line = trial_lines(reports, outcome=selectors.outcome(run))[0]
    row = selectors.trials(run).get(index=index)
    artifacts = {artifact.pk: artifact for stage in row.stages.all() for artifact in stage.artifacts.all()}
    context = {
        **run_context(access, run, "run-trials"),
        "title": f"Trial {index}: {line.label}",
        "crumbs": [*run_context(access, run, "run-trials")["crumbs"], crumb(access, "Trials", "run-trials", run.label)],
        "trial": line,
        "recipe_facts": recipe_facts(reports[0].recipe),
        "stages": [_stage_view(report) for report in reports],
        "groups": _groups(access, reports),
        "artifacts": [one for one in artifacts.values() if one.role != ArtifactRole.SAMPLES],
    }
    return show(request, access, "runs/trial.html", context)


@require_GET
@team_view
def trial_recipe(request: HttpRequest, access: Access, number: int, index: int) -> JsonResponse:
    """The recipe as a file."""
    run = selectors.run(access, number)
    recipe = _reports_of(run, index)[0].recipe
    headers = {"Content-Disposition": f'attachment; filename="{run.label}-trial-{index}-recipe.json"'}
    return JsonResponse(to_jsonable(recipe), headers=headers, json_dumps_params={"indent": 2})


@require_GET
@team_view
def run_pareto(request: HttpRequest, access: Access, number: int) -> HttpResponse:
    """Raced trials on two chosen axes."""
    run = selectors.run(access, number)
    reports, outcome = selectors.reports(run), selectors.outcome(run)
    evidence = gather(reports, price=price_of(run.agent, current_book(access.team)))
    choices = axis_choices(evidence)
    x = _axis_of(request, "x", choices, "latency_p50_ms")
    y = _axis_of(request, "y", choices, "cost_usd_per_million_inferences")
    log = frozenset(request.GET.getlist("log"))
    picks = outcome.picks if outcome else {}
    figure = pareto_figure(
        evidence,
        x=x,
        y=y,
        log=log,
        outcome=outcome,
        picks=picks,
        targets=selectors.spec(run.experiment).targets,
        width=chart_width(request),
        trial_link=trial_link(access, run),
    )
    axes = [
        {"name": name, "chosen": chosen, "log": name in log, "options": [{"name": one, "title": title_of(one)} for one in choices]}
        for name, chosen in (("x", x), ("y", y))
    ]
    context = {
        **run_context(access, run, "run-pareto"),
        "axes": axes if choices else [],
        "figure": figure,
        "picks": pick_views(picks, {one.trial: one.label for one in evidence.values()}),
        "trials": trial_lines(reports, outcome=outcome),
        "missing": "Only raced trials have numbers that may be drawn; screening is provisional.",
    }
    return show(request, access, "runs/pareto.html", context)


@require_GET
@team_view
def run_environment(request: HttpRequest, access: Access, number: int) -> HttpResponse:
    """Machine, fingerprint and history of the run."""
    run = selectors.run(access, number)
    profile = hardware(run.agent)
    context = {
        **run_context(access, run, "run-environment"),
        "machine": machine_facts(profile) if profile else [],
        "fingerprint": fingerprint_facts(selectors.reports(run)),
        "events": [_event_view(event) for event in selectors.events(run)],
    }
    return show(request, access, "runs/environment.html", context)


@require_GET
@team_view
def run_log(request: HttpRequest, access: Access, number: int) -> HttpResponse:
    """The stored log, to read or to save."""
    run = selectors.run(access, number)
    text = selectors.log_text(run)
    if request.GET.get("download"):
        headers = {"Content-Disposition": f'attachment; filename="{run.label}.log"', "X-Content-Type-Options": "nosniff"}
        return HttpResponse(text, content_type="application/octet-stream", headers=headers)
    context = {**run_context(access, run, "run-log"), "lines": log_lines(text, last=LOG_PAGE_LINES), "total": len(text.splitlines())}
    return show(request, access, "runs/log.html", context)


def live_context(access: Access, run: Run) -> dict[str, Any]:
    """The live page, with the id of the last event that it contains."""
    after = latest_id(run.public_id)
    reports = selectors.reports(run)
    trials = trial_lines(reports)
    view = live_view(run, ahead=selectors.queue_position(run))
    return {
        **run_context(access, run, "run"),
        "after": after,
        "token": token(run, stages=len(reports)),
        "trials": trials,
        "best": best_of(trials),
        "lines": log_lines(selectors.log_text(run), last=LOG_LINES),
        "steps": view.steps,
        "headline": view.headline,
        "eta": view.eta,
        "notice": view.notice,
        "share": view.share,
    }


def log_lines(text: str, *, last: int) -> list[LogLine]:
    """The last lines, printable and numbered from the log's first."""
    lines = text.splitlines()
    start = max(0, len(lines) - last)
    return [LogLine(number=start + place + 1, text=clean_line(line, limit=2000)) for place, line in enumerate(lines[start:])]


def fingerprint_facts(reports: list[StageReport]) -> list[Fact]:
    """The environment that the trials recorded; the race's where there is one."""
    recorded = [report for report in reports if report.environment]
    chosen = next((one for one in recorded if one.stage is Stage.RACE), recorded[-1] if recorded else None)
    return environment_facts(chosen.environment) if chosen else []


def _show_ended(request: HttpRequest, access: Access, run: Run) -> HttpResponse:
    title, advice = ENDINGS[RunState(run.state)]
    words = clean_line(run.error_detail, limit=1000) or sentence(run.error_code)
    context = {
        **run_context(access, run, "run"),
        "ended": {"title": title, "words": words, "advice": advice},
        "trials": trial_lines(selectors.reports(run)),
    }
    return show(request, access, "runs/ended.html", context)


def _reports_of(run: Run, index: int) -> list[StageReport]:
    found = [report for report in selectors.reports(run) if report.trial == index]
    if not found:
        raise NotFound
    return found


def _stage_view(report: StageReport) -> StageView:
    tone = "good" if report.status is StageStatus.OK else "bad"
    return StageView(name=report.stage.value.capitalize(), tone=tone, words=clean_line(stage_words(report), limit=400))


def _groups(access: Access, reports: list[StageReport]) -> list[NumberGroup]:
    """Measurements by stage; what was screened says that it decides nothing."""
    link = samples_link(access)
    return [
        NumberGroup(
            title=STAGE_TITLES[report.stage],
            note="Provisional: screening orders the queue and never reaches a scorecard." if report.stage is Stage.SCREEN else "",
            rows=[number_view(one, place=report.stage.value, samples=link) for one in report.measurements],
        )
        for report in reports
        if report.measurements
    ]


def _axis_of(request: HttpRequest, name: str, choices: list[str], default: str) -> str:
    wanted = request.GET.get(name, "")
    if wanted in choices:
        return wanted
    return default if default in choices or not choices else choices[0]


def _event_view(event: RunEvent) -> EventView:
    words = event.event.replace("_", " ").capitalize()
    arrow = f"{words}: {event.from_state or 'new'} → {event.to_state}" if event.from_state != event.to_state else words
    detail = ", ".join(f"{name}: {value}" for name, value in event.detail.items()) if isinstance(event.detail, dict) else ""
    return EventView(words=arrow, detail=clean_line(detail, limit=300), attempt=event.attempt, at=event.created_at)

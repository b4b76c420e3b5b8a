"""The first page of a team, and the way to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods

from optimizer.specs import Budget
from parka.accounts.access import Access, Capability
from parka.accounts.models import User
from parka.accounts.selectors import teams
from parka.accounts.services import create_team
from parka.core.addresses import client_address
from parka.core.errors import PlatformError
from parka.dashboard.facts import seen_lately
from parka.dashboard.forms import TeamForm
from parka.dashboard.pages import show, team_view
from parka.dashboard.run_cards import RunLine, run_lines
from parka.dashboard.shell import queue
from parka.experiments.models import ACTIVE, TERMINAL, RunState
from parka.experiments.selectors import runs
from parka.fleet.selectors import agents
from parka.registry.models import Intake
from parka.registry.selectors import all_versions

RECENT = 10
MOST_ATTENTION = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstStep:
    """A line of the checklist; ``next`` marks the first open one."""

    title: str
    words: str
    button: str
    href: str
    done: bool
    next: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Something a person should look at."""

    tone: str
    kind: str
    words: str
    button: str
    href: str


@login_required
@require_http_methods(["GET", "POST"])
def entrance(request: HttpRequest) -> HttpResponse:
    """``/``: the person's first team, or making one."""
    user = cast(User, request.user)
    first = teams(user).first()
    if first is not None:
        return redirect("home", first.slug)
    form = TeamForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            return redirect("home", create_team(user, name=form.cleaned_data["name"], address=client_address(request)).slug)
        except PlatformError as error:
            form.take(error, fields={"/name": "name"})
    return render(request, "none.html", {"form": form}, status=422 if form.errors else 200)


@require_GET
@team_view
def home(request: HttpRequest, access: Access) -> HttpResponse:
    """What runs, what ended, what needs a look; for a new team the way to its first scorecard."""
    active = run_lines(access, list(runs(access).filter(state__in=(*ACTIVE, RunState.QUEUED))[:RECENT]))
    recent = run_lines(access, list(runs(access).filter(state__in=TERMINAL).order_by("-finished_at", "-number")[:RECENT]))
    steps = first_steps(access, recent)
    context = {
        "title": "Home",
        "section": "home",
        "subtitle": access.team.name,
        "first_steps": steps,
        "first_minutes": round(Budget().total_s / 60) + 1,
        "active": active,
        "recent": recent,
        "attention": attention(access, recent),
        "live": bool(active),
        "may_upload": access.may(Capability.UPLOAD),
    }
    return show(request, access, "home.html", context, fragment="_home.html")


@require_GET
@team_view
def queue_badge(request: HttpRequest, access: Access) -> HttpResponse:
    """How many runs are at work and waiting, for the top of every page."""
    return render(request, "_queue.html", {"team": access.team, "shell": queue(access)})


def first_steps(access: Access, recent: list[RunLine]) -> list[FirstStep]:
    """The checklist, until the first scorecard exists."""
    if any(line.card for line in recent):
        return []
    slug = access.team.slug
    has_agent = agents(access).exclude(profile=None).exists()
    has_model = all_versions(access).filter(state=Intake.READY).exists()
    has_run = runs(access).exists()
    steps = [
        (
            "An agent",
            "The machine whose speed you want to know. On one machine it registers itself.",
            "Agents",
            reverse("agents", args=[slug]),
            has_agent,
        ),
        ("A model", "An ONNX file. Parka reads it without running it.", "Upload model", reverse("model-new", args=[slug]), has_model),
        ("A quick experiment", "Its time is computed before you start.", "New experiment", reverse("experiment-new", args=[slug]), has_run),
        ("Read the scorecard", "It opens with one sentence and what it rests on.", "Runs", reverse("runs", args=[slug]), False),
    ]
    following = next(place for place, step in enumerate(steps) if not step[4])
    return [
        FirstStep(title=title, words=words, button=button, href=href, done=done, next=place == following)
        for place, (title, words, button, href, done) in enumerate(steps)
    ]


def attention(access: Access, recent: list[RunLine]) -> list[Attention]:
    """Failed runs and missed targets among the recent ones, then agents that went silent."""
    slug = access.team.slug
    found: list[Attention] = []
    for line in recent:
        href = reverse("run", args=[slug, line.run.label])
        where = f"{line.run.label} {line.run.experiment.version} on {line.run.agent.name}"
        if line.run.state in (RunState.FAILED, RunState.LOST):
            why = line.run.error_detail or line.run.get_state_display()
            found.append(Attention(tone="bad", kind="Failed", words=f"{where}: {why}", button="Open", href=href))
        elif line.card is not None and line.card.failed:
            missed = f"misses {line.card.failed} target{'s' if line.card.failed != 1 else ''}"
            found.append(Attention(tone="bad", kind="Missed", words=f"{where} {missed}", button="Open", href=href))
    for agent in agents(access):
        if seen_lately(agent) or agent.last_seen_at is None:
            continue
        href = reverse("agent", args=[slug, agent.slug])
        found.append(
            Attention(tone="attention", kind="Silent", words=f"{agent.name} is offline; its runs wait", button="Open agent", href=href)
        )
    return found[:MOST_ATTENTION]

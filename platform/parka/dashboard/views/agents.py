"""Agents: list, one of them, registration, drain, revoke."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from optimizer.score.cost import MachinePrice
from optimizer.score.wording import format_bytes
from optimizer.tools import readable
from parka.accounts.access import Access, Capability
from parka.core.errors import NotFound, PlatformError
from parka.core.text import clean_line
from parka.dashboard.facts import machine_facts, peaks, seen_lately
from parka.dashboard.forms import AgentForm
from parka.dashboard.pages import confirm_identity, crumb, show, team_view
from parka.experiments.models import ACTIVE, RunState
from parka.experiments.selectors import runs
from parka.fleet import selectors, services
from parka.fleet.models import Agent, AgentState
from parka.scorecards.selectors import current_book, price_of
from parka.workflow.agents import revoke_agent

WAITING = Q(runs__state__in=(*ACTIVE, RunState.QUEUED))


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentLine:
    """An agent in a list."""

    agent: Agent
    status: str
    tone: str
    machine: str
    cores: int | None
    memory: str
    sandbox: str
    waiting: int


@require_GET
@team_view
def agent_list(request: HttpRequest, access: Access) -> HttpResponse:
    """All agents that are not revoked; refreshes itself."""
    rows = selectors.agents(access).annotate(waiting=Count("runs", filter=WAITING))
    context = {
        "title": "Agents",
        "section": "agents",
        "subtitle": "Hardware that measures for this team",
        "lines": [agent_line(agent, online=seen_lately(agent), waiting=agent.waiting) for agent in rows],
        "may_manage": access.may(Capability.MANAGE_AGENTS),
    }
    return show(request, access, "agents/list.html", context, fragment="agents/_list.html")


@require_GET
@team_view
def agent_detail(request: HttpRequest, access: Access, slug: str) -> HttpResponse:
    """One agent: machine, price, runtimes, runs."""
    agent = selectors.agent(access, slug)
    profile = selectors.hardware(agent)
    context: dict[str, Any] = {
        "title": agent.name,
        "section": "agents",
        "crumbs": [crumb(access, "Agents", "agents")],
        "agent": agent,
        "line": agent_line(agent, online=selectors.is_online(agent), waiting=0),
        "machine": machine_facts(profile) if profile else [],
        "peaks": peaks(profile) if profile else [],
        "runtimes": sorted(
            (clean_line(readable(name), limit=60), clean_line(str(value), limit=80)) for name, value in agent.runtimes.items()
        ),
        "price": _price(access, agent),
        "runs": list(runs(access).filter(agent=agent)[:10]),
        "may_manage": access.may(Capability.MANAGE_AGENTS),
        "may_price": access.may(Capability.EDIT_PRICES),
    }
    return show(request, access, "agents/detail.html", context)


@require_http_methods(["GET", "POST"])
@team_view
def agent_new(request: HttpRequest, access: Access) -> HttpResponse:
    """Create an agent and show its registration command once."""
    access.require(Capability.MANAGE_AGENTS)
    confirm_identity(request)
    form = AgentForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            agent, token = services.create_agent(access, name=form.cleaned_data["name"])
            return _registration(request, access, agent, token)
        except PlatformError as error:
            form.take(error, fields={"/name": "name"})
    context = {"title": "Register agent", "section": "agents", "crumbs": [crumb(access, "Agents", "agents")], "form": form}
    return show(request, access, "agents/new.html", context, status=422 if form.errors else 200)


@require_POST
@team_view
def agent_register(request: HttpRequest, access: Access, slug: str) -> HttpResponse:
    """Another one-time registration of an agent."""
    access.require(Capability.MANAGE_AGENTS)
    agent = selectors.agent(access, slug)
    confirm_identity(request)
    return _registration(request, access, agent, services.new_registration(access, agent))


@require_GET
@team_view
def agent_waiting(request: HttpRequest, access: Access, slug: str) -> HttpResponse:
    """Whether a new agent has registered."""
    agent = selectors.agent(access, slug)
    context = {"team": access.team, "agent": agent, "registered": agent.state != AgentState.PENDING}
    return render(request, "agents/_waiting.html", context)


@require_POST
@team_view
def agent_drain(request: HttpRequest, access: Access, slug: str) -> HttpResponse:
    """Let the agent finish and take nothing new."""
    agent = selectors.agent(access, slug)
    services.drain(access, agent)
    messages.success(request, f"{agent.name} finishes its run and takes no other.")
    return redirect("agent", access.team.slug, agent.slug)


@require_POST
@team_view
def agent_resume(request: HttpRequest, access: Access, slug: str) -> HttpResponse:
    """Let a draining agent take work again."""
    agent = selectors.agent(access, slug)
    services.resume(access, agent)
    messages.success(request, f"{agent.name} takes work again.")
    return redirect("agent", access.team.slug, agent.slug)


@require_http_methods(["GET", "POST"])
@team_view
def agent_revoke(request: HttpRequest, access: Access, slug: str) -> HttpResponse:
    """End an agent's credentials, after a question."""
    access.require(Capability.MANAGE_AGENTS)
    agent = selectors.agent(access, slug)
    confirm_identity(request)
    if request.method == "POST":
        revoke_agent(access, agent)
        messages.success(request, f"{agent.name} is revoked.")
        return redirect("agents", access.team.slug)
    context = {"title": f"Revoke {agent.name}?", "section": "agents", "crumbs": [crumb(access, "Agents", "agents")], "agent": agent}
    return show(request, access, "agents/revoke.html", context)


def agent_line(agent: Agent, *, online: bool, waiting: int) -> AgentLine:
    """Status as a person reads it, machine as probed."""
    profile = selectors.hardware(agent)
    status, tone = _status(agent, online=online)
    return AgentLine(
        agent=agent,
        status=status,
        tone=tone,
        machine=clean_line(profile.cpu_model, limit=60) if profile else "",
        cores=profile.cores if profile else None,
        memory=format_bytes(profile.memory_bytes if profile else None),
        sandbox=_sandbox(agent.sandbox_level),
        waiting=waiting,
    )


def _status(agent: Agent, *, online: bool) -> tuple[str, str]:
    if agent.state == AgentState.REVOKED:
        return "Revoked", "bad"
    if agent.state == AgentState.PENDING:
        return "Not registered", ""
    if not online:
        return "Offline", "attention"
    return ("Draining", "attention") if agent.state == AgentState.DRAINING else ("Online", "good")


def _sandbox(level: str) -> str:
    return {"": "—", "C": "C: none, own machine"}.get(level, f"level {level}")


def _price(access: Access, agent: Agent) -> MachinePrice | None:
    try:
        return price_of(agent, current_book(access.team))
    except NotFound:
        return None


def _registration(request: HttpRequest, access: Access, agent: Agent, token: str) -> HttpResponse:
    """The command with its token, which is shown once: the answer is never stored by a browser."""
    context = {
        "title": f"Register {agent.name}",
        "section": "agents",
        "crumbs": [crumb(access, "Agents", "agents")],
        "agent": agent,
        "token": token,
        "server": request.build_absolute_uri("/").rstrip("/"),
        "registered": False,
    }
    response = show(request, access, "agents/registered.html", context)
    response["Cache-Control"] = "no-store"
    return response

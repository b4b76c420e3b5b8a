"""What every page of a run shares: heading, tabs, actions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest
from django.urls import reverse

from optimizer.codec import from_jsonable
from optimizer.score.wording import format_duration_range
from optimizer.search.plan import Estimate
from parka.accounts.access import Access, Capability
from parka.dashboard.figures import width_of
from parka.dashboard.pages import crumb
from parka.dashboard.run_cards import took
from parka.experiments.models import Run, RunState

TABS = (("run", "Scorecard"), ("run-trials", "Trials"), ("run-pareto", "Pareto"), ("run-environment", "Environment"), ("run-log", "Log"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tab:
    """A page of a run."""

    key: str
    label: str
    href: str
    count: int | None = None


def run_context(access: Access, run: Run, tab: str) -> dict[str, Any]:
    """The frame of a run's page."""
    return {
        "title": f"{run.experiment.version} on {run.agent.name}",
        "section": "runs",
        "crumbs": [crumb(access, "Runs", "runs"), crumb(access, run.label, "run", run.label)],
        "run": run,
        "tabs": run_tabs(access, run),
        "tab_now": tab,
        "took": took(run),
        "said": said(run),
        "may_run": access.may(Capability.RUN),
        "may_cancel": may_cancel(access, run),
        "may_price": access.may(Capability.EDIT_PRICES),
        "compare_href": _compare_href(access, run),
    }


def run_tabs(access: Access, run: Run) -> list[Tab]:
    """The pages that a run has in its state."""
    first = "Scorecard" if run.state == RunState.FINISHED else "Result" if run.is_terminal else "Live"
    named = [(key, first if key == "run" else label) for key, label in TABS]
    return [Tab(key=key, label=label, href=reverse(key, args=[access.team.slug, run.label])) for key, label in named]


def may_cancel(access: Access, run: Run) -> bool:
    """One's own runs with the right to run, others' with the right to cancel any."""
    if run.is_terminal or run.state == RunState.CANCELLING:
        return False
    own = run.experiment.created_by_id == access.user.pk
    return access.may(Capability.RUN if own else Capability.CANCEL_ANY)


def said(run: Run) -> str:
    """The estimate that was given before the start, for this agent."""
    stored = run.experiment.estimate.get(run.agent.public_id) if isinstance(run.experiment.estimate, dict) else None
    if not stored:
        return ""
    estimate = from_jsonable(Estimate, stored)
    return format_duration_range(estimate.low_s, estimate.high_s)


def trial_link(access: Access, run: Run) -> Callable[[int], str]:
    """Address of a trial of the run."""
    return lambda trial: reverse("trial", args=[access.team.slug, run.label, trial])


def samples_link(access: Access) -> Callable[[str], str]:
    """Address of raw samples by their hash."""
    return lambda sha256: reverse("samples", args=[access.team.slug, sha256])


def chart_width(request: HttpRequest) -> int:
    """The width that this browser has room for."""
    return width_of(request.COOKIES.get("pk_w"))


def _compare_href(access: Access, run: Run) -> str:
    """The run's winner beside its baseline; empty before there is one."""
    winner = run.outcome.get("winner") if isinstance(run.outcome, dict) else None
    if run.state != RunState.FINISHED:
        return ""
    trials = [f"{run.label}/0", *([f"{run.label}/{winner}"] if winner else [])]
    return f"{reverse('compare', args=[access.team.slug])}?{urlencode({'runs': ','.join(trials)}, safe='/,')}"

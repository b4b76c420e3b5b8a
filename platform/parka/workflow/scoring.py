"""Scorecards from stored results: at the end of a run, and again whenever the prices change."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.db import transaction
from django.db.models.functions import Now

from parka.accounts.models import Team
from parka.experiments.models import Run, RunState
from parka.scorecards.models import PriceBook, Scorecard
from parka.scorecards.selectors import current_book
from parka.scorecards.services import store_scorecard
from parka.workflow.events import EventKind, publish

SCORED_WITHIN = timedelta(seconds=20)


@transaction.atomic
def score_run(run: Run) -> Scorecard | None:
    """Judge a finished run under the team's current prices; None for a run that did not finish. Safe to repeat."""
    if run.state != RunState.FINISHED:
        return None
    scorecard = store_scorecard(run, current_book(run.team))
    publish(run, EventKind.DONE, {"state": run.state})
    return scorecard


def rescore_team(team: Team) -> int:
    """Judge the team's finished runs under its newest prices; needs no hardware. Returns how many were scored."""
    book = current_book(team)
    return len([store_scorecard(run, book) for run in _unscored(team, book)])


def runs_without_scorecard() -> Iterator[Run]:
    """Runs that finished 20 s ago or earlier and have no scorecard: their message was lost."""
    rows = Run.objects.filter(state=RunState.FINISHED, scorecards=None, finished_at__lte=Now() - SCORED_WITHIN)
    yield from rows.order_by("id")


def _unscored(team: Team, book: PriceBook) -> Iterator[Run]:
    yield from Run.objects.filter(team=team, state=RunState.FINISHED).exclude(scorecards__book=book).order_by("-id").iterator()

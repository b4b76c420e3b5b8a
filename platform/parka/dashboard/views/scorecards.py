"""The scorecard of a run, as page, JSON and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_GET

from optimizer.score.rows import ScoreRow
from optimizer.score.scorecard import Scorecard
from optimizer.specs import Stage, StageReport
from parka.accounts.access import Access
from parka.core.text import clean_line
from parka.dashboard.cells import safe_cell
from parka.dashboard.facts import environment_facts, recipe_facts
from parka.dashboard.figures import headroom_figure, pick_views, race_figure
from parka.dashboard.pages import show, team_view
from parka.dashboard.run_pages import chart_width, run_context, samples_link, trial_link
from parka.dashboard.scores import headroom_rows, read_card, row_views, target_words, total_starts
from parka.dashboard.words import percent
from parka.experiments import selectors
from parka.experiments.models import Run
from parka.registry.models import Artifact, ArtifactRole
from parka.scorecards.models import Scorecard as StoredScorecard
from parka.scorecards.selectors import scorecard

LOUD = ("synthetic", "level C", "soak_drift")
HEADS = ("kpi", "value", "unit", "ci_low", "ci_high", "n", "starts", "provenance", "target", "verdict", "reason")
SHORT_ENVIRONMENT = 6


def show_scorecard(request: HttpRequest, access: Access, run: Run, stored: StoredScorecard) -> HttpResponse:
    """The page of a finished run."""
    card = read_card(stored)
    reports, outcome = selectors.reports(run), selectors.outcome(run)
    labels = {report.trial: report.recipe.label for report in reports}
    rows = row_views(card, samples=samples_link(access))
    width = chart_width(request)
    duels = outcome.duels if outcome else ()
    spec = selectors.spec(run.experiment)
    loud, quiet = _warnings(card)
    context = {
        **run_context(access, run, "run"),
        "card": card,
        "book": stored.book,
        "rows": rows,
        "starts": total_starts(rows),
        "headroom": headroom_figure(headroom_rows(card), width=width),
        "race": race_figure(duels, labels, objective=spec.objective, margin=card.margin, width=width, trial_link=trial_link(access, run)),
        "recipe_facts": _recipe_facts(reports, card.trial),
        "picks": pick_views(card.picks, labels),
        "download": _deployable(run, card.trial),
        "utilization": percent(card.price.utilization),
        "environment": _environment(reports, card.trial)[:SHORT_ENVIRONMENT],
        "not_tried": [
            {"label": clean_line(one.label, limit=200), "reason": clean_line(one.reason, limit=400)}
            for one in (outcome.not_tried if outcome else ())
        ],
        "loud_warnings": loud,
        "quiet_warnings": quiet,
    }
    return show(request, access, "runs/scorecard.html", context)


@require_GET
@team_view
def scorecard_json(request: HttpRequest, access: Access, number: int) -> JsonResponse:
    """The stored scorecard."""
    run = selectors.run(access, number)
    headers = {"Content-Disposition": f'attachment; filename="{run.label}-scorecard.json"'}
    return JsonResponse(scorecard(access, run).body, headers=headers, json_dumps_params={"indent": 2})


@require_GET
@team_view
def scorecard_csv(request: HttpRequest, access: Access, number: int) -> HttpResponse:
    """The KPI table with its interval columns."""
    run = selectors.run(access, number)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(HEADS)
    writer.writerows(_csv_row(row) for row in read_card(scorecard(access, run)).rows)
    headers = {"Content-Disposition": f'attachment; filename="{run.label}-kpis.csv"', "X-Content-Type-Options": "nosniff"}
    return HttpResponse(text.getvalue(), content_type="text/csv; charset=utf-8", headers=headers)


def _csv_row(row: ScoreRow) -> list[Any]:
    one = row.measurement
    numbers = [one.value, one.unit, one.ci_low, one.ci_high, one.n, one.starts, str(one.provenance)] if one else [None] * 7
    cells = [row.kpi, *numbers, target_words(row.target), str(row.verdict or row.standing), row.reason]
    return [safe_cell(cell) for cell in cells]


def _warnings(card: Scorecard) -> tuple[list[str], list[str]]:
    """What must be seen beside the answer, and what is good to know."""
    loud = [warning for warning in card.warnings if any(word in warning for word in LOUD)]
    return loud, [warning for warning in card.warnings if warning not in loud]


def _recipe_facts(reports: Sequence[StageReport], trial: int) -> list[Any]:
    recipe = next((report.recipe for report in reports if report.trial == trial), None)
    return recipe_facts(recipe) if recipe else []


def _environment(reports: Sequence[StageReport], trial: int) -> list[Any]:
    own = [report for report in reports if report.trial == trial and report.environment]
    raced = next((report for report in own if report.stage is Stage.RACE), own[-1] if own else None)
    return environment_facts(raced.environment) if raced else []


def _deployable(run: Run, trial: int) -> Artifact | None:
    """The judged trial's own model file; for the original the upload itself."""
    if trial == 0:
        return run.experiment.version.artifact
    row = selectors.trials(run).filter(index=trial).first()
    stored = [artifact for stage in row.stages.all() for artifact in stage.artifacts.all()] if row else []
    bundle = [one for one in stored if one.role == ArtifactRole.BUNDLE]
    return next(iter(bundle or [one for one in stored if one.role == ArtifactRole.OPTIMIZED]), None)

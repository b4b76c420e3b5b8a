"""Celery's interface to the workflow: each task loads its row and calls one service; deliveries may repeat."""

from __future__ import annotations

from parka.accounts.models import Team
from parka.celery import app
from parka.experiments.models import Run
from parka.workflow import intake, scoring, sweeper
from parka.workflow.measuring import is_measuring


@app.task  # type: ignore[untyped-decorator]
def ingest_version(version_id: int) -> None:
    """Inspect an uploaded model; while this machine is timing the sweeper sends it again later."""
    if not is_measuring():
        intake.inspect_version(version_id)


@app.task  # type: ignore[untyped-decorator]
def ingest_dataset(dataset_id: int) -> None:
    """Inspect an uploaded dataset; while this machine is timing the sweeper sends it again later."""
    if not is_measuring():
        intake.inspect_dataset(dataset_id)


@app.task  # type: ignore[untyped-decorator]
def score_run(run_id: int) -> None:
    """Judge a finished run; while this machine is timing the sweeper sends it again later."""
    run = Run.objects.select_related("team", "experiment", "agent").filter(pk=run_id).first()
    if run is not None and not is_measuring():
        scoring.score_run(run)


@app.task  # type: ignore[untyped-decorator]
def rescore_team(team_id: int) -> None:
    """Judge a team's finished runs under its newest prices."""
    team = Team.objects.filter(pk=team_id).first()
    if team is not None:
        scoring.rescore_team(team)


@app.task  # type: ignore[untyped-decorator]
def sweep() -> None:
    """The beat's task."""
    sweeper.sweep()

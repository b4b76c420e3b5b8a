"""Reading experiments and runs, always from the team; reports and outcome come back as the engine's own values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.functions import Coalesce

from optimizer.codec import from_jsonable
from optimizer.specs import SearchOutcome, SearchSpec, Stage, StageReport
from parka.accounts.access import Access, Capability
from parka.core.errors import NotFound
from parka.experiments.models import ACTIVE, Experiment, Run, RunEvent, RunState, Trial, TrialStage

Row = TypeVar("Row", Experiment, Run)
STAGE_ORDER = {stage: place for place, stage in enumerate(Stage)}


def experiments(access: Access) -> QuerySet[Experiment]:
    """Experiments of the team, newest first, each with its version, dataset, author and runs."""
    access.require(Capability.READ)
    rows = Experiment.objects.filter(team=access.team).select_related("version__model", "version__artifact", "dataset", "created_by")
    return rows.prefetch_related("targets", "runs__agent").order_by("-number")


def experiment(access: Access, number: int) -> Experiment:
    """One experiment by its number in the team. Raises NotFound."""
    return _one(experiments(access).filter(number=number))


def experiment_by_id(access: Access, public_id: str) -> Experiment:
    """One experiment by its public id. Raises NotFound."""
    return _one(experiments(access).filter(public_id=public_id))


def runs(access: Access) -> QuerySet[Run]:
    """Runs of the team, newest first, each with its experiment, model version and agent."""
    access.require(Capability.READ)
    rows = Run.objects.filter(team=access.team)
    return rows.select_related("team", "experiment__version__model", "experiment__dataset", "agent__profile").order_by("-number")


def run(access: Access, number: int) -> Run:
    """One run by its number in the team. Raises NotFound."""
    return _one(runs(access).filter(number=number))


def run_by_id(access: Access, public_id: str) -> Run:
    """One run by its public id. Raises NotFound."""
    return _one(runs(access).filter(public_id=public_id))


def trials(run: Run) -> QuerySet[Trial]:
    """Trials of a run in order, each with its accepted stages and their artifacts."""
    return Trial.objects.filter(run=run).prefetch_related("stages__artifacts").order_by("index")


def reports(run: Run) -> list[StageReport]:
    """The accepted stage reports by trial, then stage."""
    rows = TrialStage.objects.filter(trial__run=run).values_list("report", flat=True)
    found = [from_jsonable(StageReport, report) for report in rows]
    return sorted(found, key=lambda report: (report.trial, STAGE_ORDER[report.stage]))


def outcome(run: Run) -> SearchOutcome | None:
    """The search's answer once the run has finished."""
    return None if run.outcome is None else from_jsonable(SearchOutcome, run.outcome)


def spec(experiment: Experiment) -> SearchSpec:
    """The question as the engine reads it."""
    return from_jsonable(SearchSpec, experiment.spec)


def events(run: Run) -> QuerySet[RunEvent]:
    """State changes of a run, oldest first."""
    return RunEvent.objects.filter(run=run).order_by("id")


def state_counts(access: Access) -> dict[str, int]:
    """How many runs of the team are in each state; states without runs are absent."""
    access.require(Capability.READ)
    return dict(Run.objects.filter(team=access.team).values_list("state").annotate(n=Count("id")))


def waiting_count(access: Access) -> int:
    """Runs queued or being worked on."""
    access.require(Capability.READ)
    return Run.objects.filter(team=access.team, state__in=(RunState.QUEUED, *ACTIVE)).count()


def queue_position(run: Run) -> int:
    """How many runs the agent will take before this one, the one it works on included; 0 when next or not queued."""
    if run.state != RunState.QUEUED:
        return 0
    earlier = Q(priority__lt=run.priority) | Q(priority=run.priority, id__lt=run.pk)
    ahead = Q(state__in=ACTIVE) | (Q(state=RunState.QUEUED) & earlier)
    return Run.objects.filter(ahead, agent_id=run.agent_id).count()


def log_text(run: Run, *, attempt: int | None = None) -> str:
    """The stored log of an attempt; of the latest one that logged when None."""
    rows = run.log_pieces.all()
    wanted = attempt if attempt is not None else rows.values_list("attempt", flat=True).order_by("-attempt").first()
    return "" if wanted is None else "".join(rows.filter(attempt=wanted).order_by("offset_bytes").values_list("text", flat=True))


def log_size_bytes(run: Run, *, attempt: int) -> int:
    """Where the log of an attempt ends."""
    return int(run.log_pieces.filter(attempt=attempt).aggregate(size=Coalesce(Sum("size_bytes"), 0))["size"])


def finished_stages(reports: Iterable[StageReport]) -> dict[int, list[Stage]]:
    """Accepted stages per trial, in order."""
    found: dict[int, list[Stage]] = {}
    for report in reports:
        found.setdefault(report.trial, []).append(report.stage)
    return found


def _one(rows: QuerySet[Row]) -> Row:
    row = rows.first()
    if row is None:
        raise NotFound
    return row

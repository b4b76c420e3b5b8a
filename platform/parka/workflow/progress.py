"""Tell live pages what changed; called inside the transaction of the change, sent after its commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optimizer.specs import StageReport
from parka.experiments.models import Run, RunState
from parka.workflow.events import EventKind, publish
from parka.workflow.queue import ServerTask, enqueue

LOG_EXCERPT = 16 * 1024


def announce(run_ids: Sequence[int]) -> None:
    """Publish the state of these runs; a finished one is sent to be scored."""
    for run in Run.objects.filter(pk__in=run_ids):
        publish(run, EventKind.STATUS, status_of(run))
        if run.state == RunState.FINISHED:
            enqueue(ServerTask.SCORE_RUN, run.pk)
        elif run.is_terminal:
            publish(run, EventKind.DONE, {"state": run.state})


def announce_stage(run: Run, report: StageReport) -> None:
    """A trial's row changed."""
    publish(run, EventKind.TRIAL, {"trial": report.trial, "stage": report.stage, "status": report.status})


def announce_progress(run: Run) -> None:
    """Phase and progress as the last heartbeat told them."""
    publish(run, EventKind.ETA, status_of(run))


def announce_log(run: Run, text: str, *, attempt: int, offset: int) -> None:
    """New lines of the log; the rest is read from the rows."""
    publish(run, EventKind.LOG, {"attempt": attempt, "offset": offset, "text": text[-LOG_EXCERPT:]})


def status_of(run: Run) -> dict[str, Any]:
    """State, phase and progress as a payload."""
    return {"state": run.state, "phase": run.phase, "attempt": run.attempt, "progress": run.progress}

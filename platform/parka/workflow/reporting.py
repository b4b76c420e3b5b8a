"""What an agent's reports do: store under the fence, then tell live pages and the scorer."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from optimizer.specs import Stage
from parka.core.errors import Conflict
from parka.experiments.lifecycle import Fence, own_run
from parka.experiments.models import ACTIVE, Run, RunState
from parka.experiments.records import Result, append_log, record_result, record_stage
from parka.registry import owners
from parka.workflow.progress import announce, announce_log, announce_stage
from parka_agent.protocol import RunReport, TrialReport


@transaction.atomic
def take_stage(fence: Fence, message: TrialReport, *, trial: int, stage: Stage, body_sha256: str) -> bool:
    """Store a stage report; False when it was stored before. Raises what ``record_stage`` raises and InputError."""
    report = message.report(trial=trial, stage=stage)
    fresh = record_stage(fence, report, body_sha256=body_sha256)
    if fresh:
        announce_stage(own_run(fence.agent, fence.run), report)
    return fresh


def take_result(fence: Fence, message: RunReport, *, body: dict[str, Any], body_sha256: str) -> RunState:
    """Store the end of an attempt; a late one is kept as an orphan and refused. Raises what ``record_result`` raises."""
    error = message.error
    result = Result(
        status=message.status,
        body=body,
        body_sha256=body_sha256,
        outcome=message.search_outcome(),
        error_code=error.code if error else "",
        error_detail=error.detail if error else "",
    )
    state = record_result(fence, result)
    announce([own_run(fence.agent, fence.run).pk])
    return state


@transaction.atomic
def take_log(fence: Fence, *, offset: int, piece: bytes) -> None:
    """Append to the attempt's log. Raises what ``append_log`` raises."""
    text = append_log(fence, offset=offset, piece=piece)
    if text:
        announce_log(own_run(fence.agent, fence.run), text, attempt=fence.attempt, offset=offset)


def upload_owner(fence: Fence) -> owners.Fence:
    """The right to upload for an attempt that holds its lease. Raises NotFound ``run.not_found``; Conflict ``lease.stale``."""
    run = held_run(fence)
    return owners.Fence(team=run.team, key=f"{fence.run}:{fence.attempt}:{fence.claim_id}")


def held_run(fence: Fence) -> Run:
    """The run, while this execution owns it. Raises NotFound ``run.not_found``; Conflict ``lease.stale``."""
    run = own_run(fence.agent, fence.run)
    if not fence.rows.filter(state__in=ACTIVE).exists():
        raise Conflict("lease.stale")
    return run

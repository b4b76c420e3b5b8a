"""What an agent reports about a run: stages of trials, the final result, the log. Accepted only under a valid fence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import F, Q

from optimizer.codec import from_jsonable, to_jsonable
from optimizer.specs import SearchOutcome, SearchSpec, StageReport
from parka.core.errors import Conflict, Refused, TooLarge
from parka.core.text import clean_line
from parka.experiments.lifecycle import Event, Fence, attempt_age_s, move, own_run, requeue_or_lose
from parka.experiments.models import ACTIVE, LogPiece, Reception, Run, RunResult, RunState, Trial, TrialStage
from parka.experiments.result_checks import check_outcome, check_report, largest_batch
from parka.experiments.selectors import log_size_bytes
from parka.registry.models import Artifact
from parka_agent.protocol import LOG_BYTES, RunStatus

STALE = "lease.stale"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The end of an attempt. ``body`` is the message as received, ``body_sha256`` its identity."""

    status: RunStatus
    body: dict[str, Any]
    body_sha256: str
    outcome: SearchOutcome | None = None
    error_code: str = ""
    error_detail: str = ""


def record_stage(fence: Fence, report: StageReport, *, body_sha256: str) -> bool:
    """Store a stage report; False when this very report is stored already. A later attempt's report replaces an earlier one's.

    Raises NotFound ``run.not_found``; Conflict ``lease.stale``, ``result.conflict``; Refused ``result.invalid``.
    """
    run = own_run(fence.agent, fence.run)
    with transaction.atomic():
        _hold(run)
        if _is_known(run, report, body_sha256=body_sha256):
            return False
        if not fence.rows.filter(state__in=ACTIVE).exists():
            raise Conflict(STALE)
        spec = from_jsonable(SearchSpec, run.experiment.spec)
        batch = largest_batch(run.experiment.version.card, spec.bindings)
        check_report(report, elapsed_s=attempt_age_s(run), batch=batch)
        artifacts = _artifacts(run, report)
        stage = _store_stage(_trial(run, report), report, attempt=fence.attempt, body_sha256=body_sha256)
        stage.artifacts.set(artifacts)
    return True


def record_result(fence: Fence, result: Result) -> RunState:
    """Store how an attempt ended and move the run; a repeated result changes nothing and answers as before.

    Raises NotFound ``run.not_found``; Conflict ``lease.stale`` (kept as an orphan), ``result.conflict``; Refused ``result.invalid``.
    """
    run = own_run(fence.agent, fence.run)
    with transaction.atomic():
        _hold(run)
        reception = _received_before(run, fence, result) or _receive(run, fence, result)
    if reception is Reception.ORPHAN:
        raise Conflict(STALE)
    run.refresh_from_db(fields=["state"])
    return RunState(run.state)


def append_log(fence: Fence, *, offset: int, piece: bytes) -> str:
    """Append UTF-8 at ``offset`` of the attempt's log; the stored text, empty when that piece is there already.

    Raises NotFound; Conflict ``lease.stale``, ``log.offset``; TooLarge ``log.full``.
    """
    run = own_run(fence.agent, fence.run)
    with transaction.atomic():
        _hold(run)
        if not fence.rows.filter(state__in=ACTIVE).exists():
            raise Conflict(STALE)
        end = log_size_bytes(run, attempt=fence.attempt)
        if run.log_pieces.filter(attempt=fence.attempt, offset_bytes=offset, size_bytes=len(piece)).exists():
            return ""
        if offset != end:
            raise LogOffset(end)
        if end + len(piece) > LOG_BYTES:
            raise TooLarge("log.full")
        text = piece.decode("utf-8", "replace").replace("\x00", "�")
        LogPiece.objects.create(run=run, attempt=fence.attempt, offset_bytes=offset, size_bytes=len(piece), text=text)
    return text


class LogOffset(Conflict):
    """The log ends elsewhere; ``offset`` says where."""

    def __init__(self, offset: int) -> None:
        super().__init__("log.offset")
        self.offset = offset


def _hold(run: Run) -> None:
    """Lock the run's row until the transaction ends, on both databases."""
    Run.objects.filter(pk=run.pk).update(attempt=F("attempt"))


def _is_known(run: Run, report: StageReport, *, body_sha256: str) -> bool:
    same = TrialStage.objects.filter(trial__run=run, trial__index=report.trial, stage=report.stage, body_sha256=body_sha256)
    return same.exists()


def _artifacts(run: Run, report: StageReport) -> list[Artifact]:
    found = []
    for ref in report.artifacts:
        rows = Artifact.objects.filter(team_id=run.team_id, sha256=ref.sha256, role=ref.role, size_bytes=ref.size_bytes, missing=False)
        artifact = rows.first()
        if artifact is None:
            raise Refused("result.invalid", f"The {clean_line(ref.role, limit=20)} {ref.sha256[:12]}… was not uploaded.")
        found.append(artifact)
    return found


def _trial(run: Run, report: StageReport) -> Trial:
    key = report.recipe.key
    trial = Trial.objects.filter(Q(index=report.trial) | Q(recipe_key=key), run=run).first()
    if trial is None:
        label = clean_line(report.recipe.label, limit=255)
        return Trial.objects.create(run=run, index=report.trial, recipe=to_jsonable(report.recipe), recipe_key=key, label=label)
    if trial.index != report.trial or trial.recipe_key != key:
        raise Conflict("result.conflict", f"Trial {trial.index} is known under another recipe.")
    return trial


def _store_stage(trial: Trial, report: StageReport, *, attempt: int, body_sha256: str) -> TrialStage:
    content = {
        "attempt": attempt,
        "body_sha256": body_sha256,
        "status": report.status,
        "error_code": report.failure.code[:60] if report.failure else "",
        "report": to_jsonable(report),
    }
    earlier = TrialStage.objects.filter(trial=trial, stage=report.stage)
    if earlier.filter(attempt__lt=attempt).update(**content):
        return earlier.get()
    if earlier.exists():
        raise Conflict("result.conflict")
    return TrialStage.objects.create(trial=trial, stage=report.stage, **content)


def _received_before(run: Run, fence: Fence, result: Result) -> Reception | None:
    """What became of this very result; Conflict when another one of the same execution was taken."""
    of_execution = RunResult.objects.filter(run=run, attempt=fence.attempt, claim_id=fence.claim_id)
    known = of_execution.filter(body_sha256=result.body_sha256).first()
    if known is not None:
        return Reception(known.reception)
    if of_execution.exclude(reception=Reception.ORPHAN).exists():
        raise Conflict("result.conflict")
    return None


def _receive(run: Run, fence: Fence, result: Result) -> Reception:
    _check_result(run, result)
    reception = _apply(run, fence, result)
    RunResult.objects.create(
        run=run,
        attempt=fence.attempt,
        claim_id=fence.claim_id,
        body_sha256=result.body_sha256,
        body=result.body,
        reception=reception,
    )
    return reception


def _apply(run: Run, fence: Fence, result: Result) -> Reception:
    """Rows 5, 6, 7, 13 and 16 of the state table."""
    own = Q(agent=fence.agent, attempt=fence.attempt, claim_id=fence.claim_id)
    error: dict[str, Any] = {"error_code": result.error_code[:60], "error_detail": clean_line(result.error_detail, limit=1000)}
    if move(run.pk, Event.CANCELLED, own, detail={"by": "agent"}):
        return Reception.ACCEPTED
    if result.status is RunStatus.OK:
        body = None if result.outcome is None else to_jsonable(result.outcome)
        moved = move(run.pk, Event.FINISHED, own, outcome=body, phase="score")
    elif result.status is RunStatus.FAILED:
        moved = move(run.pk, Event.FAILED, own, **error)
    else:
        return Reception.RELEASED if requeue_or_lose(run.pk, Event.RELEASED, own) else Reception.ORPHAN
    return Reception.ACCEPTED if moved else Reception.ORPHAN


def _check_result(run: Run, result: Result) -> None:
    if result.status is RunStatus.OK:
        if result.outcome is None:
            raise Refused("result.invalid", "A result that is ok carries an outcome.")
        check_outcome(result.outcome, trials=_trial_numbers(run))
    elif result.status is RunStatus.FAILED and not result.error_code:
        raise Refused("result.invalid", "A failed result carries an error.")


def _trial_numbers(run: Run) -> Sequence[int]:
    return list(run.trials.values_list("index", flat=True))

"""The safety net: settles what time decided and sends again what a lost message left lying."""

from __future__ import annotations

from datetime import timedelta

import structlog
from django.core.cache import cache
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from redis.exceptions import RedisError

from parka.core.idempotency import purge_idempotency_records
from parka.experiments import lifecycle
from parka.experiments.models import Run, RunState
from parka.fleet.selectors import OFFLINE_AFTER
from parka.registry.models import Dataset, Intake, ModelVersion
from parka.registry.uploads import purge_expired_uploads
from parka.workflow.measuring import is_measuring
from parka.workflow.progress import announce
from parka.workflow.queue import ServerTask, enqueue
from parka.workflow.scoring import runs_without_scorecard
from parka.workflow.wakeup import wake_agents

log = structlog.get_logger(__name__)

WAKE_AFTER = timedelta(seconds=30)
WAKE_EVERY = timedelta(seconds=60)
UPLOADED_FOR = timedelta(seconds=20)
INSPECTED_FOR = timedelta(minutes=2)
RESEND_EVERY_S = 120


def sweep() -> None:
    """Every part is idempotent; a second sweeper at the same time does no harm."""
    settle_runs()
    wake_waiting()
    purge_expired_uploads()
    purge_idempotency_records()
    if not is_measuring():
        resend_work()


def settle_runs() -> list[int]:
    """Expired leases, cancel deadlines and queue times; returns the ids of the runs that changed."""
    with transaction.atomic():
        changed = lifecycle.sweep()
        announce(changed)
    if changed:
        log.info("runs_settled", runs=changed)
    return changed


def wake_waiting() -> int:
    """Wake agents seen lately whose runs have waited 30 s, then every 60 s; returns how many wake-ups were sent."""
    due = Q(woken_at=None, not_before_at__lte=Now() - WAKE_AFTER) | Q(woken_at__lte=Now() - WAKE_EVERY)
    rows = Run.objects.filter(due, state=RunState.QUEUED, agent__last_seen_at__gte=Now() - OFFLINE_AFTER).select_related("agent")
    waiting = list(rows)
    with transaction.atomic():
        Run.objects.filter(pk__in=[run.pk for run in waiting], state=RunState.QUEUED).update(woken_at=Now())
        wake_agents(waiting)
    return len(waiting)


def resend_work() -> None:
    """Uploads nobody inspected and finished runs nobody scored."""
    stuck = Q(state=Intake.UPLOADED, created_at__lte=Now() - UPLOADED_FOR)
    stuck |= Q(state=Intake.INSPECTING, created_at__lte=Now() - INSPECTED_FOR)
    for version_id in ModelVersion.objects.filter(stuck).values_list("pk", flat=True):
        _resend(ServerTask.INGEST_VERSION, version_id)
    for dataset_id in Dataset.objects.filter(stuck).values_list("pk", flat=True):
        _resend(ServerTask.INGEST_DATASET, dataset_id)
    for run in runs_without_scorecard():
        _resend(ServerTask.SCORE_RUN, run.pk)


def _resend(task: ServerTask, row_id: int) -> None:
    """At most once in two minutes for one row; without the broker there is nothing to send anyway."""
    try:
        if cache.add(f"resent:{task.value}:{row_id}", 1, timeout=RESEND_EVERY_S):
            enqueue(task, row_id)
    except (RedisError, OSError) as error:
        log.warning("work_not_resent", task=task.value, row=row_id, error=str(error))

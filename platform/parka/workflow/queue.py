"""The one place that sends work to the server's Celery workers: after commit, ids only, a lost message is re-sent by the sweeper."""

from __future__ import annotations

from enum import StrEnum

import structlog
from django.db import transaction
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from parka.celery import app

log = structlog.get_logger(__name__)


class ServerTask(StrEnum):
    """Tasks of ``workflow.tasks`` by name."""

    INGEST_VERSION = "parka.workflow.tasks.ingest_version"
    INGEST_DATASET = "parka.workflow.tasks.ingest_dataset"
    SCORE_RUN = "parka.workflow.tasks.score_run"
    RESCORE_TEAM = "parka.workflow.tasks.rescore_team"


QUEUE_OF = {
    ServerTask.INGEST_VERSION: "server.ingest",
    ServerTask.INGEST_DATASET: "server.ingest",
    ServerTask.SCORE_RUN: "server.default",
    ServerTask.RESCORE_TEAM: "server.default",
}


def enqueue(task: ServerTask, row_id: int) -> None:
    """Send the task once the surrounding transaction has committed."""
    transaction.on_commit(lambda: _send(task, row_id))


def _send(task: ServerTask, row_id: int) -> None:
    try:
        app.send_task(task.value, args=[row_id], queue=QUEUE_OF[task], retry=False)
    except (OperationalError, RedisError, OSError) as error:
        log.warning("task_not_sent", task=task.value, row=row_id, error=str(error))

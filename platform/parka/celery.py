"""The server's Celery application; messages carry ids only, the database row is the truth."""

from __future__ import annotations

import os

from celery import Celery
from celery.signals import task_postrun
from kombu import Exchange, Queue  # type: ignore[attr-defined]

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "parka.settings")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

QUEUES = ("server.default", "server.ingest", "server.build", "server.egress")
SWEEP_EVERY_S = 15

app = Celery("parka")


def broker_transport_options(prefix: str) -> dict[str, object]:
    """Options of the Redis transport; ``prefix`` keeps the server's keys apart from each agent's."""
    return {
        "global_keyprefix": prefix,
        "visibility_timeout": 3600,
        "socket_timeout": 15,
        "socket_keepalive": True,
        "health_check_interval": 25,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
    }


@app.on_configure.connect  # type: ignore[untyped-decorator]
def read_settings(sender: Celery, **_: object) -> None:
    """Read Django's settings only when Celery first needs its own."""
    from django.conf import settings

    sender.conf.broker_url = settings.BROKER_URL


app.conf.update(
    broker_transport_options=broker_transport_options("srv:"),
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    task_serializer="json",
    accept_content=["json"],
    result_backend=None,
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=False,
    task_default_queue="server.default",
    task_queues=[Queue(name, Exchange(name), routing_key=name) for name in QUEUES],
    task_soft_time_limit=540,
    task_time_limit=600,
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,
    worker_enable_remote_control=False,
    worker_max_tasks_per_child=50,
    worker_max_memory_per_child=400_000,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_hijack_root_logger=False,
    enable_utc=True,
    beat_schedule={"sweep": {"task": "parka.workflow.tasks.sweep", "schedule": SWEEP_EVERY_S}},
)
app.autodiscover_tasks(["parka.workflow"])


@task_postrun.connect  # type: ignore[untyped-decorator]
def note_progress(**_: object) -> None:
    """For the liveness probe."""
    from parka.health import note_worker_progress

    note_worker_progress()

"""The Celery form's consumer: its only task pokes the supervisor that started it. ``celery -A parka_agent.worker worker``.

Configured by the environment that the supervisor sets: ``PARKA_AGENT_BROKER``, ``PARKA_AGENT_QUEUE``, ``PARKA_AGENT_PREFIX``,
``PARKA_AGENT_WAKE_FD``.
"""

from __future__ import annotations

import os
import select
import threading

from celery import Celery
from celery.signals import worker_init
from kombu import Queue  # type: ignore[attr-defined]

from parka_agent.protocol import WAKE_TASK

QUEUE = os.environ.get("PARKA_AGENT_QUEUE", "agent.unset")
WAKE_FD = int(os.environ.get("PARKA_AGENT_WAKE_FD", "-1"))

app = Celery("parka_agent", broker=os.environ.get("PARKA_AGENT_BROKER"))
app.conf.update(
    task_serializer="json",
    accept_content=["json"],
    result_backend=None,
    task_ignore_result=True,
    task_acks_late=False,
    task_default_queue=QUEUE,
    task_queues=[Queue(QUEUE)],
    worker_prefetch_multiplier=1,
    worker_enable_remote_control=False,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    broker_transport_options={
        "global_keyprefix": os.environ.get("PARKA_AGENT_PREFIX", ""),
        "visibility_timeout": 3600,
        "socket_timeout": 15,
        "socket_keepalive": True,
        "health_check_interval": 25,
    },
)


@app.task(name=WAKE_TASK)  # type: ignore[untyped-decorator]
def wake(run_id: str) -> None:
    """Tell the supervisor that work waits; which run it is, the claim will say."""
    if WAKE_FD >= 0:
        os.write(WAKE_FD, b"w")


@worker_init.connect  # type: ignore[untyped-decorator]
def end_with_supervisor(**_: object) -> None:
    """An orphaned consumer would take wake-ups away from its successor."""
    if WAKE_FD >= 0:
        threading.Thread(target=wait_for_orphanhood, args=(WAKE_FD,), name="orphanhood", daemon=True).start()


def wait_for_orphanhood(wake_fd: int) -> None:
    """The pipe reports an error as soon as its reader is gone; the kernel sees to that after a SIGKILL too."""
    poller = select.poll()
    poller.register(wake_fd, select.POLLERR)
    poller.poll()
    os._exit(0)

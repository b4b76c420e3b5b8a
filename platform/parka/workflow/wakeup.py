"""Wake an agent by a message on its own Celery queue. A lost message costs time only: agents also ask by themselves."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial

import structlog
from django.conf import settings
from django.db import transaction
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from parka.celery import app, broker_transport_options
from parka.experiments.models import Run
from parka.fleet.models import Agent
from parka_agent.protocol import WAKE_TASK, Broker, agent_prefix, agent_queue

log = structlog.get_logger(__name__)
CONNECT_S = 2

_connections: dict[str, Connection] = {}
_sending = threading.Lock()


def wake_agents(runs: Sequence[Run]) -> None:
    """Send one wake-up per run after the surrounding transaction commits; failures are logged only."""
    for run in runs:
        transaction.on_commit(partial(_send, run.agent.public_id, run.public_id))


def broker_of(agent: Agent) -> Broker:
    """How the agent listens; only agents of the ``celery`` form ever get this."""
    return Broker(url=settings.BROKER_URL, queue=agent_queue(agent.public_id), prefix=agent_prefix(agent.public_id))


def _send(agent_id: str, run_id: str) -> None:
    with _sending:
        try:
            _publish(agent_id, run_id)
        except (OperationalError, RedisError, OSError) as error:
            _forget(agent_id)
            log.warning("wake_up_not_sent", agent=agent_id, run=run_id, error=str(error))


def _publish(agent_id: str, run_id: str) -> None:
    app.send_task(WAKE_TASK, args=[run_id], queue=agent_queue(agent_id), connection=_connection(agent_id), retry=False)


def _connection(agent_id: str) -> Connection:
    """The key prefix belongs to the connection, so each agent has its own."""
    if agent_id not in _connections:
        options = {**broker_transport_options(agent_prefix(agent_id)), "socket_connect_timeout": CONNECT_S}
        _connections[agent_id] = Connection(settings.BROKER_URL, transport_options=options)
    return _connections[agent_id]


def _forget(agent_id: str) -> None:
    connection = _connections.pop(agent_id, None)
    if connection is not None:
        connection.release()

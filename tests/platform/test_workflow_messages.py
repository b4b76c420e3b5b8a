"""Messages: live events, wake-ups, server tasks. All may be lost; none may break anything."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import LazySettings

from parka.accounts.access import Access
from parka.celery import app
from parka.experiments.lifecycle import Fence
from parka.experiments.models import Run, RunState
from parka.experiments.records import record_result
from parka.fleet.models import Agent
from parka.registry.models import Intake, ModelVersion
from parka.workflow import events, sweeper, wakeup
from parka.workflow.events import START, Batch, EventKind, StreamDown, follow, latest_id, publish, read
from parka.workflow.measuring import is_measuring
from parka.workflow.queue import ServerTask, enqueue
from parka.workflow.scoring import runs_without_scorecard
from parka_agent.protocol import agent_prefix, agent_queue
from tests.platform.runs import age, claim, fence_of, new_agent, new_run, ready_version, result

Capture = Callable[..., AbstractContextManager[Any]]
NOWHERE = "redis://127.0.0.1:9/0"


@pytest.fixture(autouse=True)
def own_connections(valkey: str) -> Iterator[redis.Redis]:
    """Each test starts with empty queues and its own clients."""
    client = redis.Redis.from_url(valkey, decode_responses=True)
    client.flushdb()
    events._client.cache_clear()
    wakeup._connections.clear()
    yield client
    client.flushdb()
    client.close()
    events._client.cache_clear()
    wakeup._connections.clear()


@pytest.fixture
def queues(own_connections: redis.Redis) -> redis.Redis:
    return own_connections


@pytest.fixture
def agent(alice_access: Access) -> Agent:
    return new_agent(alice_access)


@pytest.fixture
def run(alice_access: Access, agent: Agent) -> Run:
    return new_run(alice_access, agent)


def wake_ups(queues: redis.Redis, agent: Agent) -> int:
    return int(queues.llen(agent_prefix(agent.public_id) + agent_queue(agent.public_id)))  # type: ignore[arg-type]


def kinds(batch: Batch) -> list[str]:
    return [event.kind.value for event in batch.events]


def test_events_are_read_in_order_after_an_id(run: Run, django_capture_on_commit_callbacks: Capture) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        publish(run, EventKind.STATUS, {"state": "running"})
        publish(run, EventKind.TRIAL, {"trial": 1})
    batch = read(run.public_id)
    assert kinds(batch) == ["status", "trial"]
    assert batch.events[0].payload == {"state": "running"}
    assert kinds(read(run.public_id, after=batch.events[0].id)) == ["trial"]
    assert latest_id(run.public_id) == batch.events[1].id


def test_nothing_is_published_when_the_change_is_rolled_back(run: Run, django_capture_on_commit_callbacks: Capture) -> None:
    with django_capture_on_commit_callbacks(execute=False):
        publish(run, EventKind.STATUS)
    assert read(run.public_id) == Batch()


def test_a_page_that_is_older_than_the_stream_must_read_the_rows_again(
    run: Run, queues: redis.Redis, django_capture_on_commit_callbacks: Capture
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        for _ in range(3):
            publish(run, EventKind.ETA)
    first, *_ = read(run.public_id).events
    queues.xtrim(f"run:{run.public_id}:events", maxlen=1, approximate=False)
    assert read(run.public_id, after=first.id).resync
    assert not read(run.public_id, after=START).resync
    queues.delete(f"run:{run.public_id}:events")
    assert read(run.public_id, after=first.id).resync


def test_a_stream_is_capped_and_ends_a_day_after_the_run(
    run: Run, queues: redis.Redis, django_capture_on_commit_callbacks: Capture
) -> None:
    key = f"run:{run.public_id}:events"
    with django_capture_on_commit_callbacks(execute=True):
        publish(run, EventKind.STATUS)
    assert queues.ttl(key) > 24 * 3600  # type: ignore[operator]
    for _ in range(300):
        queues.xadd(key, {"kind": "eta", "payload": "{}"}, maxlen=events.KEPT, approximate=True)
    with django_capture_on_commit_callbacks(execute=True):
        publish(run, EventKind.DONE)
    assert 0 < queues.ttl(key) <= 24 * 3600  # type: ignore[operator]


def test_an_oversized_payload_is_dropped_the_event_stays(run: Run, django_capture_on_commit_callbacks: Capture) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        publish(run, EventKind.LOG, {"text": "x" * 100_000})
    assert read(run.public_id).events[0].payload == {}


async def test_following_waits_for_the_next_event(queues: redis.Redis) -> None:
    queues.xadd("run:run_x:events", {"kind": "eta", "payload": "{}"})
    batch = await follow("run_x", block_ms=200)
    assert kinds(batch) == ["eta"]
    assert await follow("run_x", after=batch.events[0].id, block_ms=100) == Batch()


async def test_without_valkey_readers_are_told_and_writers_go_on(settings: LazySettings) -> None:
    settings.REDIS_URL = NOWHERE
    events._append("run_x", EventKind.STATUS, {})
    assert latest_id("run_x") == START
    with pytest.raises(StreamDown):
        read("run_x")
    with pytest.raises(StreamDown):
        await follow("run_x", block_ms=100)


def test_a_wake_up_lands_on_the_agents_own_queue_after_the_commit(
    run: Run, agent: Agent, queues: redis.Redis, django_capture_on_commit_callbacks: Capture
) -> None:
    with django_capture_on_commit_callbacks(execute=False) as callbacks:
        wakeup.wake_agents([run])
    assert wake_ups(queues, agent) == 0
    for callback in callbacks:
        callback()
    assert wake_ups(queues, agent) == 1
    assert [key for key in queues.keys("*agent*") if not key.startswith(agent_prefix(agent.public_id))] == []  # type: ignore[union-attr]


def test_a_broker_that_is_down_costs_a_moment_and_nothing_else(
    run: Run, agent: Agent, settings: LazySettings, django_capture_on_commit_callbacks: Capture
) -> None:
    settings.BROKER_URL = NOWHERE
    began = time.monotonic()
    with django_capture_on_commit_callbacks(execute=True):
        wakeup.wake_agents([run])
    assert time.monotonic() - began < 30


def test_a_connection_that_broke_is_replaced(
    run: Run, agent: Agent, queues: redis.Redis, settings: LazySettings, django_capture_on_commit_callbacks: Capture
) -> None:
    real, settings.BROKER_URL = settings.BROKER_URL, NOWHERE
    with django_capture_on_commit_callbacks(execute=True):
        wakeup.wake_agents([run])
    settings.BROKER_URL = real
    with django_capture_on_commit_callbacks(execute=True):
        wakeup.wake_agents([run])
    assert wake_ups(queues, agent) == 1


def test_the_sweeper_wakes_after_thirty_seconds_and_then_every_minute(
    run: Run, agent: Agent, queues: redis.Redis, django_capture_on_commit_callbacks: Capture
) -> None:
    def swept(seconds: float) -> int:
        age(seconds)
        Agent.objects.filter(pk=agent.pk).update(last_seen_at=Run.objects.values("created_at")[:1])
        with django_capture_on_commit_callbacks(execute=True):
            return sweeper.wake_waiting()

    assert [swept(29), swept(2), swept(30), swept(31)] == [0, 1, 0, 1]
    assert wake_ups(queues, agent) == 2


def test_the_sweeper_wakes_no_agent_that_is_offline(run: Run, agent: Agent) -> None:
    age(91)
    assert sweeper.wake_waiting() == 0


def test_a_server_task_reaches_its_own_queue_only(queues: redis.Redis, db: None, django_capture_on_commit_callbacks: Capture) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        enqueue(ServerTask.INGEST_VERSION, 7)
    lengths = {name: queues.llen(f"srv:{name}") for name in ("server.default", "server.ingest", "server.build", "server.egress")}
    assert lengths == {"server.default": 0, "server.ingest": 1, "server.build": 0, "server.egress": 0}


def test_an_upload_that_nobody_inspects_is_sent_again_at_most_every_two_minutes(
    alice_access: Access, queues: redis.Redis, django_capture_on_commit_callbacks: Capture
) -> None:
    version = ready_version(alice_access)
    ModelVersion.objects.filter(pk=version.pk).update(state=Intake.UPLOADED, created_at="2020-01-01T00:00:00Z")
    for _ in range(2):
        with django_capture_on_commit_callbacks(execute=True):
            sweeper.resend_work()
    assert queues.llen("srv:server.ingest") == 1


def finish(run: Run) -> Fence:
    claim(run.agent)
    fence = fence_of(run)
    record_result(fence, result(fence))
    return fence


def test_a_finished_run_without_a_scorecard_is_sent_to_be_scored_again(
    run: Run, queues: redis.Redis, django_capture_on_commit_callbacks: Capture
) -> None:
    finish(run)
    assert list(runs_without_scorecard()) == []
    Run.objects.filter(pk=run.pk).update(finished_at="2020-01-01T00:00:00Z")
    with django_capture_on_commit_callbacks(execute=True):
        sweeper.resend_work()
    assert queues.llen("srv:server.default") == 1


def test_a_sweep_settles_announces_and_may_be_repeated(run: Run, django_capture_on_commit_callbacks: Capture) -> None:
    claim(run.agent)
    age(76)
    for _ in range(2):
        with django_capture_on_commit_callbacks(execute=True):
            sweeper.sweep()
    run.refresh_from_db()
    assert run.state == RunState.QUEUED
    assert kinds(read(run.public_id)) == ["status"]


def test_a_sweep_without_valkey_still_settles(run: Run, settings: LazySettings, django_capture_on_commit_callbacks: Capture) -> None:
    claim(run.agent)
    age(76)
    settings.REDIS_URL = settings.BROKER_URL = NOWHERE
    with django_capture_on_commit_callbacks(execute=True):
        sweeper.settle_runs()
    run.refresh_from_db()
    assert run.state == RunState.QUEUED


def test_the_machine_is_measuring_while_the_agent_holds_its_lock(settings: LazySettings, tmp_path: Path) -> None:
    settings.HOME, settings.EMBEDDED = tmp_path, True
    assert not is_measuring()
    lock = tmp_path / "agent" / "measuring.lock"
    lock.parent.mkdir()
    with lock.open("wb") as file:
        assert not is_measuring()
        fcntl.flock(file, fcntl.LOCK_EX)
        assert is_measuring()
        settings.EMBEDDED = False
        assert not is_measuring()
    settings.EMBEDDED = True
    assert not is_measuring()


def test_tasks_are_registered_by_the_names_they_are_sent_to() -> None:
    app.loader.import_default_modules()
    assert {task.value for task in ServerTask} <= set(app.tasks)

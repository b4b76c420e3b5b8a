"""Live events of a run in a capped Valkey stream. Never the truth: rows are stored first, and a broken stream breaks nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Any, cast

import redis
import redis.asyncio
import structlog
from django.conf import settings
from django.db import transaction

from parka.experiments.models import Run

log = structlog.get_logger(__name__)

KEPT = 20_000
LIVES_AFTER_END_S = 24 * 3600
LIVES_S = 7 * 24 * 3600
PAYLOAD_BYTES = 64 * 1024
READ_AT_ONCE = 200
START = "0-0"


class EventKind(StrEnum):
    """What a live page may learn."""

    STATUS = "status"
    TRIAL = "trial"
    BEST = "best"
    ETA = "eta"
    LOG = "log"
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """One entry; ``id`` orders them and serves as the SSE id."""

    id: str
    kind: EventKind
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Events after an id. ``resync``: the stream no longer reaches back that far, read the rows again."""

    events: tuple[RunEvent, ...] = field(default=())
    resync: bool = False


class StreamDown(Exception):
    """Valkey does not answer; poll the rows instead."""


def publish(run: Run, kind: EventKind, payload: dict[str, Any] | None = None) -> None:
    """Append after the surrounding transaction commits; a failure is logged only."""
    run_id = run.public_id
    transaction.on_commit(lambda: _append(run_id, kind, payload or {}))


def read(run_id: str, *, after: str = START, block_ms: int = 0) -> Batch:
    """Events after ``after``, waiting up to ``block_ms`` for the first. Raises StreamDown."""
    try:
        first = _oldest(_client().xrange(_key(run_id), count=1))
        answer = _client().xread({_key(run_id): after}, count=READ_AT_ONCE, block=block_ms or None)
    except (redis.RedisError, OSError) as error:
        raise StreamDown(str(error)) from error
    return _batch(answer, after=after, first=first)


async def follow(run_id: str, *, after: str = START, block_ms: int = 15_000) -> Batch:
    """``read`` for an async view: holds no database connection and no thread while waiting. Raises StreamDown."""
    client = redis.asyncio.Redis.from_url(
        settings.REDIS_URL, decode_responses=True, socket_connect_timeout=2, socket_timeout=block_ms / 1000 + 5
    )
    try:
        first = _oldest(await client.xrange(_key(run_id), count=1))
        answer = await client.xread({_key(run_id): after}, count=READ_AT_ONCE, block=block_ms or None)
    except (redis.RedisError, OSError) as error:
        raise StreamDown(str(error)) from error
    finally:
        await client.aclose()
    return _batch(answer, after=after, first=first)


def latest_id(run_id: str) -> str:
    """Id of the newest event, for a page that is being rendered; the start when there is none or Valkey is down."""
    try:
        newest = _client().xrevrange(_key(run_id), count=1)
    except (redis.RedisError, OSError):
        return START
    return _oldest(newest) or START


def _append(run_id: str, kind: EventKind, payload: dict[str, Any]) -> None:
    text = json.dumps(payload, allow_nan=False)
    if len(text) > PAYLOAD_BYTES:
        text = "{}"
    try:
        with _client().pipeline(transaction=False) as pipe:
            pipe.xadd(_key(run_id), {"kind": kind.value, "payload": text}, maxlen=KEPT, approximate=True)
            pipe.expire(_key(run_id), LIVES_AFTER_END_S if kind is EventKind.DONE else LIVES_S)
            pipe.execute()
    except (redis.RedisError, OSError) as error:
        log.warning("run_event_not_published", run=run_id, kind=kind.value, error=str(error))


def _key(run_id: str) -> str:
    return f"run:{run_id}:events"


@cache
def _client() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, decode_responses=True, socket_connect_timeout=2, socket_timeout=20)


def _oldest(entries: Any) -> str | None:
    return cast(str, entries[0][0]) if entries else None


def _batch(answer: Any, *, after: str, first: str | None) -> Batch:
    entries = answer[0][1] if answer else []
    events = tuple(RunEvent(id=entry, kind=EventKind(data["kind"]), payload=json.loads(data["payload"])) for entry, data in entries)
    return Batch(events=events, resync=_is_older(after, first))


def _is_older(after: str, first: str | None) -> bool:
    """Whether entries between ``after`` and the stream's first are gone; a page that starts from nothing needs no resync."""
    if after == START:
        return False
    return first is None or _order(after) < _order(first)


def _order(entry: str) -> tuple[int, int]:
    left, _, right = entry.partition("-")
    return int(left), int(right or 0)

"""``?wait=``: an answer that is held back until the work has ended, without a thread or database connection meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connections
from django.http import HttpRequest

LONGEST_S = 30.0
LOOK_EVERY_S = 0.5


async def wait_until(look: Callable[[], dict[str, Any]], *, ended: Callable[[dict[str, Any]], bool], wait_s: float) -> dict[str, Any]:
    """The state of something as soon as it has ended, or after ``wait_s`` as it is then."""
    until = time.monotonic() + wait_s
    while True:
        state = await sync_to_async(_look_and_let_go)(look)
        if ended(state) or time.monotonic() >= until:
            return state
        await asyncio.sleep(LOOK_EVERY_S)


def wait_s(request: HttpRequest) -> float:
    """Seconds the caller is willing to wait, 0 to 30; anything unreadable is 0."""
    try:
        return min(max(float(request.GET.get("wait", "0")), 0.0), LONGEST_S)
    except ValueError:
        return 0.0


def _look_and_let_go(look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return look()
    finally:
        let_connections_go()


def let_connections_go() -> None:
    """Close this thread's database connections, unless a transaction around us needs them."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()

"""A child that stays: it answers commands until it is closed or dies."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from optimizer.errors import EngineError, Side
from optimizer.sandbox.job import ChildFailure, ChildOutcome
from optimizer.sandbox.process import ChildProcess

CLOSE_S = 10.0
UNREACHABLE = ChildFailure(code="child.crash", detail="The child ended.")


class ChildDied(EngineError):
    """The child will answer no more; ``failure`` says why."""

    def __init__(self, failure: ChildFailure) -> None:
        super().__init__(failure.code, failure.detail)
        self.failure = failure

    @property
    def user_side(self) -> bool:
        return self.failure.side is Side.USER


class ChildSession:
    """Speaks with an interactive child; one request at a time."""

    def __init__(self, process: ChildProcess, *, out_dir: Path, outcome: Callable[[], ChildOutcome], ready_timeout_s: float) -> None:
        self.out_dir = out_dir
        self._process = process
        self._outcome = outcome
        self._turn = threading.Lock()
        self._paused = False
        self.ready: dict[str, Any] = self._next_reply(ready_timeout_s)

    def request(self, command: dict[str, Any], *, timeout_s: float) -> dict[str, Any]:
        """Send one command and wait for its reply. A child that stays silent is ended.

        Raises ChildDied.
        """
        with self._turn:
            if self._process.ended.is_set():
                raise ChildDied(self._process.failure or UNREACHABLE)
            self._process.send(command)
            return self._next_reply(timeout_s)

    def pids(self) -> list[int]:
        """Every process of the child's tree, as this host numbers them, parents first."""
        return self._process.pids()

    def pause(self) -> None:
        """SIGSTOP the whole tree, so that it costs nothing while others are timed."""
        self._paused = True
        self._process.pause()

    def resume(self) -> None:
        """SIGCONT the whole tree."""
        self._paused = False
        self._process.resume()

    def close(self) -> ChildOutcome:
        """Let the child finish, at most 10 s; then it is killed. Safe to call twice."""
        if self._paused:
            self.resume()
        self._process.end_input()
        if not self._process.ended.wait(CLOSE_S):
            self._process.end(ChildFailure(code="child.timeout", detail=f"The child did not finish within {CLOSE_S:g} s of being asked."))
            self._process.ended.wait()
        return self._outcome()

    def _next_reply(self, timeout_s: float) -> dict[str, Any]:
        try:
            reply = self._process.frames.get(timeout=timeout_s)
        except queue.Empty:
            self._process.end(ChildFailure(code="child.timeout", detail=f"The child gave no answer within {timeout_s:g} s."))
            self._process.ended.wait()
            reply = None
        if reply is None:
            self._process.ended.wait()
            raise ChildDied(self._process.failure or UNREACHABLE)
        return reply

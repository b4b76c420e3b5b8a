"""Heartbeats in a thread of their own, and the self-fence: without the server's consent the work ends (security.md 2.4)."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog

from parka_agent.client import Server, ServerRefused, ServerUnreachable
from parka_agent.protocol import AgentDirective, Heartbeat, HeartbeatReply, Lease, RunDirective, RunSign, Timings, decode

log = structlog.get_logger(__name__)
FATAL = {"agent.token_invalid", "agent.superseded"}
FENCE_LOOK_S = 1.0
LEASE_GONE = {"lease.stale", "run.not_found"}


def boot_clock_s() -> float:
    """Seconds that go on counting while the machine is suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(slots=True, kw_only=True)
class RunUnderWay:
    """The run this agent holds; ``cancelled`` comes from the server, ``lost`` when the lease is gone or cannot be
    confirmed, ``released`` when this process ends and gives the run back.
    """

    lease: Lease
    claim_id: str
    phase: str = "prepare"
    progress: dict[str, Any] = field(default_factory=dict)
    cancelled: threading.Event = field(default_factory=threading.Event)
    lost: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def must_stop(self) -> bool:
        return self.cancelled.is_set() or self.lost.is_set() or self.released.is_set()

    def sign(self) -> RunSign:
        return RunSign(run=self.lease.run, attempt=self.lease.attempt, claim_id=self.claim_id, phase=self.phase, progress=self.progress)


class Lifeline:
    """Keeps the server informed. ``stopping`` is set when this process must end: token revoked, or a newer process speaks."""

    def __init__(self, server: Server, *, incarnation: str, timings: Timings, clock: Callable[[], float] = boot_clock_s) -> None:
        self.server = server
        self.incarnation = incarnation
        self.timings = timings
        self.draining = threading.Event()
        self.stopping = threading.Event()
        self.reason = ""
        self._clock = clock
        self._run: RunUnderWay | None = None
        self._accepted_at = clock()
        self._nudge = threading.Event()
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._beat_on, name="heartbeat", daemon=True),
            threading.Thread(target=self._watch_fence, name="fence", daemon=True),
        ]

    @property
    def current(self) -> RunUnderWay | None:
        """The run it speaks for."""
        return self._run

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._ended.set()
        self._nudge.set()
        for thread in self._threads:
            thread.join(timeout=5)

    def now_s(self) -> float:
        """The clock that the fence is measured with."""
        return self._clock()

    def hold(self, run: RunUnderWay | None, *, since_s: float | None = None) -> None:
        """The run to speak for from now on, claimed by a call sent at ``since_s``; None when there is none."""
        self._accepted_at = self._clock() if since_s is None else since_s
        self._run = run
        self._nudge.set()

    def nudge(self) -> None:
        """Send a heartbeat now: the phase has changed."""
        self._nudge.set()

    def _beat_on(self) -> None:
        while not self._ended.is_set():
            self.beat()
            self._nudge.wait(self.timings.heartbeat_s + random.uniform(0, 1))  # noqa: S311 - jitter
            self._nudge.clear()

    def _watch_fence(self) -> None:
        """In a thread of its own: a heartbeat may hang in a half-open connection for longer than the lease lasts."""
        while not self._ended.wait(FENCE_LOOK_S):
            self.fence()

    def beat(self) -> None:
        """One heartbeat; never raises."""
        run, sent_at = self._run, self._clock()
        message = Heartbeat(incarnation=self.incarnation, running=[run.sign()] if run else [], draining=self.draining.is_set())
        try:
            answer = decode(HeartbeatReply, self.server.post("heartbeat", message).content)
        except ServerRefused as refused:
            self._refused(refused)
        except (ServerUnreachable, ValueError) as error:
            log.warning("heartbeat_failed", error=str(error))
        else:
            self._accepted_at = sent_at
            self._obey(answer, run)

    def _obey(self, answer: HeartbeatReply, run: RunUnderWay | None) -> None:
        if answer.agent is AgentDirective.DRAIN:
            self.draining.set()
        elif answer.agent is AgentDirective.STOP:
            self.end("the server asked this process to stop")
        for state in answer.leases:
            if run is None or (state.run, state.attempt) != (run.lease.run, run.lease.attempt):
                continue
            if state.directive is RunDirective.CANCEL:
                run.cancelled.set()
            elif state.directive is RunDirective.LOST:
                run.lost.set()

    def _refused(self, refused: ServerRefused) -> None:
        if refused.code in FATAL:
            self.end(refused.message or refused.code)
        log.warning("heartbeat_refused", code=refused.code)

    def fence(self) -> None:
        """Before the lease can have ended on the server, the work ends here."""
        run = self._run
        if run is not None and not run.lost.is_set() and self._clock() - self._accepted_at > self.timings.self_fence_s:
            log.error("self_fence", run=run.lease.run)
            run.lost.set()

    def end(self, reason: str) -> None:
        """This process must end; a run under way is lost to it."""
        self.reason = reason
        self.stopping.set()
        if self._run is not None:
            self._run.lost.set()

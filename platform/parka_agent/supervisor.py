"""The agent's process: one run at a time, heartbeats always, and an orderly end."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Callable
from types import FrameType

import structlog

from optimizer import __version__
from optimizer.codec import to_jsonable
from optimizer.sandbox import Level, Sandbox
from optimizer.search.driver import run_search
from optimizer.specs import HardwareProfile
from parka_agent.client import Server, ServerRefused, ServerUnreachable
from parka_agent.execution import Attempt, Search
from parka_agent.faults import Point, crash_point
from parka_agent.host import host_profile, open_sandbox, sandbox_facts
from parka_agent.lifeline import FATAL, Lifeline, RunUnderWay
from parka_agent.listening import Ear
from parka_agent.protocol import Claim, Lease, Rotated, Start, Started, decode
from parka_agent.reporting import deliver_left_over
from parka_agent.state import Home, Identity

log = structlog.get_logger(__name__)
START_PATIENCE_S = 3600.0
CALL_PATIENCE_S = 20.0
ROTATE_BELOW_S = 10 * 24 * 3600
NO_CONTENT = 204


class Supervisor:
    """Owns the identity, the lifeline, the sandbox and the loop that claims runs."""

    def __init__(self, home: Home, *, server_url: str = "", search: Search = run_search) -> None:
        home.make()
        self.search = search
        self.home = home
        self.identity = moved(home, server_url)
        self.incarnation = secrets.token_urlsafe(16)
        self.server = Server(self.identity.server, token=self.identity.agent_token)

    def run(self) -> int:
        """Serve until told to stop; the exit code (0 asked to, 1 refused by the server). Raises InputError ``agent.running``."""
        with self.home.only_one():
            return self._run()

    def _run(self) -> int:
        deliver_left_over(self.server, self.home, patience_s=START_PATIENCE_S)
        sandbox = open_sandbox(self.home)
        try:
            return self._serve(sandbox, host_profile(self.home, sandbox))
        except ServerRefused as refused:
            log.error("agent_refused", code=refused.code, detail=refused.message)
            return 1
        finally:
            sandbox.close()
            self.server.close()

    def _serve(self, sandbox: Sandbox, hardware: HardwareProfile) -> int:
        started = self._start(hardware, sandbox.level)
        lifeline = Lifeline(self.server, incarnation=self.incarnation, timings=started.timings)
        ear = Ear(started.broker)
        stop_on_signals(lifeline, ear.poke)
        lifeline.start()
        ear.open()
        try:
            self._claim_on(lifeline, ear, sandbox=sandbox, hardware=hardware, every_s=started.timings.claim_every_s)
        finally:
            ear.close()
            lifeline.close()
        log.info("agent_ends", reason=lifeline.reason)
        return 1 if lifeline.reason else 0

    def _start(self, hardware: HardwareProfile, level: Level) -> Started:
        """Tell the server who begins; waits for a server that is away. Raises ServerRefused."""
        facts = sandbox_facts(self.home, level)
        message = Start(incarnation=self.incarnation, agent_version=__version__, facts=to_jsonable(hardware), sandbox=facts)
        started = decode(Started, self.server.post("start", message, patience_s=START_PATIENCE_S).content)
        if started.token_expires_in_s < ROTATE_BELOW_S:
            self._rotate()
        log.info("agent_started", agent=started.agent_id, level=level, form=started.form)
        return started

    def _rotate(self) -> None:
        """Take a new token; the old one works until the new one is used."""
        rotated = decode(Rotated, self.server.send("POST", "token/rotate", patience_s=CALL_PATIENCE_S).content)
        self.identity = Identity(
            server=self.identity.server, agent_id=self.identity.agent_id, agent_token=rotated.agent_token, name=self.identity.name
        )
        self.home.keep(self.identity)
        self.server.use(rotated.agent_token)

    def _claim_on(self, lifeline: Lifeline, ear: Ear, *, sandbox: Sandbox, hardware: HardwareProfile, every_s: float) -> None:
        while not lifeline.stopping.is_set() and not lifeline.draining.is_set():
            deliver_left_over(self.server, self.home, patience_s=CALL_PATIENCE_S)
            asked_at = lifeline.now_s()
            run = self._claim(lifeline, sandbox.level)
            if run is None:
                ear.wait(every_s)
                continue
            lifeline.hold(run, since_s=asked_at)
            try:
                self._attempt(run, lifeline, sandbox=sandbox, hardware=hardware).execute()
            finally:
                lifeline.hold(None)

    def _attempt(self, run: RunUnderWay, lifeline: Lifeline, *, sandbox: Sandbox, hardware: HardwareProfile) -> Attempt:
        return Attempt(
            server=self.server, home=self.home, run=run, lifeline=lifeline, hardware=hardware, sandbox=sandbox, search=self.search
        )

    def _claim(self, lifeline: Lifeline, level: Level) -> RunUnderWay | None:
        """The next run, if one waits."""
        claim = Claim(claim_id=secrets.token_urlsafe(16), incarnation=self.incarnation, sandbox_level=level)
        try:
            answer = self.server.post("claim", claim, patience_s=CALL_PATIENCE_S, give_up=lifeline.stopping)
        except ServerUnreachable:
            return None
        except ServerRefused as refused:
            if refused.code in FATAL:
                lifeline.end(refused.message or refused.code)
            log.warning("claim_refused", code=refused.code)
            return None
        if answer.status_code == NO_CONTENT:
            return None
        lease = decode(Lease, answer.content)
        log.info("run_claimed", run=lease.run, attempt=lease.attempt)
        crash_point(Point.AFTER_CLAIM)
        return RunUnderWay(lease=lease, claim_id=claim.claim_id)


def moved(home: Home, server_url: str) -> Identity:
    """The stored identity; a server that answers at another address now is remembered."""
    identity = home.identity()
    if not server_url or server_url == identity.server:
        return identity
    here = Identity(server=server_url, agent_id=identity.agent_id, agent_token=identity.agent_token, name=identity.name)
    home.keep(here)
    return here


def stop_on_signals(lifeline: Lifeline, poke: Callable[[], None]) -> None:
    """SIGTERM and SIGINT end the process in order: the run under way is stopped and given back."""

    def stop(number: int, frame: FrameType | None) -> None:
        lifeline.stopping.set()
        run = lifeline.current
        if run is not None:
            run.released.set()
        poke()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)

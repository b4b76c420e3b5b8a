"""The engine's observer on an agent: progress to the heartbeat, stages and log to the server, durably and in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from optimizer.errors import EngineError
from optimizer.specs import ArtifactRef, Stage, StageReport, StageStatus, Verdict
from parka_agent.client import Server, ServerRefused, ServerUnreachable
from parka_agent.faults import Point, crash_point
from parka_agent.files import Outbox
from parka_agent.lifeline import LEASE_GONE, Lifeline, RunUnderWay
from parka_agent.protocol import CLAIM_HEADER, LOG_BYTES, LOG_PIECE_BYTES, RunReport, TrialReport, encode
from parka_agent.state import Home, Spooled

log = structlog.get_logger(__name__)
REPORT_PATIENCE_S = 60.0
LOG_EVERY_S = 1.0
Bundler = Callable[[StageReport], ArtifactRef | None]


class RunObserver:
    """Implements ``optimizer.search.problem.Observer`` for one attempt."""

    def __init__(self, server: Server, *, home: Home, run: RunUnderWay, lifeline: Lifeline, bundler: Bundler) -> None:
        self.server = server
        self.home = home
        self.run = run
        self.lifeline = lifeline
        self.bundler = bundler
        self.base = f"runs/{run.lease.run}/attempts/{run.lease.attempt}"
        self.outbox = Outbox(server, lease=run.lease, claim_id=run.claim_id, patience_s=REPORT_PATIENCE_S)
        self.sent: list[StageReport] = []
        self._stage_began = time.monotonic()
        self._log = LogSender(server, base=self.base, claim_id=run.claim_id)

    def phase(self, name: str, *, done: int, total: int, detail: str) -> None:
        """Shown with the next heartbeat; a new phase is told at once."""
        fraction = min(1.0, done / total) if total else 0.0
        self.run.progress = {"fraction": round(fraction, 4), "done": done, "total": total, "detail": detail[:200]}
        if name != self.run.phase:
            self.run.phase = name
        self.lifeline.nudge()

    def report(self, report: StageReport) -> None:
        """Upload the stage's files, then report it; it is on disk before it is sent."""
        bundle = self.bundler(report) if is_deployable(report) else None
        if bundle is not None:
            report = replace(report, artifacts=(*report.artifacts, bundle))
        self.sent.append(report)
        for artifact in report.artifacts:
            self._upload(artifact)
            crash_point(Point.AFTER_UPLOAD)
        message = TrialReport.of(report, claim_id=self.run.claim_id, wall_s=self._wall_s())
        path = f"{self.base}/trials/{report.trial}/{report.stage}"
        self._deliver(self.home.spool_report("PUT", path, encode(message)))

    def log(self, line: str) -> None:
        self._log.add(line)

    def cancelled(self) -> bool:
        return self.run.must_stop

    def finish(self, result: RunReport) -> None:
        """The last word of the attempt."""
        self._log.flush()
        spooled = self.home.spool_report("POST", f"{self.base}/result", encode(result))
        crash_point(Point.BEFORE_RESULT)
        self._deliver(spooled)
        crash_point(Point.AFTER_RESULT)

    def _upload(self, artifact: ArtifactRef) -> None:
        try:
            self.outbox.send(Path(artifact.path), role=artifact.role, sha256=artifact.sha256)
        except ServerRefused as refused:
            self._lost_if_gone(refused)
            raise

    def _deliver(self, report: Spooled) -> None:
        try:
            deliver(self.server, report, patience_s=REPORT_PATIENCE_S, give_up=self.run.lost)
        except ServerRefused as refused:
            self._lost_if_gone(refused)
            log.error("report_refused", path=report.path, code=refused.code, detail=refused.message)
            raise

    def _lost_if_gone(self, refused: ServerRefused) -> None:
        if refused.code in LEASE_GONE:
            self.run.lost.set()

    def _wall_s(self) -> float:
        began, self._stage_began = self._stage_began, time.monotonic()
        return max(0.0, self._stage_began - began)


def is_deployable(report: StageReport) -> bool:
    """A candidate whose sealed outputs passed is offered for download."""
    return report.trial > 0 and report.stage is Stage.CONFIRM and report.status is StageStatus.OK and report.verdict is not Verdict.FAIL


def deliver(server: Server, report: Spooled, *, patience_s: float, give_up: threading.Event | None = None) -> None:
    """Send a spooled report and forget it once the server has answered, whatever it answered.

    Raises ServerRefused; ServerUnreachable leaves it in the spool.
    """
    try:
        server.send(report.method, report.path, body=report.body, patience_s=patience_s, give_up=give_up)
    except ServerRefused:
        report.file.unlink(missing_ok=True)
        raise
    report.file.unlink(missing_ok=True)


def deliver_left_over(server: Server, home: Home, *, patience_s: float) -> None:
    """What could not be sent before goes first, in order; a refusal (the lease is gone) ends the story of a report."""
    for report in home.spooled():
        try:
            deliver(server, report, patience_s=patience_s)
        except ServerRefused as error:
            log.warning("left_over_report_refused", path=report.path, code=error.code)
        except ServerUnreachable as error:
            log.warning("left_over_reports_wait", path=report.path, code=error.code)
            return


class LogSender:
    """Lines of the run's log, sent in pieces about once a second; losing the log never harms the run."""

    def __init__(self, server: Server, *, base: str, claim_id: str) -> None:
        self.server = server
        self.path = f"{base}/log"
        self.headers = {CLAIM_HEADER: claim_id, "Content-Type": "text/plain; charset=utf-8"}
        self._pending = b""
        self._offset = 0
        self._sent_at = 0.0

    def add(self, line: str) -> None:
        self._pending += line.encode(errors="replace") + b"\n"
        if time.monotonic() - self._sent_at > LOG_EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Send what is pending; a refusal with the true offset corrects ours."""
        while self._pending and self._offset < LOG_BYTES:
            piece = self._pending[:LOG_PIECE_BYTES]
            try:
                self.server.send("PUT", f"{self.path}?offset={self._offset}", body=piece, headers=self.headers)
            except EngineError as error:
                self._forget(piece, error)
                return
            self._offset += len(piece)
            self._pending = self._pending[len(piece) :]
        self._sent_at = time.monotonic()

    def _forget(self, piece: bytes, error: EngineError) -> None:
        offset: Any = getattr(error, "offset", None)
        if offset is not None:
            self._offset = int(offset)
        self._pending = self._pending[len(piece) :]
        log.warning("log_not_sent", code=error.code)

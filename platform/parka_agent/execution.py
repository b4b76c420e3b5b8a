"""One attempt at a run: fetch, open in the sandbox, search, report (architecture.md 2, stages 5 to 8)."""

from __future__ import annotations

import errno
import fcntl
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from optimizer.codec import from_jsonable, to_jsonable
from optimizer.errors import EngineError, EngineFault, InputError, Side
from optimizer.export import bundle_trial
from optimizer.measure.inputs import InputSet, load_inputs
from optimizer.sandbox import ChildJob, Limits, Sandbox
from optimizer.sandbox.job import ChildOutcome
from optimizer.search.driver import run_search
from optimizer.search.problem import Cancelled, Observer, SearchProblem
from optimizer.specs import ArtifactRef, HardwareProfile, ModelCard, SearchOutcome, SearchSpec, StageReport
from parka_agent.client import Server, ServerRefused, ServerUnreachable
from parka_agent.faults import Point, crash_point
from parka_agent.files import fetch
from parka_agent.lifeline import FATAL, LEASE_GONE, Lifeline, RunUnderWay
from parka_agent.protocol import ErrorNote, RunReport, RunStatus
from parka_agent.reporting import RunObserver
from parka_agent.state import Home

log = structlog.get_logger(__name__)
INGEST = "optimizer.formats.child:ingest_model"
PREPARE_INPUTS = "optimizer.measure.inputs_child:prepare"
PREPARE_WALL_S = 120.0
WORK_FOLDERS_KEPT = 4
GIVEN_BACK = {"url.invalid", "download.mismatch", "storage.full", "quota.storage", "sandbox.unavailable"}
"""Trouble of this attempt, not of the question: another attempt may succeed."""
DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


class Search(Protocol):
    """``optimizer.search.driver.run_search``, or what stands in for it."""

    def __call__(
        self,
        problem: SearchProblem,
        *,
        sandbox: Sandbox,
        observer: Observer,
        finished: Sequence[StageReport] = (),
        budget_left_s: float | None = None,
    ) -> SearchOutcome: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Everything one attempt needs; ``folder`` survives restarts, so that finished builds are found again."""

    server: Server
    home: Home
    run: RunUnderWay
    lifeline: Lifeline
    hardware: HardwareProfile
    sandbox: Sandbox
    search: Search = run_search

    @property
    def folder(self) -> Path:
        return self.home.work / self.run.lease.run

    def execute(self) -> None:
        """Run the attempt to its end and report it; trouble with the lease ends it silently."""
        with structlog.contextvars.bound_contextvars(run=self.run.lease.run, attempt=self.run.lease.attempt):
            try:
                self._execute()
            except (ServerRefused, ServerUnreachable) as error:
                log.warning("attempt_given_up", code=error.code, detail=error.message)
            finally:
                forget_old_work(self.home.work, keep=self.folder)

    def _execute(self) -> None:
        bundler = Bundler(attempt=self)
        observer = RunObserver(self.server, home=self.home, run=self.run, lifeline=self.lifeline, bundler=bundler)
        bundler.observer = observer
        result = self._result(observer, bundler)
        if self.run.lost.is_set():
            log.warning("attempt_lost")
            return
        try:
            observer.finish(result)
        except ServerRefused as refused:
            observer.finish(self._refused(refused))
        log.info("attempt_ended", status=result.status)

    def _result(self, observer: RunObserver, bundler: Bundler) -> RunReport:
        """What the attempt came to; only the server's own refusals escape."""
        try:
            return self._report(RunStatus.OK, outcome=self._search(observer, bundler))
        except Cancelled:
            return self._report(self._stopped)
        except ServerUnreachable:
            raise
        except ServerRefused as refused:
            return self._refused(refused)
        except EngineError as error:
            if self.run.must_stop:
                return self._report(self._stopped)
            return self._report(ended_by(error.code), error=ErrorNote(code=error.code, detail=error.message[:2000]))
        except Exception as error:  # the edge of the agent: an unforeseen fault must still end the run with its reason
            log.exception("attempt_fault")
            status = RunStatus.RELEASED if isinstance(error, OSError) and error.errno in DISK_FULL else RunStatus.FAILED
            return self._report(status, error=ErrorNote(code="agent.fault", detail=f"{type(error).__name__}: {error}"[:2000]))

    def _refused(self, refused: ServerRefused) -> RunReport:
        """The server does not take a report: without the lease there is nothing to say, else the run ends with that reason."""
        if refused.code in LEASE_GONE | FATAL:
            raise refused
        return self._report(ended_by(refused.code), error=ErrorNote(code=refused.code, detail=refused.message[:2000]))

    @property
    def _stopped(self) -> RunStatus:
        """A cancelled run is over; one that this process could not finish goes back into the queue."""
        return RunStatus.CANCELLED if self.run.cancelled.is_set() else RunStatus.RELEASED

    def _report(self, status: RunStatus, *, outcome: SearchOutcome | None = None, error: ErrorNote | None = None) -> RunReport:
        return RunReport(claim_id=self.run.claim_id, status=status, error=error, outcome=None if outcome is None else to_jsonable(outcome))

    def _search(self, observer: RunObserver, bundler: Bundler) -> SearchOutcome:
        lease = self.run.lease
        observer.phase("prepare", done=0, total=1, detail="fetch the model")
        files = {file.name: fetch(self.server, file, cache=self.home.cache) for file in lease.manifest}
        crash_point(Point.AFTER_DOWNLOAD)
        spec = from_jsonable(SearchSpec, lease.spec)
        names = {file.name: file.file_name for file in lease.manifest}
        with measuring(self.home.measuring_lock):
            bundler.problem = self._problem(files, spec, file_name=names["model"])
            return self.search(
                bundler.problem, sandbox=self.sandbox, observer=observer, finished=lease.reports(), budget_left_s=lease.budget_left_s
            )

    def _problem(self, files: dict[str, Path], spec: SearchSpec, *, file_name: str) -> SearchProblem:
        model, card = self._open(files["model"], spec, file_name=file_name)
        inputs = self._inputs(card, spec, dataset=files.get("dataset"))
        return SearchProblem(
            model_dir=model, entry=card.entry, card=card, spec=spec, hardware=self.hardware, inputs=inputs, workspace=self.folder
        )

    def _open(self, upload: Path, spec: SearchSpec, *, file_name: str) -> tuple[Path, ModelCard]:
        """The same intake as on the server, in a child; the card is bound to the experiment's dims."""
        target = self.folder / "model"
        params = {"file_name": file_name, "bindings": spec.bindings}
        outcome = self._child(ChildJob(entry=INGEST, params=params, binds={"upload": upload}))
        replace_folder(target, outcome.out_dir / "model")
        return target, from_jsonable(ModelCard, (outcome.result or {})["card"])

    def _inputs(self, card: ModelCard, spec: SearchSpec, *, dataset: Path | None) -> InputSet:
        params = {"card": to_jsonable(card), "spec": to_jsonable(spec)}
        outcome = self._child(ChildJob(entry=PREPARE_INPUTS, params=params, binds={"dataset": dataset} if dataset else {}))
        target = self.folder / "inputs" / "all"
        replace_folder(target, outcome.out_dir / "inputs")
        return load_inputs(target)

    def _child(self, job: ChildJob) -> ChildOutcome:
        limited = ChildJob(entry=job.entry, params=job.params, binds=job.binds, limits=Limits(wall_s=PREPARE_WALL_S))
        outcome = self.sandbox.run(limited, cancelled=lambda: self.run.must_stop)
        if outcome.failure is not None:
            kind: type[EngineError] = InputError if outcome.failure.side is Side.USER else EngineFault
            raise kind(outcome.failure.code, outcome.failure.detail)
        return outcome


class Bundler:
    """Packs a proven candidate for download while its build is at hand."""

    def __init__(self, *, attempt: Attempt) -> None:
        self.attempt = attempt
        self.problem: SearchProblem | None = None
        self.observer: RunObserver | None = None

    def __call__(self, report: StageReport) -> ArtifactRef | None:
        if self.problem is None or self.observer is None:
            return None
        try:
            return bundle_trial(
                report.trial,
                problem=self.problem,
                reports=(*self.attempt.run.lease.reports(), *self.observer.sent),
                sandbox=self.attempt.sandbox,
                target=self.attempt.folder / "bundles" / f"trial-{report.trial}.zip",
                summary={"measurements": [to_jsonable(one) for one in report.measurements]},
            )
        except EngineError as error:
            log.warning("bundle_not_made", code=error.code, trial=report.trial)
            return None


def ended_by(code: str) -> RunStatus:
    """How an attempt ends that met this error."""
    return RunStatus.RELEASED if code in GIVEN_BACK else RunStatus.FAILED


@contextmanager
def measuring(lock: Path) -> Iterator[None]:
    """Hold the machine's measuring lock; the kernel frees it should this process die."""
    with lock.open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def replace_folder(target: Path, source: Path) -> None:
    """Move ``source`` to ``target``, which an earlier attempt may have left."""
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source, target)


def forget_old_work(folder: Path, *, keep: Path) -> None:
    """Keep the work of the latest few runs."""
    others = sorted((one for one in folder.iterdir() if one != keep), key=lambda one: one.stat().st_mtime)
    for one in others[: max(0, len(others) - WORK_FOLDERS_KEPT)]:
        shutil.rmtree(one, ignore_errors=True)

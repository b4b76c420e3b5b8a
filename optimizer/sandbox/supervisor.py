"""Starts children at one sandbox level and answers for how they end."""

from __future__ import annotations

import compileall
import secrets
import shutil
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from optimizer.errors import EngineFault
from optimizer.sandbox import recipe_a, recipe_b
from optimizer.sandbox.job import ChildFailure, ChildJob, ChildOutcome, Level
from optimizer.sandbox.layout import PACKAGE
from optimizer.sandbox.process import ChildProcess
from optimizer.sandbox.recipe import JobFolder, job_message, spawn_request
from optimizer.sandbox.session import ChildDied, ChildSession
from optimizer.sandbox.spawning import Spawner
from optimizer.sandbox.watchdog import Watchdog

CANCEL_POLL_S = 0.2
CANCELLED = ChildFailure(code="child.cancelled", detail="The work was cancelled.")
CLOSED = ChildFailure(code="child.cancelled", detail="The supervisor ended its children.")


class Sandbox:
    """Runs jobs in children. ``root`` is a scratch folder: each job gets a folder in it, whose ``out`` is the caller's to delete.

    ``level`` None takes the best level whose self-test passes. Raises EngineFault ``sandbox.unavailable`` or ``agent.sandbox_too_weak``.
    """

    def __init__(self, *, root: Path, level: Level | None = None, min_level: Level = Level.C) -> None:
        self._root = root.resolve()
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.level = _checked(level if level is not None else _best_level(self._root), min_level=min_level)
        self._spawner = Spawner()
        self._lock = threading.Lock()
        self._running: set[ChildProcess] = set()
        _compile_own_package()

    def run(
        self, job: ChildJob, *, cancelled: Callable[[], bool] | None = None, heard: Callable[[dict[str, Any]], None] | None = None
    ) -> ChildOutcome:
        """Run one job to its end; trouble of any kind is told in the outcome. Cancelling ends it with ``child.cancelled``.

        ``heard`` gets what the child replies meanwhile; it was written in the sandbox and must be taken as such.
        """
        folder = self._new_folder()
        try:
            process = self._start(job, folder=folder)
        except EngineFault as error:
            return ChildOutcome(out_dir=folder.out, level=self.level, failure=ChildFailure(code=error.code, detail=error.message))
        try:
            while not process.ended.wait(CANCEL_POLL_S if cancelled or heard else None):
                _hand_on(process, heard)
                if cancelled and cancelled():
                    process.end(CANCELLED)
            _hand_on(process, heard)
        except BaseException:
            process.end(CANCELLED)
            process.ended.wait()
            self._outcome(process, folder=folder)
            shutil.rmtree(folder.out.parent, ignore_errors=True)
            raise
        return self._outcome(process, folder=folder)

    def open(self, job: ChildJob, *, ready_s: float | None = None) -> ChildSession:
        """Start an interactive child and wait until it is ready, at most ``ready_s`` (default: as long as it may live). Raises ChildDied."""
        folder = self._new_folder()
        try:
            process = self._start(job, folder=folder)
        except EngineFault as error:
            raise ChildDied(ChildFailure(code=error.code, detail=error.message)) from error
        try:
            return ChildSession(
                process,
                out_dir=folder.out,
                outcome=lambda: self._outcome(process, folder=folder),
                ready_timeout_s=job.limits.wall_s if ready_s is None else ready_s,
            )
        except ChildDied:
            self._outcome(process, folder=folder)
            raise

    def close(self) -> None:
        """End every child and the process that starts them."""
        with self._lock:
            running = list(self._running)
        for process in running:
            process.end(CLOSED)
        for process in running:
            process.ended.wait()
        self._spawner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _start(self, job: ChildJob, *, folder: JobFolder) -> ChildProcess:
        missing = [name for name, path in job.binds.items() if not path.exists()]
        if missing:
            raise EngineFault("child.no_bind", f"What the job binds as {missing[0]!r} does not exist: {job.binds[missing[0]]}.")
        spawned = self._spawner.spawn(spawn_request(job, level=self.level, folder=folder))
        watchdog = Watchdog(guardian=spawned.guardian, limits=job.limits, folders=(folder.out, folder.scratch))
        process = ChildProcess(spawned, watchdog=watchdog, limits=job.limits, message=job_message(job, level=self.level, folder=folder))
        with self._lock:
            self._running.add(process)
        return process

    def _outcome(self, process: ChildProcess, *, folder: JobFolder) -> ChildOutcome:
        with self._lock:
            self._running.discard(process)
        shutil.rmtree(folder.scratch, ignore_errors=True)
        return ChildOutcome(
            out_dir=folder.out,
            level=self.level,
            result=process.result,
            failure=process.failure,
            usage=process.usage,
            log=process.log,
        )

    def _new_folder(self) -> JobFolder:
        home = self._root / secrets.token_hex(8)
        folder = JobFolder(out=home / "out", scratch=home / "scratch")
        for path in (home, folder.out, folder.scratch):
            path.mkdir(mode=0o700)
        return folder


def _best_level(root: Path) -> Level:
    from optimizer.sandbox.levels import best_level

    return best_level(root)


def _hand_on(process: ChildProcess, heard: Callable[[dict[str, Any]], None] | None) -> None:
    """What lies there now: a child that goes on replying does not hold up whoever waits for it."""
    for _ in range(process.frames.qsize() if heard else 0):
        reply = process.frames.get_nowait()
        if heard and reply is not None:
            heard(reply)


def _checked(level: Level, *, min_level: Level) -> Level:
    if list(Level).index(level) > list(Level).index(min_level):
        raise EngineFault(
            "agent.sandbox_too_weak",
            f"This machine offers sandbox level {level}, but {min_level} is required: install bubblewrap (A) or a kernel with Landlock (B).",
        )
    if level is Level.A and not recipe_a.available():
        raise EngineFault("sandbox.unavailable", "Sandbox level A needs bubblewrap: apt-get install bubblewrap.")
    if level is Level.B and not recipe_b.available():
        raise EngineFault("sandbox.unavailable", "Sandbox level B needs a kernel with Landlock ABI 3 or newer (Linux 6.2).")
    return level


@cache
def _compile_own_package() -> None:
    """A child cannot write byte code; without it every start would compile anew."""
    compileall.compile_dir(PACKAGE, quiet=2)

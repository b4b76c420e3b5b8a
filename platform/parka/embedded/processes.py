"""Keep a few processes alive: start in order, restart what dies, stop all, leave nothing behind."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

STOP_GRACE_S = 10.0
STEADY_AFTER_S = 60.0
FIRST_RESTART_DELAY_S = 0.5
LONGEST_RESTART_DELAY_S = 15.0
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One process to keep alive. ``ready`` is polled at the first start."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    log: Path
    ready: Callable[[], bool] = lambda: True


class StartFailed(Exception):
    """A program did not become ready; ``log`` says why."""

    def __init__(self, program: Program, reason: str) -> None:
        super().__init__(f"{program.name} {reason}; its log: {program.log}")
        self.program = program


@dataclass(slots=True)
class Kept:
    """A program with its current process and restart state."""

    program: Program
    process: subprocess.Popen[bytes]
    started: float
    restarts: int = 0
    delay_s: float = FIRST_RESTART_DELAY_S
    restart_at: float | None = None


@dataclass(slots=True)
class Keeper:
    """Starts programs and restarts them when they die. Single-threaded: call ``tick`` from the main loop."""

    say: Callable[[str], None] = print
    kept: dict[str, Kept] = field(default_factory=dict)

    def start(self, program: Program, *, within_s: float = 60.0) -> None:
        """Start and wait until ready. Raises StartFailed when it exits or is not ready in time."""
        kept = Kept(program=program, process=spawn(program), started=time.monotonic())
        self.kept[program.name] = kept
        until = time.monotonic() + within_s
        while not program.ready():
            if kept.process.poll() is not None:
                raise StartFailed(program, f"ended with code {kept.process.returncode}")
            if time.monotonic() > until:
                raise StartFailed(program, f"was not ready after {within_s:.0f} s")
            time.sleep(0.05)

    def tick(self) -> None:
        """Restart what died, with a growing delay that resets after a steady minute."""
        for kept in self.kept.values():
            self._revive(kept, now=time.monotonic())

    def _revive(self, kept: Kept, *, now: float) -> None:
        if kept.process.poll() is None:
            if now - kept.started > STEADY_AFTER_S:
                kept.delay_s = FIRST_RESTART_DELAY_S
            return
        if kept.restart_at is None:
            end_group(kept.process, signal.SIGKILL)
            kept.restart_at = now + kept.delay_s
            self.say(f"{kept.program.name} ended (code {kept.process.returncode}); restarting")
        if now >= kept.restart_at:
            kept.process, kept.started, kept.restart_at = spawn(kept.program), now, None
            kept.restarts += 1
            kept.delay_s = min(kept.delay_s * 2, LONGEST_RESTART_DELAY_S)

    def stop(self) -> None:
        """End everything, last started first; SIGKILL after the grace time."""
        for kept in reversed(list(self.kept.values())):
            end_group(kept.process, signal.SIGTERM)
        until = time.monotonic() + STOP_GRACE_S
        for kept in reversed(list(self.kept.values())):
            wait_or_kill(kept.process, until=until)
        self.kept.clear()


def spawn(program: Program) -> subprocess.Popen[bytes]:
    """Start a process in its own session, its output appended to its log; it dies with us where the kernel can arrange that."""
    program.log.parent.mkdir(parents=True, exist_ok=True)
    with program.log.open("ab") as log:
        return subprocess.Popen(
            program.command,
            env=dict(program.environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent if LIBC else None,  # noqa: PLW1509 - single-threaded parent
        )


def die_with_parent() -> None:
    """In the forked child: ask for SIGTERM when the parent ends."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def end_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal the process and its whole group; gone is fine."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


def wait_or_kill(process: subprocess.Popen[bytes], *, until: float) -> None:
    """Wait for the end until the given moment, then SIGKILL the group and every descendant."""
    try:
        descendants = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        descendants = []
    try:
        process.wait(timeout=max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        end_group(process, signal.SIGKILL)
        process.wait()
    for descendant in descendants:
        if descendant.is_running():
            descendant.kill()
    end_group(process, signal.SIGKILL)

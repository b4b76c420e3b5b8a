"""One running child as its supervisor sees it: a thread that talks, drains, watches and, at the end, judges."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import selectors
import signal
import threading
import time
from typing import Any

from optimizer.sandbox.job import ChildFailure, ChildUsage, Limits
from optimizer.sandbox.log import CappedLog
from optimizer.sandbox.processes import descendants
from optimizer.sandbox.spawning import Spawned
from optimizer.sandbox.verdict import Ending, judge_ending, kernel_oom_kills, parse_frame
from optimizer.sandbox.watchdog import TREE_PERIOD_S, Watchdog
from optimizer.units import MIB

FRAME_BYTES = 1 * MIB
DRAIN_S = 2.0
FRAMES_WAITING = 64


class ChildProcess:
    """Owns the descriptors of one child. ``frames`` yields its replies and, last, None."""

    def __init__(self, spawned: Spawned, *, watchdog: Watchdog, limits: Limits, message: dict[str, Any]) -> None:
        self.frames: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.failure: ChildFailure | None = None
        self.usage = ChildUsage()
        self.result: dict[str, Any] | None = None
        self.ended = threading.Event()
        self._spawned = spawned
        self._watchdog = watchdog
        self._log = CappedLog(limits.log_bytes)
        self._cause: ChildFailure | None = None
        self._last_frame: dict[str, Any] | None = None
        self._report: dict[str, Any] | None = None
        self._inbox = bytearray()
        self._status_text = bytearray()
        self._outbox = bytearray(_encoded(message))
        self._lock = threading.Lock()
        self._oom_kills = kernel_oom_kills()
        self._paused = False
        self._wake, self._waker = os.pipe()
        threading.Thread(target=self._run, name="parka-child", daemon=True).start()

    @property
    def log(self) -> str:
        return self._log.text

    def pids(self) -> list[int]:
        return descendants(self._spawned.guardian)

    def send(self, command: dict[str, Any]) -> None:
        """Queue one command for the child."""
        with self._lock:
            self._outbox += _encoded(command)
        self._nudge()

    def end_input(self) -> None:
        """Tell the child that no more commands come."""
        with contextlib.suppress(OSError):
            self._spawned.job.shutdown(1)

    def end(self, cause: ChildFailure) -> None:
        """Kill the whole tree; ``cause`` becomes the failure unless an earlier one is noted."""
        with self._lock:
            if self._cause is None:
                self._cause = cause
        self._tell(b"K")

    def pause(self) -> None:
        """Stop every process of the tree."""
        self._paused = True
        self._tell(b"S")

    def resume(self) -> None:
        self._paused = False
        self._tell(b"C")

    def _tell(self, command: bytes) -> None:
        with contextlib.suppress(OSError):
            self._spawned.status.send(command)

    def _nudge(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._waker, b".")

    def _run(self) -> None:
        try:
            self._converse()
        except Exception as error:  # the edge: whatever a child provokes here, its caller must get an outcome
            self.end(ChildFailure(code="child.crash", detail=f"The supervisor could not follow the child: {error!r}"))
        finally:
            self._finish()

    def _converse(self) -> None:
        with selectors.DefaultSelector() as selector:
            for source, action in self._sources():
                os.set_blocking(source, False)
                selector.register(source, selectors.EVENT_READ, action)
            while self._report is None:
                self._step(selector, TREE_PERIOD_S)
                if not self._paused and self._cause is None and (broken := self._watchdog.look(time.monotonic())):
                    self.end(broken)
            self._drain(selector)

    def _sources(self) -> list[tuple[int, Any]]:
        spawned = self._spawned
        return [
            (spawned.job.fileno(), self._on_job),
            (spawned.log, self._on_log),
            (spawned.status.fileno(), self._on_status),
            (self._wake, self._on_wake),
        ]

    def _step(self, selector: selectors.BaseSelector, timeout_s: float) -> bool:
        self._flush(selector)
        events = selector.select(timeout_s)
        for key, mask in events:
            if mask & selectors.EVENT_READ and not key.data():
                selector.unregister(key.fd)
        return bool(events)

    def _flush(self, selector: selectors.BaseSelector) -> None:
        with self._lock, contextlib.suppress(BlockingIOError, OSError):
            while self._outbox:
                del self._outbox[: self._spawned.job.send(self._outbox)]
        job = self._spawned.job.fileno()
        if job in selector.get_map():
            writing = selectors.EVENT_WRITE if self._outbox else 0
            selector.modify(job, selectors.EVENT_READ | writing, self._on_job)

    def _drain(self, selector: selectors.BaseSelector) -> None:
        """Read what the child wrote before it ended."""
        deadline_s = time.monotonic() + DRAIN_S
        while time.monotonic() < deadline_s and self._step(selector, 0):
            pass

    def _on_wake(self) -> bool:
        return bool(_read(self._wake))

    def _on_log(self) -> bool:
        part = _read(self._spawned.log)
        self._log.add(part)
        return bool(part)

    def _on_job(self) -> bool:
        part = _receive(self._spawned.job)
        self._inbox += part
        while (end := self._inbox.find(b"\n")) >= 0:
            line = bytes(self._inbox[:end])
            del self._inbox[: end + 1]
            self._accept(line)
        if len(self._inbox) > FRAME_BYTES:
            self._refuse("an answer of more than 1 MiB")
            self._inbox.clear()
        return bool(part)

    def _accept(self, line: bytes) -> None:
        frame = parse_frame(line) if len(line) <= FRAME_BYTES else None
        if frame is None or self.frames.qsize() > FRAMES_WAITING:
            self._refuse("an answer that is not one JSON object without NaN, of at most 1 MiB")
        elif "reply" in frame:
            self.frames.put(frame["reply"])
        else:
            self._last_frame = frame

    def _refuse(self, what: str) -> None:
        self.end(ChildFailure(code="child.output_invalid", detail=f"The child gave {what}."))

    def _on_status(self) -> bool:
        part = _receive(self._spawned.status)
        self._status_text += part
        if self._status_text.endswith(b"\n"):
            self._report = json.loads(self._status_text)
        elif not part:
            self._report = {"status": signal.SIGKILL, "cpu_s": 0.0, "memory_peak_bytes": 0}
        return bool(part)

    def _finish(self) -> None:
        report = self._report or {"status": signal.SIGKILL, "cpu_s": 0.0, "memory_peak_bytes": 0}
        self.usage = ChildUsage(
            wall_s=time.monotonic() - self._watchdog.started_s,
            cpu_s=report["cpu_s"],
            memory_peak_bytes=max(report["memory_peak_bytes"], self._watchdog.memory_peak_bytes),
        )
        ending = Ending(
            status=report["status"],
            cause=self._cause or self._watchdog.check_folders(),
            frame=self._last_frame,
            log=self.log,
            oom_kills=kernel_oom_kills() - self._oom_kills,
        )
        self.result, self.failure = judge_ending(ending)
        self._close()
        self.frames.put(None)
        self.ended.set()

    def _close(self) -> None:
        self._spawned.job.close()
        self._spawned.status.close()
        for descriptor in (self._spawned.log, self._wake, self._waker):
            os.close(descriptor)


def _encoded(message: dict[str, Any]) -> bytes:
    return json.dumps(message, allow_nan=False).encode() + b"\n"


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""


def _receive(source: Any) -> bytes:
    try:
        return bytes(source.recv(65536))
    except OSError:
        return b""

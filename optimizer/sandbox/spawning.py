"""The supervisor's end of the spawner process."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import Any

from optimizer.errors import EngineFault
from optimizer.sandbox.layout import SPAWNER_SCRIPT

START_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spawned:
    """Our ends of a fresh child: conversation, log pipe, guardian's status, and the guardian's pid."""

    guardian: int
    job: socket.socket
    log: int
    status: socket.socket


class Spawner:
    """Starts children through one small helper process, which is started on first use and again should it die."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None

    def spawn(self, request: dict[str, Any]) -> Spawned:
        """Fork a child for the request. Raises EngineFault ``sandbox.spawn_failed``."""
        job, child_job = socket.socketpair()
        status, guardian_status = socket.socketpair()
        log, child_log = os.pipe()
        try:
            guardian = self._ask(request, [child_job.fileno(), child_log, guardian_status.fileno()])
        except OSError as error:
            job.close()
            status.close()
            os.close(log)
            raise EngineFault("sandbox.spawn_failed", f"The process that starts children does not answer: {error}.") from error
        finally:
            child_job.close()
            guardian_status.close()
            os.close(child_log)
        return Spawned(guardian=guardian, job=job, log=log, status=status)

    def close(self) -> None:
        """End the helper; the guardians end their children."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            if self._process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(timeout=START_TIMEOUT_S)
            self._connection = self._process = None

    def _ask(self, request: dict[str, Any], descriptors: list[int]) -> int:
        text = json.dumps(request).encode() + b"\n"
        with self._lock:
            connection = self._connected()
            sent = socket.send_fds(connection, [text], descriptors)
            connection.sendall(text[sent:])
            reply = connection.recv(4096)
        if not reply:
            raise ConnectionResetError("it ended")
        return int(json.loads(reply)["pid"])

    def _connected(self) -> socket.socket:
        if self._connection is None or self._process is None or self._process.poll() is not None:
            self._start()
        if self._connection is None:
            raise ConnectionResetError("it did not start")
        return self._connection

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(START_TIMEOUT_S)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(SPAWNER_SCRIPT), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
                env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
            )
        self._connection = ours

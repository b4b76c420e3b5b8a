"""The child's side of the conversation: the job comes in, replies and one result go out, as JSON lines on one socket."""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import resource
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from optimizer.errors import EngineError, Side
from optimizer.units import MIB

FRAME_BYTES = 1 * MIB
FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
OUT_OF_MEMORY_TEXTS = ("bad_alloc", "bad allocation", "failed to allocate memory", "cannot allocate memory", "out of memory")


class ChildContext:
    """What an entry function gets: parameters, files to read, a folder to write, and the supervisor's ear.

    ``level`` is the sandbox level around it. ``started_ns`` is ``perf_counter_ns`` just before this process image was started.
    """

    def __init__(self, job: dict[str, Any], *, connection: socket.socket, started_ns: int) -> None:
        self.params: dict[str, Any] = job["params"]
        self.out_dir = Path(job["out"])
        self.level = str(job.get("level", ""))
        self.started_ns = started_ns
        self._paths = {name: Path(path) for name, path in job["binds"].items()}
        self._connection = connection
        self._lines = connection.makefile("rb")

    def path(self, name: str) -> Path:
        """Where the bind of that name lies in here. Raises EngineError ``child.no_bind``."""
        if name not in self._paths:
            raise EngineError("child.no_bind", f"The job binds no {name!r}; it has: {', '.join(self._paths) or 'nothing'}.")
        return self._paths[name]

    def commands(self) -> Iterator[dict[str, Any]]:
        """The supervisor's commands until it closes the session."""
        for line in self._lines:
            yield json.loads(line)

    def reply(self, answer: dict[str, Any]) -> None:
        """Answer one command; the first reply says that the child is ready. At most 1 MiB, no NaN."""
        self._send({"reply": answer})

    def finish(self, frame: dict[str, Any]) -> None:
        """The last word."""
        try:
            self._send(frame)
        except (TypeError, ValueError, RecursionError) as error:
            self._send(_failure("child.output_invalid", f"The result is not plain JSON without NaN: {error}."))

    def _send(self, frame: dict[str, Any]) -> None:
        text = json.dumps(frame, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        if len(text) > FRAME_BYTES:
            raise ValueError(f"{len(text)} bytes are more than {FRAME_BYTES}")
        self._connection.sendall(text)


def serve(descriptor: int, *, started_ns: int) -> None:
    """Run the one job that arrives on ``descriptor``."""
    connection = socket.socket(fileno=descriptor)
    with connection.makefile("rb", buffering=0) as raw:
        job = json.loads(_first_line(raw))
    _decline_telemetry()
    if job["processes"] is not None:
        resource.setrlimit(resource.RLIMIT_NPROC, (job["processes"], job["processes"]))
    context = ChildContext(job, connection=connection, started_ns=started_ns)
    context.finish(_run(job["entry"], context))


def _first_line(raw: Any) -> bytes:
    parts = []
    while part := raw.read(65536):
        parts.append(part)
        if part.endswith(b"\n"):
            break
    return b"".join(parts)


def _decline_telemetry() -> None:
    """openvino_telemetry honours no variable, only this file."""
    with contextlib.suppress(OSError):
        folder = Path(os.environ["HOME"], "intel")
        folder.mkdir(exist_ok=True)
        (folder / "openvino_telemetry").write_text("0")


def _run(entry: str, context: ChildContext) -> dict[str, Any]:
    try:
        return {"result": _function(entry)(context)}
    except Exception as error:  # the edge of the sandbox: every failure becomes a coded answer
        return _explain(error)


def _function(entry: str) -> Callable[[ChildContext], dict[str, Any]]:
    module, _, name = entry.partition(":")
    if not module.startswith("optimizer."):
        raise EngineError("child.entry", f"A child runs functions of the engine, not {entry!r}.")
    return cast("Callable[[ChildContext], dict[str, Any]]", getattr(importlib.import_module(module), name))


def _explain(error: Exception) -> dict[str, Any]:
    chain = list(_chain(error))
    if any(_is_out_of_memory(one) for one in chain):
        return _failure("child.oom", f"The model needs more memory than it may use: {_text(error)}")
    if any(isinstance(one, OSError) and one.errno in FULL_DISK for one in chain):
        return _failure("child.disk", f"The files written are larger than allowed: {_text(error)}")
    if isinstance(error, EngineError):
        return _failure(error.code, error.message, side=error.side)
    return _failure("child.crash", f"{type(error).__name__}: {_text(error)}")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(hint in text for hint in OUT_OF_MEMORY_TEXTS)


def _text(error: BaseException) -> str:
    return str(error)[:2000]


def _failure(code: str, detail: str, *, side: Side = Side.SYSTEM) -> dict[str, Any]:
    return {"failure": {"code": code, "detail": detail, "side": side}}

"""How a child ended: its answer, or which failure its exit means."""

from __future__ import annotations

import json
import math
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from optimizer.errors import Side
from optimizer.sandbox.job import ChildFailure

OWN_FAULTS = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGSYS, signal.SIGTRAP}
OUT_OF_MEMORY_MARKS = ("bad_alloc", "MemoryError", "Cannot allocate memory")
DETAIL_CHARACTERS = 2000
CODE_CHARACTERS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The facts at a child's end; ``status`` is the wait status, ``cause`` what the supervisor ended it for."""

    status: int
    cause: ChildFailure | None
    frame: dict[str, Any] | None
    log: str
    oom_kills: int


def parse_frame(line: bytes) -> dict[str, Any] | None:
    """One answer: a JSON object without NaN whose one value is an object; None if it is anything else."""
    try:
        frame = json.loads(line, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        return None
    known = isinstance(frame, dict) and len(frame) == 1 and frame.keys() <= {"reply", "result", "failure"}
    return frame if known and all(isinstance(value, dict) for value in frame.values()) else None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse_constant(text)


def judge_ending(ending: Ending) -> tuple[dict[str, Any] | None, ChildFailure | None]:
    """The result or the failure. A complete answer counts even if the process then died in its own clean-up."""
    if ending.cause is not None:
        return None, ending.cause
    if ending.frame is not None and "result" in ending.frame:
        return ending.frame["result"], None
    if ending.frame is not None:
        return None, _stated_failure(ending.frame["failure"])
    return None, _silent_failure(ending)


def _stated_failure(stated: dict[str, Any]) -> ChildFailure:
    code, detail = str(stated.get("code", "child.crash")), str(stated.get("detail", ""))
    side = Side.USER if stated.get("side") == Side.USER else Side.SYSTEM
    return ChildFailure(code=code[:CODE_CHARACTERS], detail=detail[:DETAIL_CHARACTERS], side=side)


def _silent_failure(ending: Ending) -> ChildFailure:
    number = signal_of(ending.status)
    if number == signal.SIGXCPU:
        return ChildFailure(code="child.timeout", detail="The child used more processor time than it may.")
    if number == signal.SIGXFSZ:
        return ChildFailure(code="child.disk", detail="The child wrote a file larger than it may.")
    if (number == signal.SIGKILL and ending.oom_kills > 0) or any(mark in ending.log[-DETAIL_CHARACTERS:] for mark in OUT_OF_MEMORY_MARKS):
        return ChildFailure(code="child.oom", detail="The child ran out of memory.")
    if number is None:
        return ChildFailure(
            code="child.crash", detail=f"The child ended without an answer (exit {_exit_code(ending.status)}).{_tail(ending.log)}"
        )
    name = signal.Signals(number).name
    return ChildFailure(code="child.crash", detail=f"The child was ended by {name}.{_tail(ending.log)}", stray=number not in OWN_FAULTS)


def signal_of(status: int) -> int | None:
    """The signal in a wait status; bubblewrap passes its child's on as exit code 128 + n."""
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status)
    number = _exit_code(status) - 128
    return number if number in {*signal.Signals} else None


def _exit_code(status: int) -> int:
    return os.waitstatus_to_exitcode(status)


def _tail(log: str) -> str:
    last = log.strip()[-500:]
    return f" It last wrote: {last}" if last else ""


def kernel_oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since boot; 0 where it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)

"""What a supervisor asks of a child process, and what it gets back."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from optimizer.errors import Side
from optimizer.units import GIB, MIB


class Level(StrEnum):
    """Sandbox levels of security.md 4.1, strongest first."""

    A = "A"
    B = "B"
    C = "C"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one child; the supervisor enforces them from outside."""

    wall_s: float = 120.0
    cpu_s: int = 600
    memory_bytes: int = 8 * GIB
    file_bytes: int = 4 * GIB
    out_bytes: int = 4 * GIB
    processes: int = 512
    log_bytes: int = 1 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildJob:
    """A function to run in a child: ``entry`` is ``package.module:function`` within ``optimizer``.

    ``binds`` maps a short name to a host file or folder that the child may read; inside, ``ChildContext.path(name)``
    gives its location at every level. ``params`` is plain JSON. Only with ``tools`` does the child see the external toolkits
    that this machine's owner declared.
    """

    entry: str
    params: dict[str, Any] = field(default_factory=dict)
    binds: dict[str, Path] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    tools: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildUsage:
    """Resources as counted by the supervisor (cgroup, VmHWM or wait4), never by the child."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    memory_peak_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildFailure:
    """Stable code (``child.oom child.timeout child.crash child.disk child.output_invalid`` or the task's own) and a sentence."""

    code: str
    detail: str
    side: Side = Side.SYSTEM
    stray: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildOutcome:
    """Result JSON of the entry function or the failure; ``out_dir`` holds the files it wrote."""

    out_dir: Path
    level: Level
    result: dict[str, Any] | None = None
    failure: ChildFailure | None = None
    usage: ChildUsage = field(default_factory=ChildUsage)
    log: str = ""

    @property
    def ok(self) -> bool:
        return self.failure is None

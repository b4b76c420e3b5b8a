"""From a job to the request the spawner carries out: command, environment, limits and confinement of one level."""

from __future__ import annotations

import base64
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimizer.sandbox import landlock, recipe_a, recipe_b, seccomp
from optimizer.sandbox.job import ChildJob, Level, Limits
from optimizer.sandbox.layout import clean_environment, python_command

JOB_FD = 3
SPARE_PROCESSES = 32  # above the limit at which the watchdog ends the child and says why


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFolder:
    """One job's place on the host: ``out`` is handed to the caller, ``scratch`` dies with the child."""

    out: Path
    scratch: Path


def spawn_request(job: ChildJob, *, level: Level, folder: JobFolder) -> dict[str, Any]:
    """What the spawner must know to start this job at this level; plain JSON."""
    environment = clean_environment("/tmp" if level is Level.A else str(folder.scratch), tools=job.tools)  # noqa: S108
    request: dict[str, Any] = {
        "level": str(level),
        "command": python_command(JOB_FD),
        "environment": environment,
        "folder": str(folder.out),
        "rlimits": _rlimits(job.limits, level=level),
        "processes": job.limits.processes + SPARE_PROCESSES,
        "rules": [],
        "seccomp": "",
    }
    if level is Level.A:
        request |= {
            "command": recipe_a.command(request["command"], environment=environment, binds=job.binds, out=folder.out, tools=job.tools),
            "seccomp": _encoded(seccomp.filter_program()),
        }
    elif level is Level.B:
        abi = landlock.abi()
        request |= {
            "rules": recipe_b.rules(job.binds, out=folder.out, scratch=folder.scratch, tools=job.tools),
            "seccomp": _encoded(seccomp.filter_program(families=seccomp.families_below_abi(abi), calls=seccomp.calls_below_abi(abi))),
        }
    return request


def job_message(job: ChildJob, *, level: Level, folder: JobFolder) -> dict[str, Any]:
    """The job as the child reads it, with the places that things have in there."""
    return {
        "entry": job.entry,
        "level": str(level),
        "params": job.params,
        "binds": _places(job.binds, level=level),
        "out": "/out" if level is Level.A else str(folder.out),
        "processes": job.limits.processes + SPARE_PROCESSES if level is Level.A else None,
    }


def _places(binds: Mapping[str, Path], *, level: Level) -> dict[str, str]:
    return {name: f"/in/{name}" if level is Level.A else str(path.resolve()) for name, path in binds.items()}


def _rlimits(limits: Limits, *, level: Level) -> dict[str, int]:
    """Limits set before the child starts. Processes are counted per user, so that limit waits for A's own namespace."""
    bounds = {
        "RLIMIT_CORE": 0,
        "RLIMIT_DATA": limits.memory_bytes,
        "RLIMIT_FSIZE": limits.file_bytes,
        "RLIMIT_NOFILE": 1024,
        "RLIMIT_CPU": limits.cpu_s,
    }
    if sys.platform != "linux":
        bounds.pop("RLIMIT_DATA")
    return bounds


def _encoded(program: bytes) -> str:
    return base64.b64encode(program).decode()

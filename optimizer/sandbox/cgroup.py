"""A control group that bounds how many processes a child can make, where this process may create one.

RLIMIT_NPROC counts per user and never holds for root, so without this a fork bomb is only noticed, not prevented.
Standard library only, for the spawner's small processes.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PREFIX = "parka-"


def open_group(*, processes: int) -> Path | None:
    """A fresh group of at most ``processes`` tasks named after this process; None where that is not allowed."""
    parent = _parent()
    if parent is None:
        return None
    group = parent / f"{PREFIX}{os.getpid()}"
    try:
        group.mkdir(exist_ok=True)
        (group / "pids.max").write_text(str(processes))
    except OSError:
        close_group(group)
        return None
    return group


def join(group: Path) -> None:
    """Move the calling process into the group; its descendants are born there."""
    with contextlib.suppress(OSError):
        (group / "cgroup.procs").write_text("0")


def close_group(group: Path) -> None:
    """Remove an empty group."""
    with contextlib.suppress(OSError):
        group.rmdir()


def sweep() -> None:
    """Remove groups whose maker was killed before it could."""
    parent = _parent()
    if parent is None:
        return
    for group in parent.glob(f"{PREFIX}*"):
        if not Path("/proc", group.name.removeprefix(PREFIX)).exists():
            close_group(group)


def _parent() -> Path | None:
    """Our own group, version 1 or delegated version 2, if groups with a process limit can be made in it."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "pids" in controllers.split(","):
            return _writable(ROOT / "pids" / path.lstrip("/"))
        if not controllers and _delegates_pids(ROOT / path.lstrip("/")):
            return _writable(ROOT / path.lstrip("/"))
    return None


def _delegates_pids(group: Path) -> bool:
    try:
        return "pids" in (group / "cgroup.subtree_control").read_text().split()
    except OSError:
        return False


def _writable(group: Path) -> Path | None:
    return group if os.access(group, os.W_OK) else None

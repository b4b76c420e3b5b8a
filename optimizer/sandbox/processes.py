"""Which processes descend from one, read from /proc; standard library only, for the spawner's small processes."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path


def descendants(root: int) -> list[int]:
    """Pids below ``root``, parents first; empty where /proc is missing."""
    children = children_by_parent()
    found: list[int] = []
    pending = [root]
    while pending:
        below = children.get(pending.pop(0), [])
        found += below
        pending += below
    return found


def children_by_parent() -> dict[int, list[int]]:
    """Every live process of the host under its parent's pid; zombies are left out."""
    table: dict[int, list[int]] = defaultdict(list)
    for pid in _pids():
        state, parent = _state_and_parent(pid)
        if state not in ("Z", "X", ""):
            table[parent].append(pid)
    return table


def _pids() -> Iterator[int]:
    try:
        names = os.listdir("/proc")  # noqa: PTH208  (4 Hz: plain names are cheapest)
    except OSError:
        return
    yield from (int(name) for name in names if name.isdigit())


def _state_and_parent(pid: int) -> tuple[str, int]:
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return "", 0
    state, parent = text[text.rindex(b")") + 2 :].split(b" ", 2)[:2]
    return state.decode(), int(parent)


def proportional_bytes(pid: int) -> int | None:
    """Resident size with shared pages divided among those that share them (Pss); None where the kernel does not tell."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return None
    sizes = [line.split()[1] for line in text.splitlines() if line.startswith("Pss:")]
    return int(sizes[0]) * 1024 if sizes else None


def resident_bytes(pid: int) -> tuple[int, int]:
    """Resident size now and its high-water mark (VmRSS, VmHWM); zeros once the process is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0, 0
    fields = dict(line.split(":", 1) for line in text.splitlines() if line.startswith(("VmRSS", "VmHWM")))
    now, peak = (int(fields.get(name, "0 kB").split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return now, peak

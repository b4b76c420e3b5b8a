"""Looks at a child's tree from outside: memory and processes at 4 Hz, written bytes at 1 Hz."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from optimizer.sandbox.job import ChildFailure, Limits
from optimizer.sandbox.processes import descendants, proportional_bytes, resident_bytes
from optimizer.units import MIB

TREE_PERIOD_S = 0.25
FOLDER_PERIOD_S = 1.0
FILES_COUNTED = 100_000


@dataclass(slots=True, kw_only=True)
class Watchdog:
    """Judges one child against its limits; ``look`` is called often and works only when a period has passed."""

    guardian: int
    limits: Limits
    folders: tuple[Path, ...]
    started_s: float = field(default_factory=time.monotonic)
    memory_peak_bytes: int = 0
    _tree_due_s: float = 0.0
    _folder_due_s: float = 0.0

    def look(self, now_s: float) -> ChildFailure | None:
        """The first limit that the child has broken, or None."""
        if now_s - self.started_s > self.limits.wall_s:
            return ChildFailure(code="child.timeout", detail=f"The child ran longer than its {self.limits.wall_s:g} s.")
        if now_s >= self._tree_due_s:
            self._tree_due_s = now_s + TREE_PERIOD_S
            if broken := self._check_tree():
                return broken
        if now_s >= self._folder_due_s:
            self._folder_due_s = now_s + FOLDER_PERIOD_S
            return self.check_folders()
        return None

    def _check_tree(self) -> ChildFailure | None:
        pids = descendants(self.guardian)
        if len(pids) > self.limits.processes:
            return ChildFailure(code="child.crash", detail=f"The child made more than {self.limits.processes} processes.")
        sizes = [resident_bytes(pid) for pid in pids]
        now = self._memory_now(pids, [now for now, _ in sizes])
        self.memory_peak_bytes = max(self.memory_peak_bytes, now, max((peak for _, peak in sizes), default=0))
        if self.memory_peak_bytes > self.limits.memory_bytes:
            return ChildFailure(code="child.oom", detail=f"The child used more than its {self.limits.memory_bytes // MIB} MiB of memory.")
        return None

    def _memory_now(self, pids: list[int], resident: list[int]) -> int:
        """Pages that forked processes share count once, where it matters: otherwise a child that forks looks like one that hoards."""
        if len(pids) < 2 or sum(resident) <= self.limits.memory_bytes:
            return sum(resident)
        shares = [proportional_bytes(pid) for pid in pids]
        return sum(resident_bytes(pid)[0] if share is None else share for pid, share in zip(pids, shares, strict=True))

    def check_folders(self) -> ChildFailure | None:
        """Whether the files written exceed their limit; also asked once after the end."""
        if sum(folder_bytes(folder) for folder in self.folders) > self.limits.out_bytes:
            return ChildFailure(code="child.disk", detail=f"The child wrote more than its {self.limits.out_bytes // MIB} MiB.")
        return None


def folder_bytes(folder: Path) -> int:
    """Bytes allocated by the files below ``folder``; links are not followed. Counting stops at 100,000 entries."""
    total, entries, pending = 0, 0, [str(folder)]
    while pending and entries < FILES_COUNTED:
        try:
            with os.scandir(pending.pop()) as found:
                for entry in found:
                    entries += 1
                    total += _allocated_bytes(entry)
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
        except OSError:
            continue
    return total


def _allocated_bytes(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_blocks * 512
    except OSError:
        return 0

"""How much memory this process may still use: what decides how many models are held open side by side."""

from __future__ import annotations

from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")
LIMIT_FILES = ("memory.max", "memory/memory.limit_in_bytes")
USAGE_FILES = ("memory.current", "memory/memory.usage_in_bytes")
UNLIMITED = 1 << 60


def memory_limit_bytes(*, root: Path = CGROUP) -> int:
    """The machine's memory or the cgroup's limit (v2, v1), whichever is smaller."""
    limit = _first_number(root, LIMIT_FILES)
    total = psutil.virtual_memory().total
    return total if limit is None or limit >= UNLIMITED else min(total, limit)


def memory_available_bytes(*, root: Path = CGROUP) -> int:
    """What can be allocated now without swapping, within the cgroup's limit."""
    limit, usage = _first_number(root, LIMIT_FILES), _first_number(root, USAGE_FILES)
    available = psutil.virtual_memory().available
    if limit is None or limit >= UNLIMITED or usage is None:
        return available
    return max(0, min(available, limit - usage))


def _first_number(root: Path, names: tuple[str, ...]) -> int | None:
    for name in names:
        try:
            return int((root / name).read_text())
        except (OSError, ValueError):
            continue
    return None

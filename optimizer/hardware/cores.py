"""How many cores this process may use: affinity and cgroup quota, not the host's count."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def allowed_cores(*, root: Path = CGROUP) -> int:
    """Whole cores left by the affinity mask and the cgroup quota (v2 and v1); at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for quota in (quota_v2(root), quota_v1(root)) if quota is not None]
    return max(1, min([affinity, *(math.ceil(quota) for quota in quotas)]))


def quota_v2(root: Path) -> float | None:
    """Cores of ``cpu.max`` (``quota period`` in µs; ``max`` means none)."""
    fields = words(root / "cpu.max")
    if len(fields) != 2 or fields[0] == "max":
        return None
    return int(fields[0]) / int(fields[1])


def quota_v1(root: Path) -> float | None:
    """Cores of ``cpu.cfs_quota_us`` / ``cpu.cfs_period_us`` (-1 means none)."""
    quota, period = words(root / "cpu" / "cpu.cfs_quota_us"), words(root / "cpu" / "cpu.cfs_period_us")
    if not quota or not period or int(quota[0]) <= 0:
        return None
    return int(quota[0]) / int(period[0])


def words(path: Path) -> list[str]:
    """Words of a small kernel file; none when it cannot be read."""
    try:
        return path.read_text().split()
    except OSError:
        return []

"""Counters of the host as the kernel shows them; what is unusable here is None, never zero."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import psutil

from optimizer.hardware.cores import allowed_cores

PROC = Path("/proc")
CPU_COLUMNS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCounters:
    """Monotonic counters at one moment: seconds of CPU, microseconds of pressure, pages."""

    busy_s: float | None = None
    steal_s: float | None = None
    own_s: float | None = None
    throttled_s: float | None = None
    pressure_cpu_us: int | None = None
    pressure_memory_us: int | None = None
    pressure_io_us: int | None = None
    swapped_pages: int | None = None
    frequency_mhz: float | None = None


def read_counters(*, proc: Path = PROC) -> HostCounters:
    """Every signal that this host offers now."""
    busy_s, steal_s = cpu_seconds(proc)
    pressure = proc / "pressure" if busy_s is not None else proc / "nowhere"  # a host's pressure says nothing of our share of it
    return HostCounters(
        busy_s=busy_s,
        steal_s=steal_s,
        own_s=own_cpu_seconds(),
        throttled_s=throttled_seconds(),
        pressure_cpu_us=pressure_us(pressure / "cpu"),
        pressure_memory_us=pressure_us(pressure / "memory"),
        pressure_io_us=pressure_us(pressure / "io"),
        swapped_pages=swapped_pages(proc / "vmstat"),
        frequency_mhz=frequency_mhz(),
    )


def cpu_seconds(proc: Path) -> tuple[float | None, float | None]:
    """Busy and stolen seconds over all CPUs; None when ``/proc/stat`` counts more CPUs than we may use (a container)."""
    try:
        lines = (proc / "stat").read_text().splitlines()
    except OSError:
        return None, None
    counted = sum(line.startswith("cpu") and line[3].isdigit() for line in lines)
    fields = [int(value) for value in lines[0].split()[1 : CPU_COLUMNS + 1]]
    if counted != allowed_cores() or len(fields) < CPU_COLUMNS:
        return None, None
    ticks = os.sysconf("SC_CLK_TCK")
    user, nice, system, _, _, interrupt, soft, steal = fields
    return (user + nice + system + interrupt + soft) / ticks, steal / ticks


def own_cpu_seconds() -> float | None:
    """CPU of this process, its live descendants and the children they have reaped."""
    total = 0.0
    me = psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system + getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return total


def throttled_seconds(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Time the cgroup was throttled (v2 ``cpu.stat``, v1 ``cpu/cpu.stat``)."""
    for path, key, unit in ((root / "cpu.stat", "throttled_usec", 1e6), (root / "cpu" / "cpu.stat", "throttled_time", 1e9)):
        try:
            values = dict(line.split() for line in path.read_text().splitlines())
        except (OSError, ValueError):
            continue
        if key in values:
            return int(values[key]) / unit
    return None


def pressure_us(path: Path) -> int | None:
    """Total stall time of the ``some`` line."""
    try:
        line = path.read_text().splitlines()[0]
    except (OSError, IndexError):
        return None
    return int(line.rsplit("total=", 1)[1]) if "total=" in line else None


def swapped_pages(path: Path) -> int | None:
    try:
        values = dict(line.split() for line in path.read_text().splitlines())
    except (OSError, ValueError):
        return None
    return int(values.get("pswpin", 0)) + int(values.get("pswpout", 0))


def frequency_mhz() -> float | None:
    """Current frequency where the kernel really reports one (a VM shows a constant: fine, it never deviates)."""
    try:
        frequency = psutil.cpu_freq()
    except (OSError, RuntimeError, NotImplementedError):
        return None
    return frequency.current if frequency else None

"""The one place where units are converted; inside the harness times are integer nanoseconds."""

from __future__ import annotations

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
MIB = 1 << 20
GIB = 1 << 30


def ms_from_ns(duration_ns: float) -> float:
    """Milliseconds of a duration in nanoseconds."""
    return duration_ns / NS_PER_MS


def s_from_ns(duration_ns: float) -> float:
    """Seconds of a duration in nanoseconds."""
    return duration_ns / NS_PER_S


def ns_from_s(duration_s: float) -> int:
    """Whole nanoseconds of a duration in seconds."""
    return round(duration_s * NS_PER_S)

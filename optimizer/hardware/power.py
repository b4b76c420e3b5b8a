"""Which power source can be read here (measurement.md 10)."""

from __future__ import annotations

import os
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


def power_tier(*, powercap: Path = POWERCAP) -> str:
    """``C1`` when a package energy counter is readable, else ``D`` (a utilization model: estimated only)."""
    counters = powercap.glob("*rapl*/energy_uj")
    return "C1" if any(os.access(counter, os.R_OK) for counter in counters) else "D"

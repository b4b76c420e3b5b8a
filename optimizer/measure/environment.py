"""The environment fingerprint that every Measurement carries (measurement.md 1)."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

from optimizer import __version__
from optimizer.specs import HardwareProfile

CPUFREQ = Path("/sys/devices/system/cpu/cpu0/cpufreq")
NO_TURBO = Path("/sys/devices/system/cpu/intel_pstate/no_turbo")
UNAVAILABLE = "unavailable"


def environment_fingerprint(hardware: HardwareProfile, level: str) -> dict[str, Any]:
    """Facts that can change speed, as JSON; what cannot be read is ``unavailable``."""
    return {
        "engine": __version__,
        "hardware": hardware.fingerprint,
        "cpu_model": hardware.cpu_model,
        "microcode": hardware.microcode,
        "cores": hardware.cores,
        "memory_bytes": hardware.memory_bytes,
        "os": hardware.os_version,
        "kernel": platform.release(),
        "virtualization": hardware.virtualization or "none",
        "governor": text(CPUFREQ / "scaling_governor"),
        "turbo": {"0": "on", "1": "off"}.get(text(NO_TURBO), UNAVAILABLE),
        "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else UNAVAILABLE,
        "python": platform.python_version(),
        "runtimes": hardware.runtimes,
        "packages": package_digest(),
        "sandbox_level": level,
        "byte_order": sys.byteorder,
    }


def text(path: Path) -> str:
    """Content of a small kernel file."""
    try:
        return path.read_text().strip()
    except OSError:
        return UNAVAILABLE


def package_digest() -> str:
    """sha256 over the names and versions of all installed packages."""
    installed = sorted({f"{item.name}=={item.version}" for item in importlib.metadata.distributions()})
    return hashlib.sha256("\n".join(installed).encode()).hexdigest()


def differences(one: dict[str, Any], other: dict[str, Any]) -> tuple[str, ...]:
    """Names of the facts in which two fingerprints differ: what a comparison must list first."""
    return tuple(sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key)))

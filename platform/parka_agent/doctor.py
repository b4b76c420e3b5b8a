"""What works on this machine and what does not, with the way out."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass

from optimizer.backends import available_backends
from optimizer.backends.base import Available
from optimizer.errors import EngineError
from optimizer.hardware import probe
from optimizer.passes import CONVERSIONS, PASSES, broken_passes, passes
from optimizer.sandbox.levels import level_reports
from parka_agent.client import Server
from parka_agent.lifeline import boot_clock_s
from parka_agent.state import Home

LEAST_DISK_GIB = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the doctor's report."""

    topic: str
    good: bool
    text: str


def examine(home: Home) -> list[Finding]:
    """Look at sandbox, backends, hardware, clock, disk and registration."""
    return [
        *sandbox_findings(home),
        *backend_findings(),
        *pass_findings(),
        hardware_finding(),
        clock_finding(),
        disk_finding(home),
        registration_finding(home),
    ]


def sandbox_findings(home: Home) -> list[Finding]:
    """Every level tried, from the strongest down to the first that holds."""
    try:
        reports = level_reports(home.folder)
    except EngineError as error:
        return [Finding(topic="sandbox", good=False, text=error.message)]
    found = []
    for report in reports:
        broken = report.reason or ", ".join(name for name, held in report.checks.items() if not held)
        text = (
            f"level {report.level} holds ({len(report.checks)} probes)"
            if report.passed
            else f"level {report.level} does not hold: {broken}"
        )
        found.append(Finding(topic="sandbox", good=report.passed, text=text))
    return found


def backend_findings() -> list[Finding]:
    found = []
    for name, state in available_backends().items():
        good = isinstance(state, Available)
        text = (
            f"{name} {state.version} on {', '.join(state.devices)}"
            if isinstance(state, Available)
            else f"{name}: {state.reason}; {state.install}"
        )
        found.append(Finding(topic="backend", good=good, text=text))
    return found


def pass_findings() -> list[Finding]:
    """Passes of other packages and external toolkits; our own need no telling."""
    good = [
        Finding(topic="pass", good=True, text=f"{name}: {one.title}")
        for name, one in passes().items()
        if name not in {**CONVERSIONS, **PASSES}
    ]
    return [*good, *(Finding(topic="pass", good=False, text=f"{name}: {reason}") for name, reason in broken_passes().items())]


def hardware_finding() -> Finding:
    profile = probe(benchmark=False)
    sets = ", ".join(profile.instruction_sets) or "no tracked instruction set"
    return Finding(
        topic="hardware", good=True, text=f"{profile.cpu_model}, {profile.cores} cores allowed; {sets}; power tier {profile.power_tier}"
    )


def clock_finding() -> Finding:
    """Leases rest on a clock that never goes backwards."""
    first = boot_clock_s()
    time.sleep(0.01)
    return Finding(topic="clock", good=boot_clock_s() > first, text="monotonic through suspend")


def disk_finding(home: Home) -> Finding:
    free_gib = shutil.disk_usage(home.folder).free / 2**30
    return Finding(topic="disk", good=free_gib >= LEAST_DISK_GIB, text=f"{free_gib:.1f} GB free in {home.folder}")


def registration_finding(home: Home) -> Finding:
    """Registered, and does the server answer?"""
    try:
        identity = home.identity()
        Server(identity.server).send("GET", "/healthz")
    except EngineError as error:
        return Finding(topic="server", good=False, text=error.message)
    return Finding(topic="server", good=True, text=f"registered as {identity.agent_id} at {identity.server}")

"""This machine as the agent tells it: its profile, its sandbox level and the checks behind it."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

from optimizer.codec import from_jsonable, to_jsonable
from optimizer.errors import EngineError, EngineFault
from optimizer.hardware import probe
from optimizer.sandbox import Level, Sandbox, best_level
from optimizer.sandbox.levels import level_reports
from optimizer.specs import HardwareProfile
from parka_agent.protocol import SandboxFacts
from parka_agent.state import Home, write_durably

PROFILE = "hardware.json"
REQUIRED_LEVEL = "PARKA_AGENT_REQUIRE_LEVEL"


def open_sandbox(home: Home) -> Sandbox:
    """The best level that passes its self-test, in an emptied folder: a killed predecessor's children leave nothing to find.

    Raises EngineFault ``agent.sandbox_too_weak`` below ``PARKA_AGENT_REQUIRE_LEVEL``.
    """
    level = best_level(home.folder)
    required = os.environ.get(REQUIRED_LEVEL, "C")
    if level > Level(required):
        raise EngineFault(
            "agent.sandbox_too_weak", f"This machine offers sandbox level {level}, but {REQUIRED_LEVEL}={required}; run: parka-agent doctor"
        )
    return Sandbox(root=emptied(home.folder / "children"), level=level)


def sandbox_facts(home: Home, level: Level) -> SandboxFacts:
    """The level with each of its checks."""
    checks = next((report.checks for report in level_reports(home.folder) if report.level is level), {})
    return SandboxFacts(level=level, checks=checks)


def host_profile(home: Home, sandbox: Sandbox) -> HardwareProfile:
    """The host's profile; peaks measured once are kept as long as hardware and runtimes stay the same."""
    now = probe(benchmark=False)
    known = kept_profile(home.folder / PROFILE)
    if known is not None and (known.fingerprint, known.runtimes) == (now.fingerprint, now.runtimes):
        return replace(now, peaks_flops=known.peaks_flops, memory_bandwidth_bytes_per_s=known.memory_bandwidth_bytes_per_s)
    measured = probe(benchmark=True, sandbox=sandbox)
    if measured.peaks_flops:
        write_durably(home.folder / PROFILE, json.dumps(to_jsonable(measured)).encode())
    return measured


def kept_profile(path: Path) -> HardwareProfile | None:
    """The profile of an earlier start, if it can be read."""
    try:
        return from_jsonable(HardwareProfile, json.loads(path.read_text()))
    except (OSError, ValueError, EngineError):
        return None


def emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder

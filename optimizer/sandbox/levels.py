"""Which sandbox level this machine really offers: the highest whose probes all pass, remembered until something changes."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import threading
import time
from pathlib import Path
from typing import Any

import optimizer
from optimizer.errors import EngineFault, InputError
from optimizer.sandbox import recipe_a, recipe_b
from optimizer.sandbox.job import Level
from optimizer.sandbox.layout import PACKAGE
from optimizer.sandbox.self_testing import LevelReport, self_test

CEILING_VARIABLE = "PARKA_SANDBOX_LEVEL"
CACHE_NAME = "sandbox-level.json"
RETEST_S = 24 * 3600
_TESTING = threading.Lock()
_IN_THIS_PROCESS: dict[str, tuple[float, tuple[LevelReport, ...]]] = {}  # for roots that do not outlive one job


def best_level(root: Path) -> Level:
    """The highest level whose self-test passes; ``PARKA_SANDBOX_LEVEL`` can lower it.

    The answer is kept in this process and in a file under ``root`` for a day, as long as boot, kernel and programs stay the same.
    Raises EngineFault ``sandbox.unavailable`` when not even level C holds, InputError ``sandbox.level`` on a wrong setting.
    """
    return next(report.level for report in level_reports(root) if report.passed)


def level_reports(root: Path) -> tuple[LevelReport, ...]:
    """Self-test reports from the ceiling down to the first level that passes; raises as ``best_level``."""
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    ceiling = _ceiling()
    key = _key(ceiling)
    with _TESTING:
        reports = _remembered(root / CACHE_NAME, key=key) or _fresh(_IN_THIS_PROCESS.get(key)) or _tested(ceiling, root=root)
        if not reports[-1].passed:
            raise EngineFault("sandbox.unavailable", f"No sandbox level works on this machine: {_broken(reports[-1])}.")
        if not _fresh(_IN_THIS_PROCESS.get(key)):
            _IN_THIS_PROCESS[key] = (time.monotonic(), reports)
        _remember(root / CACHE_NAME, key=key, reports=reports)
    return reports


def _fresh(known: tuple[float, tuple[LevelReport, ...]] | None) -> tuple[LevelReport, ...]:
    return known[1] if known and time.monotonic() - known[0] < RETEST_S else ()


def _ceiling() -> Level:
    wanted = os.environ.get(CEILING_VARIABLE, "").strip().upper()
    if not wanted:
        return Level.A
    try:
        return Level(wanted)
    except ValueError:
        raise InputError("sandbox.level", f"{CEILING_VARIABLE} must be A, B or C, not {wanted!r}.") from None


def _tested(ceiling: Level, *, root: Path) -> tuple[LevelReport, ...]:
    reports: list[LevelReport] = []
    for level in list(Level)[list(Level).index(ceiling) :]:
        reports.append(self_test(level, root=root) if is_installed(level) else LevelReport(level=level, reason="not installed"))
        if reports[-1].passed:
            break
    return tuple(reports)


def is_installed(level: Level) -> bool:
    """Whether what the level is made of is here; that it holds is for the self-test to say."""
    return {Level.A: recipe_a.available, Level.B: recipe_b.available}.get(level, lambda: True)()


def _broken(report: LevelReport) -> str:
    return report.reason or "these probes got through: " + ", ".join(name for name, held in report.checks.items() if not held)


def _key(ceiling: Level) -> str:
    """Digest of what the answer depends on: boot, kernel, interpreter, user, and the sandbox's own code."""
    code = sorted((path.name, path.stat().st_mtime_ns) for path in (PACKAGE / "sandbox").glob("*.py"))
    facts = [_boot_id(), platform.release(), sys.version, sys.prefix, optimizer.__version__, os.getuid(), str(ceiling), code]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _remembered(path: Path, *, key: str) -> tuple[LevelReport, ...]:
    try:
        stored: dict[str, Any] = json.loads(path.read_text())
        if stored["key"] != key or not 0 <= time.time() - stored["tested_at"] < RETEST_S:
            return ()
        return tuple(LevelReport(level=Level(one["level"]), checks=one["checks"], reason=one["reason"]) for one in stored["reports"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def _remember(path: Path, *, key: str, reports: tuple[LevelReport, ...]) -> None:
    if _remembered(path, key=key):
        return
    stored = [{"level": report.level, "checks": report.checks, "reason": report.reason} for report in reports]
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps({"key": key, "tested_at": time.time(), "reports": stored}))
    draft.replace(path)

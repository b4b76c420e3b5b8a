"""Runs one function of the engine in a child that can harm nobody: levels A, B and C of security.md 4.

Names are resolved on first use, so that a child which imports ``optimizer.sandbox.child`` pays for nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optimizer.sandbox.context import ChildContext
    from optimizer.sandbox.job import ChildFailure, ChildJob, ChildOutcome, ChildUsage, Level, Limits
    from optimizer.sandbox.levels import best_level
    from optimizer.sandbox.self_testing import LevelReport, self_test
    from optimizer.sandbox.session import ChildDied, ChildSession
    from optimizer.sandbox.supervisor import Sandbox

_HOMES = {
    "ChildContext": "context",
    "ChildDied": "session",
    "ChildFailure": "job",
    "ChildJob": "job",
    "ChildOutcome": "job",
    "ChildSession": "session",
    "ChildUsage": "job",
    "Level": "job",
    "LevelReport": "self_testing",
    "Limits": "job",
    "Sandbox": "supervisor",
    "best_level": "levels",
    "self_test": "self_testing",
}

__all__ = [
    "ChildContext",
    "ChildDied",
    "ChildFailure",
    "ChildJob",
    "ChildOutcome",
    "ChildSession",
    "ChildUsage",
    "Level",
    "LevelReport",
    "Limits",
    "Sandbox",
    "best_level",
    "self_test",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)

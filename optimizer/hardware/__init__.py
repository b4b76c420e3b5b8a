"""Probe and micro-benchmark the host. ``probe`` is resolved on first use: a timed child only counts cores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optimizer.hardware.cores import allowed_cores

if TYPE_CHECKING:
    from optimizer.hardware.probing import probe

__all__ = ["allowed_cores", "probe"]


def __getattr__(name: str) -> Any:
    if name != "probe":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return import_module("optimizer.hardware.probing").probe

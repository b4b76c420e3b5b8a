"""The contract every inference backend keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from optimizer.specs import BackendSettings, HardwareProfile, ModelCard, TensorSpec

Feeds = Mapping[str, np.ndarray[Any, Any]]
Run = Callable[[Feeds], list[np.ndarray[Any, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Available:
    version: str
    devices: tuple[str, ...] = ("CPU",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    reason: str
    install: str


class Session(Protocol):
    """An opened model. ``run`` is the timed call: feeds in, outputs in graph order, synchronised."""

    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]

    def run(self, feeds: Feeds) -> list[np.ndarray[Any, Any]]: ...

    def facts(self) -> dict[str, Any]:
        """What the runtime says it really does (providers, precision, threads); JSON."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Parallel(Protocol):
    """A session with several requests in flight: one ``run`` for each, every one to be called from a thread of its own."""

    def lanes(self) -> Sequence[Run]: ...


def lanes_of(session: Session) -> tuple[Run, ...]:
    """Calls that may be under way at the same time; one for a session that knows no streams."""
    return tuple(session.lanes()) if isinstance(session, Parallel) else (session.run,)


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsVariant:
    """A settings candidate a backend proposes for a host; ``accuracy_invariant`` is False for reduced precision."""

    settings: BackendSettings
    accuracy_invariant: bool
    why: str = ""


class Backend(Protocol):
    """One inference runtime. Heavy imports happen inside ``availability`` and ``open``."""

    name: str
    formats: frozenset[str]

    def availability(self) -> Available | Missing: ...

    def variants(self, card: ModelCard, hardware: HardwareProfile) -> Sequence[SettingsVariant]: ...

    def open(
        self,
        artifact: Path,
        settings: BackendSettings,
        *,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        cache_dir: Path | None = None,
    ) -> Session:
        """Load ``artifact`` (the entry file inside its folder). ``shapes`` are the bound input shapes.

        Raises EngineError ``backend.unsupported`` (operator or shape named), ``backend.load_failed``.
        """
        ...


@runtime_checkable
class ServesStreams(Protocol):
    """A backend whose sessions take ``settings.streams`` above one."""

    def stream_counts(self, hardware: HardwareProfile) -> Sequence[int]:
        """Requests in flight worth trying on this host, most promising first; all threads of the quota are shared among them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ConformanceCase:
    """A tiny model with feeds and expected outputs that every backend must serve or precisely refuse."""

    name: str
    model: Path
    feeds: dict[str, Any] = field(default_factory=dict)

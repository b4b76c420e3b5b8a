"""Stands for a registered backend whose package cannot be loaded, so that the others go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from optimizer.backends.base import Missing, Session, SettingsVariant
from optimizer.backends.errors import BackendMissing
from optimizer.specs import BackendSettings, HardwareProfile, ModelCard

REINSTALL = "reinstall or remove the package that registers it"


class Unloadable:
    """Reports itself missing and proposes nothing."""

    formats: frozenset[str] = frozenset()

    def __init__(self, *, name: str, reason: str) -> None:
        self.name = name
        self._reason = reason

    def availability(self) -> Missing:
        return Missing(reason=self._reason, install=REINSTALL)

    def variants(self, _card: ModelCard, _hardware: HardwareProfile) -> Sequence[SettingsVariant]:
        return ()

    def open(
        self,
        artifact: Path,
        settings: BackendSettings,
        *,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        cache_dir: Path | None = None,
    ) -> Session:
        raise BackendMissing(f"The backend {self.name!r} is not usable: {self._reason} Reinstall or remove its package.")

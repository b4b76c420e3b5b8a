"""What a search is given, and who watches it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from optimizer.errors import EngineError, Side
from optimizer.measure.inputs import InputSet
from optimizer.specs import HardwareProfile, ModelCard, SearchSpec, StageReport


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchProblem:
    """One model on one host: where its files are, what is asked, and a folder that survives restarts.

    ``entry`` is the model file relative to ``model_dir``; ``workspace`` holds the build cache and the raw samples.
    """

    model_dir: Path
    entry: str
    card: ModelCard
    spec: SearchSpec
    hardware: HardwareProfile
    inputs: InputSet
    workspace: Path


class Observer(Protocol):
    """Receives progress; ``cancelled`` is asked between steps and inside children."""

    def phase(self, name: str, *, done: int, total: int, detail: str) -> None: ...

    def report(self, report: StageReport) -> None: ...

    def log(self, line: str) -> None: ...

    def cancelled(self) -> bool: ...


class Silent:
    """An observer that watches nothing and never cancels."""

    def phase(self, name: str, *, done: int, total: int, detail: str) -> None:
        """Ignore."""

    def report(self, report: StageReport) -> None:
        """Ignore."""

    def log(self, line: str) -> None:
        """Ignore."""

    def cancelled(self) -> bool:
        return False


class Cancelled(EngineError):
    """The observer asked to stop; what was reported stays."""

    def __init__(self) -> None:
        super().__init__("run.cancelled", "The search was cancelled; finished stages are kept.")
        self.side = Side.USER

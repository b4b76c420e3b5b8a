"""The contract every optimization pass keeps: model folder in, model folder out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from optimizer.passes.evaluator import Evaluator
from optimizer.specs import HardwareProfile, Json, ModelCard, PassAccuracy, PassNeeds, PassScope, PassStep, Precision, TaskKind


@dataclass(frozen=True, slots=True)
class Yes:
    """The pass can help here."""


@dataclass(frozen=True, slots=True)
class No:
    """The pass cannot help here, and why."""

    reason: str


def unheard(_words: str) -> None:
    """The ear of somebody who does not listen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassContext:
    """What a pass may use while it works, inside the child.

    ``calibration`` is an InputSet folder; ``calibration_indices`` are the examples of it that a pass may look at (empty: all).
    ``evaluator`` is there for passes that declare ``PassNeeds.EVALUATION``, ``training`` (an InputSet folder) for those that
    declare ``PassNeeds.TRAINING``; these tell how far they are with ``say``, draw from ``seed``, and keep their best state in
    ``checkpoints``, where they find that of an interrupted attempt.
    """

    card: ModelCard
    hardware: HardwareProfile
    work_dir: Path
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    calibration: Path | None = None
    calibration_indices: tuple[int, ...] = ()
    evaluator: Evaluator | None = None
    training: Path | None = None
    task: TaskKind = TaskKind.GENERIC
    seed: int = 1
    checkpoints: Path | None = None
    say: Callable[[str], None] = unheard


@dataclass(frozen=True, slots=True, kw_only=True)
class PassResult:
    """Entry file of the rewritten model (inside the target folder) and facts for the report (JSON)."""

    entry: Path
    facts: dict[str, Any] = field(default_factory=dict)


class Pass(Protocol):
    """One optimization method, with its taxonomy as data.

    ``backends`` names those that run its result well; empty means every backend. ``precisions`` are the precision hints under
    which its result has a sense; empty means each. ``tools`` are the distributions whose version decides the result.
    """

    name: str
    title: str
    family: str
    scope: PassScope
    accuracy: PassAccuracy
    needs: PassNeeds
    formats: frozenset[str]
    backends: frozenset[str]
    precisions: frozenset[Precision]
    tools: tuple[str, ...]

    def applicable(self, card: ModelCard, hardware: HardwareProfile) -> Yes | No: ...

    def variants(self, card: ModelCard, hardware: HardwareProfile) -> Sequence[PassStep]:
        """Parameter choices worth trying on this model and host, most promising first."""
        ...

    def apply(self, source: Path, target_dir: Path, params: dict[str, Json], context: PassContext) -> PassResult:
        """Rewrite the model at ``source`` into ``target_dir``. Raises EngineError ``pass.failed`` or ``pass.no_change``."""
        ...


@runtime_checkable
class FixesShapes(Protocol):
    """A pass whose result serves one set of input shapes says so with ``fixes_shapes = True``; traffic of several leaves it out."""

    fixes_shapes: bool


class Conversion(Pass, Protocol):
    """A pass whose result has another format, ``target_format``; what follows it in a recipe works on that."""

    target_format: str

    def expected(self, card: ModelCard) -> ModelCard:
        """What planning may assume of the result before it is built."""
        ...

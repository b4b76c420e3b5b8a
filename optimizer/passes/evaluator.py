"""What a pass may ask when it has to try forms of the model before it decides (it never opens a runtime itself)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from optimizer.specs import BackendSettings, ExecutedNode


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """``holds``: the fidelity limits would be proven on the sealed examples, if those agree as well as these did."""

    holds: bool
    reason: str
    values: dict[str, float] = field(default_factory=dict)


class Evaluator(Protocol):
    """Runs forms of one model on examples that may choose recipes, and compares them with the untouched original."""

    @property
    def examples(self) -> int: ...

    def nodes(self, entry: Path, settings: BackendSettings) -> tuple[ExecutedNode, ...]:
        """What the runtime executes, with the time of each node. Raises EngineError ``backend.*``."""
        ...

    def seconds(self, forms: Sequence[tuple[Path, BackendSettings]]) -> list[float]:
        """Typical seconds of a call of each form, all open at once and timed in turns. Raises EngineError ``backend.*``."""
        ...

    def noise(self, entry: Path, settings: BackendSettings, *, examples: int) -> float:
        """Noise power of the outputs over their signal power, typical over the examples; infinite when they are unusable."""
        ...

    def judge(self, entry: Path, settings: BackendSettings) -> Judged:
        """Task-shaped fidelity on all examples."""
        ...

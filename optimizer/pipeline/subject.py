"""What every stage works on, and how a child's failure is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optimizer.codec import to_jsonable
from optimizer.errors import EngineError, Side
from optimizer.measure.inputs import InputSet
from optimizer.measure.traffic import Bucket, open_shapes
from optimizer.passes.base import unheard
from optimizer.pipeline.builds import Build
from optimizer.pipeline.evaluating import Yardstick
from optimizer.sandbox.job import ChildFailure, ChildOutcome, Limits
from optimizer.specs import Failure, HardwareProfile, ModelCard, Recipe
from optimizer.units import GIB


def never() -> bool:
    """The answer of somebody who never cancels."""
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The uploaded model, its inputs and the host.

    ``timing`` holds the examples of timed calls, ``calibration`` those that passes take ranges from, ``choosing`` those on which
    passes may try forms of the model, held to ``yardstick``, ``training`` those that passes may learn from. ``heard`` is told how far
    a build is. ``buckets`` are the shapes of the traffic, if there are several.
    """

    model_dir: Path
    entry: str
    card: ModelCard
    hardware: HardwareProfile
    inputs: InputSet
    timing: InputSet
    calibration: InputSet | None = None
    choosing: InputSet | None = None
    yardstick: Yardstick | None = None
    training: InputSet | None = None
    buckets: tuple[Bucket, ...] = ()
    workspace: Path
    seed: int = 1
    limits: Limits = field(default_factory=Limits)
    cancelled: Callable[[], bool] = never
    heard: Callable[[str], None] = unheard

    @property
    def shapes(self) -> dict[str, list[int]]:
        """Bound input shapes, as JSON."""
        return {name: list(shape) for name, shape in self.inputs.shapes.items()}

    @property
    def opened_shapes(self) -> dict[str, list[int]]:
        """Shapes of a session that serves every call: as bound, with open dims (-1) where the traffic differs."""
        return {name: list(shape) for name, shape in open_shapes(self.buckets).items()} if self.buckets else self.shapes

    def session_params(self, build: Build, recipe: Recipe, examples: InputSet) -> dict[str, Any]:
        """What every child needs that opens a session on all of these examples."""
        return {
            "entry": build.entry,
            "backend": recipe.backend,
            "settings": to_jsonable(recipe.settings),
            "shapes": self.shapes,
            "indices": list(range(examples.n)),
            **({"buckets": [to_jsonable(one) for one in self.buckets]} if self.buckets else {}),
        }


def binds(build: Build, examples: InputSet) -> dict[str, Path]:
    """The model's folder and the examples'."""
    return {"model": build.folder, "inputs": examples.folder}


def limits_for(hardware: HardwareProfile, *, wall_s: float) -> Limits:
    """Bounds of a child on this host: at most four fifths of its memory."""
    return Limits(wall_s=wall_s, memory_bytes=max(GIB, hardware.memory_bytes * 4 // 5))


class StepFailed(EngineError):
    """A child did not do its part; ``failure`` goes into the stage's report."""

    def __init__(self, failure: Failure, *, side: Side = Side.SYSTEM) -> None:
        super().__init__(failure.code, failure.detail)
        self.failure = failure
        self.side = side


def failure_of(failure: ChildFailure) -> Failure:
    """As the report tells it."""
    return Failure(code=failure.code, detail=failure.detail, stray=failure.stray)


def result_of(outcome: ChildOutcome) -> dict[str, Any]:
    """The child's answer. Raises StepFailed."""
    if outcome.failure is not None:
        raise StepFailed(failure_of(outcome.failure), side=outcome.failure.side)
    return outcome.result or {}

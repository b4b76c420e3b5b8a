"""The plan: which recipes to try, in which order, and what was left out with its reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from optimizer.specs import NotTried, PassStep, Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A recipe worth trying. ``prior_speedup`` is a guess that only orders the queue; it proves nothing.

    ``refines``: it repairs the reduced precision of the plain recipe with the same backend and settings. ``tries_forms``: its
    build runs the model many times. ``rewrites_arithmetic``: a pass of it changes the numbers, not only the runtime's precision.
    ``training_s``: seconds that its build may spend on training, which ends with the passes ``trained``.
    """

    recipe: Recipe
    accuracy_invariant: bool
    why: str
    prior_speedup: float = 1.0
    refines: bool = False
    tries_forms: bool = False
    rewrites_arithmetic: bool = False
    training_s: float = 0.0
    trained: tuple[PassStep, ...] = ()


def no_tuning(_candidate: Candidate) -> tuple[Candidate, ...]:
    """The tuner of a plan without settings variants."""
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Trial 0's recipe, candidates in the order they are tried, and a pure function that proposes settings for a survivor."""

    reference: Recipe
    candidates: tuple[Candidate, ...]
    not_tried: tuple[NotTried, ...] = ()
    tune: Callable[[Candidate], tuple[Candidate, ...]] = field(default=no_tuning)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Computed before the start: seconds in total and by part, sealed examples the accuracy check needs, and what stands in the way."""

    low_s: float
    high_s: float
    parts: dict[str, float]
    trials: int
    sealed_needed: int
    problems: tuple[str, ...] = ()
    least_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the driver knows before the start: time left, inputs and how many processes memory allows to be held open."""

    total_s: float
    synthetic: bool
    sealed_available: int
    sealed_needed: int
    gate_examples: int = 64
    held_max: int = 5

"""What a replay concludes: are the outputs and the median latency of a bundle reproduced here?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from optimizer.export.agreement import Agreement, OutputAgreement, worst_of
from optimizer.export.contents import Recorded
from optimizer.export.packages import VersionGap
from optimizer.measure.compare import PairedEffect, welch_effect
from optimizer.measure.environment import differences
from optimizer.passes import passes
from optimizer.specs import Effect, Json, PassAccuracy, Precision, Recipe

FOLLOWS_OTHERS = ("hardware", "packages", "engine", "affinity", "byte_order")
"""Digests and details that other differing facts already tell, or that no recorded number depends on."""


class ReplayVerdict(StrEnum):
    REPRODUCED = "reproduced"
    UNDECIDED = "undecided"
    NOT_REPRODUCED = "not_reproduced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What was found. ``outputs`` is None for a model that draws random numbers; ``latency`` is recorded/here, None without a record."""

    recipe: Recipe
    gaps: tuple[VersionGap, ...]
    departures: tuple[str, ...]
    outputs: tuple[OutputAgreement, ...] | None
    latency: PairedEffect | None
    recorded_ms: tuple[float, ...] = ()
    here_ms: tuple[float, ...] = ()

    @property
    def same_hardware(self) -> bool:
        return "hardware" not in self.departures

    @property
    def agreement(self) -> Agreement | None:
        return None if self.outputs is None else worst_of(self.outputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    verdict: ReplayVerdict
    reason: str


def latency_effect(recorded: Recorded, here_ms: Sequence[float]) -> PairedEffect | None:
    """Ratio recorded/here of the start medians (above 1: faster here) with Welch's interval: two sessions share no noise to pair by."""
    if not recorded.start_latencies_p50_ms or not here_ms:
        return None
    return welch_effect(recorded.start_latencies_p50_ms, here_ms, margin=recorded.margin)


def departures(recorded: Recorded, here: dict[str, Json]) -> tuple[str, ...]:
    """Facts of the environment that differ from the recorded ones; empty also when none were recorded."""
    return differences(recorded.environment, here) if recorded.environment else ()


def telling(names: Sequence[str]) -> tuple[str, ...]:
    """The departures worth naming to a person."""
    return tuple(name for name in names if name not in FOLLOWS_OTHERS) or tuple(names)


def conclude(replay: Replay) -> Conclusion:
    """Reproduced: outputs the same (close, where the recipe computes in reduced precision) and latency equivalent or faster."""
    if replay.agreement is Agreement.DIFFERENT:
        return Conclusion(verdict=ReplayVerdict.NOT_REPRODUCED, reason="the outputs are different")
    if replay.latency is not None and replay.latency.effect is Effect.SLOWER:
        return Conclusion(verdict=ReplayVerdict.NOT_REPRODUCED, reason="the median latency is higher than recorded by over the margin")
    doubts = _doubts(replay)
    if doubts:
        return Conclusion(verdict=ReplayVerdict.UNDECIDED, reason="; ".join(doubts))
    return Conclusion(verdict=ReplayVerdict.REPRODUCED, reason="outputs and median latency are as recorded, or better")


def is_reduced(recipe: Recipe) -> bool:
    """Whether machines may round differently by design: a reduced precision, or a pass that is not known to be exact."""
    exact = {name for name, one in passes().items() if one.accuracy is PassAccuracy.INVARIANT}
    return recipe.settings.precision is not Precision.F32 or any(step.name not in exact for step in recipe.passes)


def _doubts(replay: Replay) -> list[str]:
    doubts = []
    if replay.agreement is None:
        doubts.append("the model draws random numbers, so its outputs cannot be compared")
    if replay.agreement is Agreement.CLOSE and not is_reduced(replay.recipe):
        doubts.append("the outputs are close, but this recipe computes in full precision and should give the same")
    if replay.latency is None:
        doubts.append("the bundle holds no recorded latency to compare with")
    elif replay.latency.effect is Effect.INCONCLUSIVE:
        doubts.append("the latency interval reaches beyond the margin; use more --starts or a quieter machine")
    return doubts

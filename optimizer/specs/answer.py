"""What a search answers: stage reports of every trial, duels, the outcome."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from optimizer.specs.base import SCHEMA_VERSION, Json
from optimizer.specs.evidence import Effect, Measurement, Verdict
from optimizer.specs.question import InputSource, TrafficShare
from optimizer.specs.recipe import Recipe


class Stage(StrEnum):
    """Stages of a trial, in order; reports are idempotent per (trial, stage)."""

    BUILD = "build"
    GATE = "gate"
    SCREEN = "screen"
    RACE = "race"
    CONFIRM = "confirm"


class StageStatus(StrEnum):
    OK = "ok"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a stage failed: stable code, sentence, and whether the cause lay outside the trial (a stray kill)."""

    code: str
    detail: str
    stray: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRef:
    """A file that belongs to a stage; ``path`` is local to the machine that wrote it."""

    role: str
    sha256: str
    size_bytes: int
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReport:
    """What one stage of one trial yielded; trial 0 is the untouched baseline."""

    trial: int
    stage: Stage
    recipe: Recipe
    status: StageStatus = StageStatus.OK
    failure: Failure | None = None
    measurements: tuple[Measurement, ...] = ()
    verdict: Verdict | None = None
    detail: dict[str, Json] = field(default_factory=dict)
    artifacts: tuple[ArtifactRef, ...] = ()
    environment: dict[str, Json] = field(default_factory=dict)


class Decision(StrEnum):
    """How a search ended."""

    WINNER = "winner"
    KEEP_ORIGINAL = "keep_original"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Duel:
    """A finalist against the baseline, paired over race blocks. ``ratios`` are per-block speed-ups."""

    trial: int
    kpi: str
    speedup: Measurement
    effect: Effect
    blocks: int
    looks: int
    ratios: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeDuel:
    """One shape of the traffic: median latency of the judged trial's calls against the original's, paired over race blocks."""

    trial: int
    bindings: dict[str, int]
    share: float
    speedup: Measurement
    effect: Effect

    @property
    def words(self) -> str:
        """Such as ``sequence=64``."""
        return TrafficShare(bindings=self.bindings).words


@dataclass(frozen=True, slots=True, kw_only=True)
class NotTried:
    """A recipe or pass that was left out, and why."""

    label: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstProven:
    """The form that was found first of those that are proven faster and to meet every target.

    ``forms`` had been tried by then (the original not counted), ``seconds`` had passed since the search began; the proof came later.
    """

    trial: int
    forms: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOutcome:
    """The answer: a decision with its reason, the picks and the race behind them."""

    schema_version: int = SCHEMA_VERSION
    decision: Decision
    reason: str
    winner: int | None = None
    nearest: int | None = None
    picks: dict[str, int] = field(default_factory=dict)
    duels: tuple[Duel, ...] = ()
    shapes: tuple[ShapeDuel, ...] = ()
    not_tried: tuple[NotTried, ...] = ()
    input_source: InputSource = InputSource.SYNTHETIC
    sealed_examples: int = 0
    trials: int = 0
    elapsed_s: float = 0.0
    first_proven: FirstProven | None = None
    warnings: tuple[str, ...] = ()

"""The words between the search machine and whoever runs it: actions asked, results told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from optimizer.kpis import Direction, kpi
from optimizer.measure.statistics import start_throughput
from optimizer.specs import Decision, Duel, Failure, Measurement, NotTried, Recipe, ShapeDuel, Verdict

Floats = np.ndarray[Any, np.dtype[np.float64]]
Rows = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """Materialise the recipe's passes."""

    trial: int
    recipe: Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Compare the trial's outputs with Trial 0's on the search split."""

    trial: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScreenRound:
    """Visit these trials once, in this order, for ``seconds`` each. Those in ``kept`` stay open unvisited, all others are closed."""

    order: tuple[int, ...]
    seconds: float
    kept: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedCheck:
    """Compare a finalist's outputs with Trial 0's on the first ``examples`` of the sealed split; asked once per finalist."""

    trial: int
    examples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RaceBlock:
    """One fresh process of each of these trials, back to back, in this order."""

    index: int
    order: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureStart:
    """One fresh start of a trial outside the race: Trial 0 when nothing is left to race against it."""

    trial: int
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """What the search can say. ``fault`` is set when the untouched original itself could not be run."""

    decision: Decision
    reason: str
    winner: int | None = None
    nearest: int | None = None
    picks: dict[str, int] = field(default_factory=dict)
    duels: tuple[Duel, ...] = ()
    shapes: tuple[ShapeDuel, ...] = ()
    not_tried: tuple[NotTried, ...] = ()
    warnings: tuple[str, ...] = ()
    fault: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """Nothing more to do."""

    conclusion: Conclusion


Action = Build | Gate | ScreenRound | SealedCheck | RaceBlock | MeasureStart | Finish


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    trial: int
    seconds: float
    size_bytes: int = 0
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """How a trial's outputs compare with Trial 0's. ``invariant``: they agree to rounding; ``limits`` are the default limits applied;
    ``stream_steps`` is above 1 where state was fed back over streams."""

    verdict: Verdict
    reason: str = ""
    invariant: bool = False
    measurements: tuple[Measurement, ...] = ()
    limits: dict[str, float] = field(default_factory=dict)
    stream_steps: int = 1

    @property
    def meets_limits(self) -> bool:
        """Whether every value, its interval aside, lies on the good side of its limit."""
        return all(_meets(one, self.limits[one.kpi]) for one in self.measurements if one.kpi in self.limits)


def _meets(measurement: Measurement, limit: float) -> bool:
    if measurement.value is None:
        return False
    return measurement.value <= limit if kpi(measurement.kpi).direction is Direction.LOWER else measurement.value >= limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Gated:
    """Answer to ``Gate``: fidelity on the search split, or why there is none."""

    trial: int
    seconds: float
    fidelity: Fidelity | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """Answer to ``SealedCheck``."""

    trial: int
    seconds: float
    examples: int = 0
    fidelity: Fidelity | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Screened:
    """Typical time of each visited trial in this round; ``opened_s`` holds what opening a process cost.

    ``cold_ns`` are the cold starts of those opened in it: load and first inference.
    """

    seconds: float
    medians_ns: dict[int, float] = field(default_factory=dict)
    opened_s: dict[int, float] = field(default_factory=dict)
    cold_ns: dict[int, float] = field(default_factory=dict)
    failures: dict[int, Failure] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One fresh start. ``rows_ns`` is [n, 2]: issued and completed, each row ``calls_per_sample`` calls; in time order.

    A call holds ``items`` examples; ``in_flight`` calls were under way at once. ``buckets`` is the traffic's bucket of each row, [n].
    """

    rows_ns: Rows
    load_ns: int = 0
    first_ns: int = 0
    memory_peak_bytes: int = 0
    warmup: str = "flat"
    calls_per_sample: int = 1
    items: int = 1
    in_flight: int = 1
    buckets: Rows | None = None

    @property
    def latencies_ns(self) -> Floats:
        """Duration of one call for every row, shape [n]."""
        return (self.rows_ns[:, 1] - self.rows_ns[:, 0]) / self.calls_per_sample

    @property
    def throughput_per_s(self) -> float:
        """Completed inferences per steady second; a batch of 8 counts 8."""
        return start_throughput(self.rows_ns, batch=self.items, calls_per_sample=self.calls_per_sample, in_flight=self.in_flight)


@dataclass(frozen=True, slots=True, kw_only=True)
class Raced:
    """A block as it ran. ``valid`` is decided by telemetry alone, blind to the results."""

    index: int
    seconds: float
    arms: dict[int, Arm] = field(default_factory=dict)
    failures: dict[int, Failure] = field(default_factory=dict)
    valid: bool = True
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    trial: int
    index: int
    seconds: float
    arm: Arm | None = None
    failure: Failure | None = None


Result = Built | Gated | Screened | Sealed | Raced | Started

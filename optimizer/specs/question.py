"""What a search is asked: scenario, budget, traffic, limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from optimizer.errors import InputError
from optimizer.kpis import kpi
from optimizer.specs.base import SCHEMA_VERSION
from optimizer.specs.evidence import KpiTarget
from optimizer.specs.subject import TaskKind


class Scenario(StrEnum):
    """The load of an experiment (measurement.md 3). Offline: every sample is there at once; batch and parallel streams are free."""

    SINGLE_STREAM = "single_stream"
    OFFLINE = "offline"


OFFLINE_OBJECTIVES = ("throughput_per_s", "cost_usd_per_million_inferences")


class InputSource(StrEnum):
    """Where the inputs come from decides what may win (measurement.md 9)."""

    REAL = "real"
    PROXY = "proxy"
    SYNTHETIC = "synthetic"


LEAST_STREAM_S, FULL_STREAM_BUDGET_S = 0.25, 150.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Wall time for one run, and the counts of the chosen preset."""

    preset: str = "quick"
    total_s: float = 210.0
    looks: tuple[int, ...] = (8, 16)
    finalists: int = 2
    accuracy_examples: int = 500
    block_s: float = 1.0

    @property
    def stream_s(self) -> float:
        """Seconds of measured stream after a start: shorter where little time has to hold a look of the race; more starts tell more."""
        return min(self.block_s, max(LEAST_STREAM_S, self.total_s / FULL_STREAM_BUDGET_S * self.block_s))

    @property
    def accuracy_examples_most(self) -> int:
        """Sealed examples that a proof may take where a form agrees too narrowly for the usual number."""
        return 4 * self.accuracy_examples

    def __post_init__(self) -> None:
        if not math.isfinite(self.total_s) or self.total_s <= 0:
            raise InputError("budget.not_positive", "The time budget must be a finite number of seconds above zero.")


SHAPES_MOST = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficShare:
    """One bar of the histogram of the user's requests: sizes of open dimensions, and how often they come."""

    bindings: dict[str, int]
    weight: float = 1.0

    @property
    def words(self) -> str:
        """Such as ``sequence=64``."""
        return ", ".join(f"{name}={size}" for name, size in self.bindings.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpec:
    """One question to the engine: targets, objective, budget and the limits of the search.

    The scenario follows from the objective where none is stated: throughput and cost are asked of samples that are all there.
    """

    schema_version: int = SCHEMA_VERSION
    targets: tuple[KpiTarget, ...] = ()
    objective: str = "latency_p50_ms"
    budget: Budget = field(default_factory=Budget)
    scenario: Scenario | None = None
    bindings: dict[str, int] = field(default_factory=dict)
    traffic: tuple[TrafficShare, ...] = ()
    task: TaskKind | None = None
    margin: float = 0.03
    seed: int = 1
    passes: tuple[str, ...] | None = None
    backends: tuple[str, ...] | None = None
    max_threads: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.margin <= 0.10:
            raise InputError("margin.range", "The margin must lie between 0 and 0.10.")
        check_traffic(self.traffic)
        if self.traffic and self.scenario is Scenario.OFFLINE:
            raise InputError("traffic.offline", "A histogram of shapes is measured one request at a time: use the scenario single_stream.")
        if self.scenario is None:
            is_offline = self.objective in OFFLINE_OBJECTIVES and not self.traffic
            natural = Scenario.OFFLINE if is_offline else Scenario.SINGLE_STREAM
            object.__setattr__(self, "scenario", natural)
        elif self.is_offline and self.objective not in OFFLINE_OBJECTIVES:
            raise InputError(
                "scenario.objective",
                f"Offline has no {kpi(self.objective).title} to improve: use {' or '.join(OFFLINE_OBJECTIVES)}, or the scenario single_stream.",
            )

    @property
    def widest(self) -> dict[str, int]:
        """The bindings with the largest size of each dimension that the traffic changes: examples are kept at these."""
        names = self.traffic[0].bindings if self.traffic else ()
        return {**self.bindings, **{name: max(one.bindings[name] for one in self.traffic) for name in names}}

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of all calls of each row of the traffic; they add up to one."""
        total = sum(one.weight for one in self.traffic)
        return tuple(one.weight / total for one in self.traffic)

    @property
    def is_offline(self) -> bool:
        """Whether all samples are there at once, so that batch and parallel streams are free."""
        return self.scenario is Scenario.OFFLINE


def check_traffic(traffic: Sequence[TrafficShare]) -> None:
    """Raises InputError ``traffic.too_many``, ``traffic.weight``, ``traffic.bindings``."""
    if len(traffic) > SHAPES_MOST:
        raise InputError("traffic.too_many", f"A histogram has at most {SHAPES_MOST} shapes; merge the rare ones into the next larger.")
    if not all(math.isfinite(one.weight) and one.weight > 0 for one in traffic):
        raise InputError("traffic.weight", "Every weight of the histogram must be a finite number above zero.")
    names = {tuple(sorted(one.bindings)) for one in traffic}
    if len(names) > 1 or () in names:
        raise InputError("traffic.bindings", "Every row of the histogram must give a size to the same dimensions, at least one.")
    if any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for one in traffic for size in one.bindings.values()):
        raise InputError("traffic.bindings", "Sizes in the histogram are whole numbers from 1.")
    if len({tuple(sorted(one.bindings.items())) for one in traffic}) < len(traffic):
        raise InputError("traffic.bindings", "The histogram lists a shape twice; add up its weights.")

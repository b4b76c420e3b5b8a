"""Has a start warmed up? The three-window gate and the classes of a start (measurement.md 5, quick preset)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median

from optimizer.specs import Validity
from optimizer.units import NS_PER_S

TOLERANCE = 0.10
WINDOWS = 3


class WarmupClass(StrEnum):
    """How a start came to its steady state; ``inconsistent`` describes a set of starts that differ."""

    FLAT = "flat"
    WARMUP = "warmup"
    SLOWDOWN = "slowdown"
    NO_STEADY_STATE = "no_steady_state"
    INCONSISTENT = "inconsistent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Consecutive calls: how many, how long in all, and their median."""

    calls: int
    total_ns: int
    median_ns: float

    @property
    def throughput_per_s(self) -> float:
        return self.calls * NS_PER_S / self.total_ns


@dataclass(slots=True, kw_only=True)
class ThreeWindowGate:
    """Opens when the last three windows agree within ±10% in throughput and in latency (Triton Perf Analyzer's rule).

    A window closes with the first call at which it holds ``window_ns`` of work and ``min_calls`` calls.
    """

    window_ns: int = 20_000_000
    min_calls: int = 5
    tolerance: float = TOLERANCE
    windows: list[Window] = field(default_factory=list)
    _calls: list[int] = field(default_factory=list)
    _total_ns: int = 0

    def add(self, duration_ns: int) -> bool:
        """Feed one call, groups of calls as their total; True once the gate is open."""
        self._calls.append(duration_ns)
        self._total_ns += duration_ns
        if self._total_ns >= self.window_ns and len(self._calls) >= self.min_calls:
            self.windows.append(Window(calls=len(self._calls), total_ns=max(1, self._total_ns), median_ns=median(self._calls)))
            self._calls, self._total_ns = [], 0
        return self.steady

    @property
    def steady(self) -> bool:
        """Whether the last three closed windows agree."""
        last = self.windows[-WINDOWS:]
        if len(last) < WINDOWS:
            return False
        return self._agree([one.throughput_per_s for one in last]) and self._agree([one.median_ns for one in last])

    @property
    def warmup_class(self) -> WarmupClass:
        """Class of the start, judged by its first window against the three that agreed."""
        return classify_start(self.windows, steady=self.steady, tolerance=self.tolerance)

    def _agree(self, values: Sequence[float]) -> bool:
        centre = sum(values) / len(values)
        return all(abs(value - centre) <= self.tolerance * centre for value in values)


def classify_start(windows: Sequence[Window], *, steady: bool, tolerance: float = TOLERANCE) -> WarmupClass:
    """``warmup``: the first window was slower than the last three; ``slowdown``: faster, usually heat; else ``flat``."""
    if not steady or not windows:
        return WarmupClass.NO_STEADY_STATE
    last = windows[-WINDOWS:]
    settled = sum(one.total_ns for one in last) / sum(one.calls for one in last)
    first = windows[0].total_ns / windows[0].calls
    if first > settled * (1 + tolerance):
        return WarmupClass.WARMUP
    return WarmupClass.SLOWDOWN if first < settled * (1 - tolerance) else WarmupClass.FLAT


def class_of_starts(classes: Sequence[WarmupClass]) -> WarmupClass:
    """One class for a set of starts; ``inconsistent`` when they differ."""
    distinct = set(classes)
    return distinct.pop() if len(distinct) == 1 else WarmupClass.INCONSISTENT


def validity_of_starts(classes: Sequence[WarmupClass]) -> tuple[Validity, tuple[str, ...]]:
    """Starts without steady state warn; over half of them make the result invalid."""
    unsteady = sum(one is WarmupClass.NO_STEADY_STATE for one in classes)
    if not unsteady:
        return Validity.VALID, ()
    reason = f"{unsteady} of {len(classes)} starts reached no steady state"
    return (Validity.INVALID if 2 * unsteady > len(classes) else Validity.VALID_WITH_WARNINGS), (reason,)

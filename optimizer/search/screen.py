"""Screening ledger: ratios to Trial 0 taken within interleaved rounds, and who is clearly beaten (measurement.md 8)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np

START_SD = 0.03
"""Log sd between fresh starts of one artifact, until the agent's own A/A history says otherwise (measurement.md 8)."""

ROUND_SD_FLOOR = 0.005
CERTAIN = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Log speed-up against Trial 0 as screening sees it; ``se`` leaves the variance between starts out."""

    log_ratio: float
    se: float
    rounds: int

    @property
    def speedup(self) -> float:
        return math.exp(self.log_ratio)


@dataclass(slots=True, kw_only=True)
class ScreenLedger:
    """Collects the rounds of every trial; Trial 0 is the denominator of each round. ``colds`` are cold starts in ns, as they occurred."""

    margin: float
    rounds: dict[int, list[float]] = field(default_factory=dict)
    colds: dict[int, list[float]] = field(default_factory=dict)

    def add(self, medians_ns: dict[int, float]) -> None:
        """Take one round; without Trial 0 in it there is nothing to compare and the round is void."""
        baseline = medians_ns.get(0)
        if not baseline or baseline <= 0:
            return
        for trial, median in medians_ns.items():
            if trial and median > 0:
                self.rounds.setdefault(trial, []).append(math.log(baseline / median))

    def add_starts(self, cold_ns: dict[int, float]) -> None:
        """Take the cold starts of processes that were opened for a round."""
        for trial, nanoseconds in cold_ns.items():
            if nanoseconds > 0:
                self.colds.setdefault(trial, []).append(nanoseconds)

    def start_ratio(self, trial: int) -> float:
        """Log speed-up of the cold start against Trial 0's; -inf when either was not seen. A start or two: it orders, it proves nothing."""
        if trial not in self.colds or 0 not in self.colds:
            return -math.inf
        return math.log(float(np.median(self.colds[0])) / float(np.median(self.colds[trial])))

    def count(self, trial: int) -> int:
        return len(self.rounds.get(trial, ()))

    def pace(self, trial: int) -> Pace | None:
        """Median log ratio with a robust standard error; None before the first round."""
        values = self.rounds.get(trial)
        if not values:
            return None
        centre = float(np.median(values))
        spread = max(1.4826 * float(np.median(np.abs(np.asarray(values) - centre))), ROUND_SD_FLOOR)
        return Pace(log_ratio=centre, se=1.2533 * spread / math.sqrt(len(values)), rounds=len(values))

    def ranking(self, trials: set[int]) -> list[int]:
        """Those of ``trials`` that were screened, fastest first."""
        seen = [(pace.log_ratio, trial) for trial in trials if (pace := self.pace(trial))]
        return [trial for _, trial in sorted(seen, key=lambda pair: (-pair[0], pair[1]))]

    def beaten_by(self, rival: int, trial: int) -> float:
        """Probability that ``rival`` is faster than ``trial`` by over the margin; each process draws its own start effect."""
        ahead, behind = self.pace(rival), self.pace(trial)
        if ahead is None or behind is None:
            return 0.0
        return _above(ahead.log_ratio - behind.log_ratio - math.log1p(self.margin), ahead.se, behind.se)

    def may_win(self, trial: int) -> float:
        """Probability that the trial is faster than Trial 0 by over the margin."""
        pace = self.pace(trial)
        return 0.0 if pace is None else _above(pace.log_ratio - math.log1p(self.margin), pace.se, 0.0)

    def slower_than_baseline(self, trial: int) -> float:
        """Probability that the trial is slower than Trial 0 by over the margin."""
        pace = self.pace(trial)
        if pace is None:
            return 0.0
        return _above(-pace.log_ratio - math.log1p(self.margin), pace.se, 0.0)

    def dominated(self, field_: set[int]) -> set[int]:
        """Members of the field that the fastest member, or Trial 0, certainly beats."""
        order = self.ranking(field_)
        if not order:
            return set()
        best = order[0]
        behind = {trial for trial in order[1:] if self.beaten_by(best, trial) >= CERTAIN}
        return behind | {trial for trial in order if self.slower_than_baseline(trial) >= CERTAIN}


def _above(difference: float, first_se: float, second_se: float) -> float:
    sd = math.sqrt(first_se**2 + second_se**2 + 2 * START_SD**2)
    return NormalDist().cdf(difference / sd)

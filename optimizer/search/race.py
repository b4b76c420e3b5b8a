"""The final race: blocks of fresh processes, looks at fixed counts, reruns decided by telemetry alone (measurement.md 6, 7)."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from optimizer.measure.compare import PairedEffect, look_errors, paired_effect
from optimizer.search.actions import Arm, RaceBlock, Raced
from optimizer.search.arms import GUARDED_KPIS, SIZE, is_speed, log_speedups, raced_kpi
from optimizer.search.reserve import OPTIMISM
from optimizer.specs import Effect, Failure

BUSY_SHARE = 0.5
"""Where more of the blocks are disturbed, the host is never quiet: running them again would only spend the time."""

CLEAR_LEAD = 1.10
"""What a lead must lie above, with its whole interval, where disturbed blocks had to count."""

WITHDRAWN = Failure(code="race.withdrawn", detail="The time left held only the race of a more promising finalist.")


class RaceEnd(StrEnum):
    """Why the race stopped."""

    DECIDED = "decided"
    LOOKS_USED = "looks_used"
    TIME = "time"
    BASELINE_LOST = "baseline_lost"
    NO_FINALISTS = "no_finalists"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standoff:
    """One finalist against the baseline at a look: the objective's effect and the guard on speed."""

    trial: int
    look: int
    blocks: int
    error: float
    effect: PairedEffect
    guard: dict[str, PairedEffect]
    ratios: tuple[float, ...]
    is_disturbed: bool = False

    @property
    def guard_holds(self) -> bool | None:
        """True: proven not slower by over the margin; False: proven slower; None: open."""
        if any(effect.effect is Effect.SLOWER for effect in self.guard.values()):
            return False
        return True if all(effect.not_slower for effect in self.guard.values()) else None

    @property
    def decided(self) -> bool:
        return self.effect.effect is not Effect.INCONCLUSIVE and self.guard_holds is not None and not self._is_doubtful

    @property
    def _is_doubtful(self) -> bool:
        """A lead that a busy host might have made."""
        return self.is_disturbed and self.effect.effect is Effect.FASTER and self.effect.ci_low < CLEAR_LEAD

    @property
    def beats_baseline(self) -> bool:
        return self.effect.effect is Effect.FASTER and bool(self.guard_holds) and not self._is_doubtful


@dataclass(slots=True, kw_only=True)
class Race:
    """Pure: asks for blocks, is told how they ran, and looks only at the counts fixed before it began.

    ``finalists`` come most promising first. ``sizes`` are model sizes in bytes per trial, for the objective that is known without timing.
    ``wants_more`` may keep a decided race going to the next look (a target that is still unproven).

    Disturbed blocks are run again. Where most are, or when the time ends, every block counts: both arms of a block meet the same host
    in an order drawn by lot, so that disturbance widens the interval and favours nobody. Then only a clear lead wins.
    """

    finalists: tuple[int, ...]
    looks: tuple[int, ...]
    margin: float
    objective: str
    seed: int
    sizes: dict[int, int] = field(default_factory=dict)
    wants_more: Callable[[int], bool] = lambda _trial: False
    blocks: list[Raced] = field(default_factory=list)
    invalid: list[Raced] = field(default_factory=list)
    disturbed: int = 0
    lost: dict[int, Failure] = field(default_factory=dict)
    standoffs: dict[int, Standoff] = field(default_factory=dict)
    end: RaceEnd | None = None
    _retried: set[int] = field(default_factory=set)
    _looked: int = 0
    _looked_at: int = 0
    _block_s: list[float] = field(default_factory=list)
    _whole: list[Raced] = field(default_factory=list)

    def ask(self, *, left_s: float, block_s: float) -> RaceBlock | None:
        """The next block, or None when the race is over; ``block_s`` is the expected cost of a block."""
        cost_s = float(np.median(self._block_s)) if self._block_s else block_s
        if self._looked == 0 and self._block_s and self.end is None:
            cost_s = self._cost_after_withdrawals(left_s=left_s, block_s=cost_s)
        if self.end is None and left_s < cost_s * self._blocks_that_must_fit():
            self._stop()
        if self.end is not None:
            return None
        index = len(self.blocks)
        return RaceBlock(index=index, order=self._order(index, attempt=sum(one.index == index for one in self.invalid)))

    def tell(self, block: Raced) -> None:
        """Take a block as it ran; it counts only whole, and undisturbed where the host is ever quiet."""
        self._block_s.append(block.seconds)
        failures = {**block.failures, **self._missing(block)}
        if failures:
            self._take_failures(failures)
            return
        self._whole.append(block)
        if block.valid:
            self.blocks.append(block)
        elif self.disturbed:
            self.blocks.append(block)
            self.disturbed += 1
        else:
            self.invalid.append(block)
        if len(self._whole) >= self.looks[0] and self._is_busy:
            self._count_all()
        if self.end is None and len(self.blocks) >= self.looks[self._looked]:
            self._look()

    def _cost_after_withdrawals(self, *, left_s: float, block_s: float) -> float:
        """Cost of a block once finalists for whose first look the time is gone are out, the least promising first.

        Disturbed blocks cost time that nobody planned; better one finalist decided than all open. Blind to what the race measured.
        """
        due = self.looks[0] - len(self._whole if self._is_busy else self.blocks)
        while len(self.running) > 1 and block_s * due > left_s:
            arms = 1 + len(self.running)
            self.lost[self.running[-1]] = WITHDRAWN
            self._block_s = [seconds * (arms - 1) / arms for seconds in self._block_s]
            block_s *= (arms - 1) / arms
        return block_s

    def _blocks_that_must_fit(self) -> float:
        """After a look a new stretch begins only if the next look is within reach; within a stretch one block at a time."""
        if not self.blocks and not self.invalid:
            return OPTIMISM * self.looks[0]
        at_look = self._looked and len(self.blocks) == self._looked_at
        return self.looks[self._looked] - len(self.blocks) if at_look else 1

    def _missing(self, block: Raced) -> dict[int, Failure]:
        absent = {0, *self.running} - set(block.arms) - set(block.failures)
        return {trial: Failure(code="race.arm_missing", detail="The block ended without this start.", stray=True) for trial in absent}

    @property
    def running(self) -> tuple[int, ...]:
        """Finalists still in the race."""
        return tuple(trial for trial in self.finalists if trial not in self.lost)

    def arms(self, trial: int) -> list[Arm]:
        """Every counted start of a trial, in block order."""
        return [block.arms[trial] for block in self.blocks if trial in block.arms]

    def pairs(self, trial: int) -> list[tuple[Arm, Arm]]:
        """(baseline, candidate) of every counted block."""
        return [(block.arms[0], block.arms[trial]) for block in self.blocks if trial in block.arms]

    @property
    def error(self) -> float:
        """Two-sided error of the latest look, shared between the finalists."""
        return look_errors(self.looks)[max(self._looked - 1, 0)] / len(self.finalists)

    def effect(self, trial: int, name: str, *, error: float) -> PairedEffect:
        """The paired effect on one KPI over all counted blocks."""
        return paired_effect(self._ratios(trial, name), error=error, margin=self.margin)

    def _ratios(self, trial: int, name: str) -> list[float]:
        if name == SIZE:
            return [math.log(self.sizes[0] / self.sizes[trial])] * len(self.pairs(trial))
        return log_speedups(self.pairs(trial), name)

    def _order(self, index: int, *, attempt: int) -> tuple[int, ...]:
        """Random within block pairs: the second block of a pair, and a block run again, runs the first one's order backwards."""
        order = [0, *self.running]
        random.Random(f"{self.seed}/{index // 2}/{len(order)}").shuffle(order)  # noqa: S311
        return tuple(order if (index + attempt) % 2 == 0 else reversed(order))

    def _take_failures(self, failures: dict[int, Failure]) -> None:
        for trial, failure in failures.items():
            if failure.stray and trial not in self._retried:
                self._retried.add(trial)
            else:
                self.lost[trial] = failure
        if 0 in self.lost:
            self.end = RaceEnd.BASELINE_LOST
        elif not self.running:
            self.end = RaceEnd.NO_FINALISTS

    @property
    def _is_busy(self) -> bool:
        return len(self.invalid) > BUSY_SHARE * len(self._whole)

    def _count_all(self) -> None:
        """From now on the disturbed blocks count too; blind to what they measured."""
        self.disturbed += len(self.invalid)
        self.blocks, self.invalid = list(self._whole), []

    def _stop(self) -> None:
        """The time is over. Where reruns have eaten it, one more look at all that ran, at the error of the look that it replaces."""
        self.end = RaceEnd.TIME
        if self.invalid and len(self._whole) >= self.looks[0] and self._looked < len(self.looks):
            self._count_all()
            self._look()

    def _look(self) -> None:
        self._looked += 1
        self._looked_at = len(self.blocks)
        self._compare()
        if self._is_settled():
            self.end = RaceEnd.DECIDED
        elif self._looked == len(self.looks):
            self.end = self.end or RaceEnd.LOOKS_USED

    def _compare(self) -> None:
        for trial in self.running:
            if trial not in self.standoffs or not self.standoffs[trial].decided:
                self.standoffs[trial] = self._standoff(trial)

    def _standoff(self, trial: int) -> Standoff:
        name = raced_kpi(self.objective)
        ratios = self._ratios(trial, name)
        guard = {} if is_speed(self.objective) else {guarded: self.effect(trial, guarded, error=self.error) for guarded in GUARDED_KPIS}
        return Standoff(
            trial=trial,
            look=self._looked,
            blocks=len(ratios),
            error=self.error,
            effect=paired_effect(ratios, error=self.error, margin=self.margin),
            guard=guard,
            ratios=tuple(math.exp(ratio) for ratio in ratios),
            is_disturbed=self.disturbed > 0,
        )

    def _is_settled(self) -> bool:
        """Every finalist is decided, or those still open cannot beat one that already won."""
        standing = [self.standoffs[trial] for trial in self.running]
        won = [one for one in standing if one.beats_baseline]
        if any(self.wants_more(one.trial) for one in won):
            return False
        bar = max((one.effect.ci_low for one in won), default=0.0)
        return all(one.decided or one.effect.ci_high < bar for one in standing)

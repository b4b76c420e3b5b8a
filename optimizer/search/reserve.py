"""Time: what each step costs as observed so far, and what must be kept back for the accuracy check and the race."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from optimizer.measure.split import SEALED_FLOOR
from optimizer.specs import Budget

RACE_SHARE = 0.6
"""The race may claim at most this share of the time left after Trial 0 is known, unless a single look needs more."""

SEALED_SHARE = 0.2
SEARCH_SHARE = 0.2
"""The search gets at least this share of the time after Trial 0 is known, if exact forms can still be checked and raced after it."""

FEWEST_SEALED = 50
"""Sealed examples that are enough for a form that agrees to rounding."""

PROOF_SHARE = 0.5
"""A proof on more than the usual sealed examples may take this share of all time; beyond it only exact forms can win, on fewer."""

OPTIMISM = 0.6
"""A race begins when its first look might fit: costs are guessed from the screening, and nothing better is left to do."""

CLOSING_S = 1.0


class Step(StrEnum):
    """Kinds of work with their own typical cost."""

    BUILD = "build"
    GATE = "gate"
    OPEN = "open"


@dataclass(slots=True, kw_only=True)
class Costs:
    """Seconds per step: a prior until the first observation, then the mean of what was seen."""

    build_s: float = 4.0
    gate_s: float = 2.5
    open_s: float = 2.0
    example_s: float = 0.02
    median_s: float = 0.02
    _seen: dict[Step, list[float]] = field(default_factory=dict)

    def observe(self, step: Step, seconds: float) -> None:
        self._seen.setdefault(step, []).append(seconds)

    def of(self, step: Step) -> float:
        seen = self._seen.get(step)
        prior = {Step.BUILD: self.build_s, Step.GATE: self.gate_s, Step.OPEN: self.open_s}[step]
        return sum(seen) / len(seen) if seen else prior


@dataclass(frozen=True, slots=True, kw_only=True)
class RaceSize:
    """How much race the time allows: the number of looks and of finalists."""

    looks: tuple[int, ...]
    finalists: int


@dataclass(slots=True, kw_only=True)
class Reserve:
    """Shares the budget out: race first, then the sealed check, the search gets the rest."""

    budget: Budget
    total_s: float
    costs: Costs
    min_iterations: int = 30

    def start_s(self) -> float:
        """One fresh start: open, warm up, measured stream."""
        stream_s = max(self.budget.stream_s, self.min_iterations * self.costs.median_s)
        return self.costs.of(Step.OPEN) + stream_s

    def block_s(self, finalists: int) -> float:
        """One block: the baseline and every finalist."""
        return (1 + finalists) * self.start_s()

    def race_s(self, size: RaceSize) -> float:
        return size.looks[-1] * self.block_s(size.finalists)

    def sizes(self) -> list[RaceSize]:
        """Every race the budget's preset allows, most wanted first."""
        looks = self.budget.looks
        prefixes = [looks[: count + 1] for count in reversed(range(len(looks)))]
        counts = range(self.budget.finalists, 0, -1)
        return [RaceSize(looks=prefix, finalists=count) for prefix in prefixes for count in counts]

    def affordable(self, left_s: float) -> RaceSize | None:
        """The most wanted race that fits into ``left_s``; None when not even one look of one finalist does."""
        return next((size for size in self.sizes() if self.race_s(size) <= left_s), None)

    def affordable_finalists(self, left_s: float) -> int:
        """How many finalists may share the race: one even when its first look only might fit, none when it clearly cannot."""
        size = self.affordable(left_s)
        if size is not None:
            return size.finalists
        return 1 if OPTIMISM * self.race_s(self.sizes()[-1]) <= left_s else 0

    def kept_for_race_s(self, left_s: float) -> float:
        """Seconds kept back for the race while the search runs."""
        smallest = self.sizes()[-1]
        size = self.affordable(RACE_SHARE * left_s) or smallest
        return self.race_s(size)

    def sealed_examples(self, *, available: int, needed: int) -> int:
        """How many sealed examples to open: as many as the preset says, fewer when the model is slow.

        Not below what a proof needs, unless that is uncommonly much (streams, strict targets) and would leave no time to search.
        """
        affordable = int(SEALED_SHARE * self.total_s / (2 * self.costs.example_s))
        proof = needed if needed <= max(SEALED_FLOOR, self.provable_examples()) else SEALED_FLOOR
        return min(available, max(proof, min(affordable, self.budget.accuracy_examples)))

    def provable_examples(self) -> int:
        """The most sealed examples that a proof may take."""
        in_time = PROOF_SHARE * self.total_s / ((1 + self.budget.finalists) * self.costs.example_s)
        return int(min(self.budget.accuracy_examples_most, in_time))

    def sealed_s(self, examples: int, *, finalists: int, relative_time: float = 1.0) -> float:
        """Reference outputs and one check per finalist, each at ``relative_time`` of the original's pace, on the sealed examples."""
        return self.check_s(examples) + finalists * self.check_s(examples, relative_time=relative_time)

    def check_s(self, examples: int, *, relative_time: float = 1.0) -> float:
        """The outputs of one form on so many examples."""
        return self.costs.of(Step.OPEN) + examples * self.costs.example_s * relative_time

    def search_ends_s(self, *, known_at_s: float, sealed_s: float) -> float:
        """Elapsed seconds at which the search hands over.

        A search there is in any case: where the time cannot hold the checks of reduced precision, exact forms can win on few examples.
        """
        left = self.total_s - known_at_s - sealed_s - CLOSING_S
        ends_s = known_at_s + max(0.0, left - self.kept_for_race_s(left))
        race_s = OPTIMISM * self.race_s(self.sizes()[-1])
        least_end_s = self.total_s - CLOSING_S - race_s - self.sealed_s(FEWEST_SEALED, finalists=1)
        return max(ends_s, min(known_at_s + SEARCH_SHARE * (self.total_s - known_at_s), least_end_s))

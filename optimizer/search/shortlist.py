"""Who leads, who is beaten, and who may be raced: the screening's ledger seen together with the gates. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from optimizer.search.arms import COLD_START, is_speed
from optimizer.search.field import Field
from optimizer.search.screen import CERTAIN, ScreenLedger
from optimizer.specs import Verdict

HOPEFUL = 0.05
DOUBTFUL_CHECKS = 1
LEAST_ROUNDS = 3
HOPELESS_START = 0.2
"""A form whose one start took a fifth longer than the original's is not raced for its start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortlist:
    """Reads field and ledger; on ``synthetic`` inputs only what agrees with Trial 0 to rounding may win (measurement.md 9)."""

    field: Field
    ledger: ScreenLedger
    objective: str
    synthetic: bool

    def is_eligible(self, index: int) -> bool:
        """May win: no proven Fail at the gate, and on synthetic inputs no changed arithmetic."""
        gate = self.field.trials[index].gate
        return gate is not None and gate.verdict is not Verdict.FAIL and (gate.invariant or not self.synthetic)

    def is_promising(self, index: int) -> bool:
        """Eligible, and the gate's own values lie on the good side of their limits."""
        gate = self.field.trials[index].gate
        return gate is not None and self.is_eligible(index) and gate.meets_limits

    def ranking(self, trials: set[int]) -> list[int]:
        """Fastest first, the promising before all others."""
        return sorted(self._by_objective(trials), key=lambda index: not self.is_promising(index))

    def beaten(self) -> set[int]:
        """Held candidates that are clearly behind. The doubtful and the ineligible never drive out a promising one."""
        seen = {index for index in self.field.held if self.ledger.count(index) >= LEAST_ROUNDS}
        promising = {index for index in seen if self.is_promising(index)}
        return self.ledger.dominated(promising) | (self.ledger.dominated(seen) - promising)

    def contenders(self) -> list[int]:
        """Who may be checked on the sealed examples, best on the objective first; of the doubtful only the first."""
        able = {index for index in self.field.screened if self.is_eligible(index)}
        ranked = self._with_twin(able) if self.objective == COLD_START else self.ledger.ranking(able)
        hopeful = [index for index in ranked if self._is_hopeful(index)]
        doubtful = [index for index in hopeful if not self.is_promising(index)][DOUBTFUL_CHECKS:]
        return [index for index in hopeful if index not in doubtful]

    def is_out_of_reach(self, index: int, *, first: int) -> bool:
        """Whether it is certainly behind the ``first`` finalist. One start seen of each says nothing certain of starts."""
        return self.objective != COLD_START and self.ledger.beaten_by(first, index) >= CERTAIN

    def _by_objective(self, trials: set[int]) -> list[int]:
        ranked = self.ledger.ranking(trials)
        return sorted(ranked, key=lambda index: -self.ledger.start_ratio(index)) if self.objective == COLD_START else ranked

    def _with_twin(self, trials: set[int]) -> list[int]:
        """Quickest to start first; behind the first the same form without its start cache, so that a race shows both."""
        ranked = [index for index in self._by_objective(trials) if self.ledger.start_ratio(index) > -HOPELESS_START]
        twins = [index for index in ranked[1:] if self._is_same_without_cache(index, ranked[0])]
        return [*ranked[:1], *twins, *(index for index in ranked[1:] if index not in twins)]

    def _is_same_without_cache(self, index: int, cached: int) -> bool:
        plain, other = self.field.trials[index].recipe, self.field.trials[cached].recipe
        return other.settings.cached and plain == replace(other, settings=replace(other.settings, cached=False))

    def _is_hopeful(self, index: int) -> bool:
        if is_speed(self.objective):
            return self.ledger.may_win(index) >= HOPEFUL
        return self.ledger.slower_than_baseline(index) < CERTAIN

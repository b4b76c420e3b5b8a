"""Who leads, who is beaten, and who may be raced: the screening's ledger seen together with the gates. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from optimizer.search.arms import is_speed
from optimizer.search.field import Field
from optimizer.search.screen import CERTAIN, ScreenLedger
from optimizer.specs import Verdict

HOPEFUL = 0.05
DOUBTFUL_CHECKS = 1
LEAST_ROUNDS = 3


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
        return sorted(self.ledger.ranking(trials), key=lambda index: not self.is_promising(index))

    def beaten(self) -> set[int]:
        """Held candidates that are clearly behind. The doubtful and the ineligible never drive out a promising one."""
        seen = {index for index in self.field.held if self.ledger.count(index) >= LEAST_ROUNDS}
        promising = {index for index in seen if self.is_promising(index)}
        return self.ledger.dominated(promising) | (self.ledger.dominated(seen) - promising)

    def contenders(self) -> list[int]:
        """Who may be checked on the sealed examples, fastest first; of the doubtful only the fastest."""
        able = {index for index in self.field.screened if self.is_eligible(index)}
        hopeful = [index for index in self.ledger.ranking(able) if self._is_hopeful(index)]
        doubtful = [index for index in hopeful if not self.is_promising(index)][DOUBTFUL_CHECKS:]
        return [index for index in hopeful if index not in doubtful]

    def _is_hopeful(self, index: int) -> bool:
        if is_speed(self.objective):
            return self.ledger.may_win(index) >= HOPEFUL
        return self.ledger.slower_than_baseline(index) < CERTAIN

"""The sealed checks: how many examples they open, who is checked, and in which order; agreement at the gate foretells. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from optimizer.measure.foresight import growth_needed, limits_missed
from optimizer.measure.split import SEALED_FLOOR
from optimizer.search.field import Field
from optimizer.search.plan import Terms
from optimizer.search.reserve import FEWEST_SEALED, Reserve
from optimizer.search.screen import ScreenLedger
from optimizer.search.shortlist import Shortlist
from optimizer.specs import Verdict

EVEN = 0.5
FEWER = 0.85
"""Step down from the wanted sealed examples to those that the time holds."""


@dataclass(slots=True, kw_only=True)
class Checking:
    """Reads field, gates and screening. ``fixed`` is set with the first sealed check: every finalist answers the same examples."""

    field: Field
    shortlist: Shortlist
    ledger: ScreenLedger
    reserve: Reserve
    terms: Terms
    fixed: int = 0

    def examples(self) -> int:
        """Sealed examples that a check opens."""
        return self.fixed or self._for(max(self.terms.sealed_needed, self._leader_needs()))

    @property
    def reach(self) -> int:
        """The most sealed examples that a check may open."""
        return min(self.terms.sealed_available, max(SEALED_FLOOR, self.reserve.provable_examples()))

    def is_foreseen(self, index: int, *, is_cautious: bool = False) -> bool:
        """Whether the sealed examples would pass it, if they agree as well as the examples of the gate did (cautious: nearly as well)."""
        gate = self.field.trials[index].gate
        if gate is None or gate.verdict is Verdict.FAIL:
            return False
        return gate.invariant or not limits_missed(gate.measurements, gate.limits, growth=self._growth(), is_cautious=is_cautious)

    def order(self, left_s: float, examples: int) -> list[int]:
        """Fastest first. Who will probably miss a limit is checked before a safe one only while a safe one would still fit after it.

        Only exact forms, where there is no time for the examples that a proof of others needs.
        """
        contenders = self._repaired_first(self.shortlist.contenders())
        if examples < min(self.terms.sealed_needed, self.terms.sealed_available):
            return [index for index in contenders if self._is_exact(index)]
        left_s -= self._reference_s(examples) + self.reserve.check_s(examples)
        early: list[int] = []
        for index in contenders:
            is_due = self.field.trials[index].sealed is None and not self.is_foreseen(index)
            left_s -= self._check_s(index, examples) if is_due else 0.0
            if not is_due or self.reserve.affordable_finalists(left_s):
                early.append(index)
        return [*early, *(index for index in contenders if index not in early)]

    def _repaired_first(self, contenders: list[int]) -> list[int]:
        """A repaired form goes before a doubtful one of about the same pace, which comes last once the sealed examples held the repair back."""
        found: list[int] = []
        for index in contenders:
            place = len(found)
            while place and self._gives_way(found[place - 1], to=index):
                place -= 1
            found.insert(place, index)
        return sorted(found, key=lambda index: any(self._has_failed(one) and self._gives_way(index, to=one) for one in found))

    def _has_failed(self, index: int) -> bool:
        sealed = self.field.trials[index].sealed
        return sealed is not None and sealed.verdict is not Verdict.PASS

    def _gives_way(self, index: int, *, to: int) -> bool:
        is_plain = not self.field.trials[index].candidate.refines and self.field.trials[to].candidate.refines
        return is_plain and not self.is_foreseen(index, is_cautious=True) and self.ledger.beaten_by(index, to) < EVEN

    def sealed_s(self) -> float:
        """Seconds that the sealed checks will take, by what is known so far."""
        leader = next(iter(self.shortlist.contenders()), None)
        relative_time = 1.0 if leader is None else self._relative_time(leader)
        return self.reserve.sealed_s(self.examples(), finalists=self.reserve.budget.finalists, relative_time=relative_time)

    def affordable(self, left_s: float) -> tuple[int, int]:
        """(sealed examples, finalists) that the rest of the time holds.

        A form that changes no arithmetic passes by agreeing to rounding, on however few examples: it may be checked on fewer.
        """
        usual, examples = self.fixed or self._for(self.terms.sealed_needed), self.examples()
        finalists = self._finalists_after(examples, left_s)
        while not finalists and examples > usual:
            examples = max(usual, int(FEWER * examples))
            finalists = self._finalists_after(examples, left_s)
        if finalists or self.fixed or not any(self._is_exact(index) for index in self.shortlist.contenders()):
            return examples, finalists
        fewer = min(examples, FEWEST_SEALED)
        return fewer, self._finalists_after(fewer, left_s)

    def _for(self, needed: int) -> int:
        return self.reserve.sealed_examples(available=self.terms.sealed_available, needed=needed)

    def _leader_needs(self) -> int:
        """Sealed examples that would prove the fastest form that any number within reach can prove, were the gate's a little lucky.

        All within reach, where only luck can do.
        """
        for index in self.shortlist.contenders():
            gate = self.field.trials[index].gate
            if gate is None or gate.invariant or not self.is_foreseen(index):
                continue
            growth = growth_needed(gate.measurements, gate.limits, most=self._growth(), is_cautious=True)
            return self.reach if growth is None else min(self.reach, math.ceil(growth * self.terms.gate_examples))
        return 0

    def _growth(self) -> float:
        """How many times the gate's examples are within reach."""
        return self.reach / max(1, self.terms.gate_examples)

    def _finalists_after(self, examples: int, left_s: float) -> int:
        """How many finalists the time holds after the next check on so many examples."""
        due = [index for index in self.shortlist.contenders() if self.field.trials[index].sealed is None]
        check_s = self._check_s(due[0], examples) if due else 0.0
        return self.reserve.affordable_finalists(left_s - self._reference_s(examples) - check_s)

    def _reference_s(self, examples: int) -> float:
        """Trial 0's outputs, which the first check makes for all."""
        return 0.0 if self.fixed else self.reserve.check_s(examples)

    def _check_s(self, index: int, examples: int) -> float:
        """One sealed check at the pace that the screening saw."""
        return self.reserve.check_s(examples, relative_time=self._relative_time(index))

    def _relative_time(self, index: int) -> float:
        """Time of an example against the original's, as the screening saw it; never above 1, which is what a new form is given."""
        pace = self.ledger.pace(index)
        return min(1.0, math.exp(-pace.log_ratio)) if pace else 1.0

    def _is_exact(self, index: int) -> bool:
        trial = self.field.trials[index]
        return trial.candidate.accuracy_invariant and trial.gate is not None and trial.gate.invariant

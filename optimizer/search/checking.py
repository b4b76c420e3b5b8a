"""The sealed checks: how many examples they open, who is checked, and in which order; agreement at the gate foretells. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from optimizer.measure.foresight import growth_needed, limits_missed
from optimizer.measure.split import SEALED_FLOOR
from optimizer.search.field import Field
from optimizer.search.plan import Terms
from optimizer.search.reserve import Reserve, Step
from optimizer.search.screen import ScreenLedger
from optimizer.search.shortlist import Shortlist
from optimizer.specs import Verdict

FEWEST_SEALED = 50
PROOF_SLACK = 1.3
"""Sealed examples beyond those that would just do: the gate's few examples may have agreed better than most."""


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

    def is_foreseen(self, index: int) -> bool:
        """Whether the sealed examples would pass it, if they agree as well as the examples of the gate did."""
        gate = self.field.trials[index].gate
        if gate is None or gate.verdict is Verdict.FAIL:
            return False
        return gate.invariant or not limits_missed(gate.measurements, gate.limits, growth=self._growth())

    def order(self, left_s: float, examples: int) -> list[int]:
        """Fastest first. Who will probably miss a limit is checked before a safe one only while a safe one would still fit after it."""
        contenders = self.shortlist.contenders()
        left_s -= self.reserve.sealed_s(examples, finalists=1)
        early: list[int] = []
        for index in contenders:
            is_due = self.field.trials[index].sealed is None and not self.is_foreseen(index)
            left_s -= self._check_s(index, examples) if is_due else 0.0
            if not is_due or self.reserve.affordable_finalists(left_s):
                early.append(index)
        return [*early, *(index for index in contenders if index not in early)]

    def affordable(self, left_s: float) -> tuple[int, int]:
        """(sealed examples, finalists) that the rest of the time holds.

        A form that changes no arithmetic passes by agreeing to rounding, on however few examples: it may be checked on fewer.
        """
        usual, examples = self.fixed or self._for(self.terms.sealed_needed), self.examples()
        finalists = self._finalists_after(examples, left_s)
        if not finalists and examples > usual:
            examples, finalists = usual, self._finalists_after(usual, left_s)
        leader = next(iter(self.shortlist.contenders()), None)
        if finalists or leader is None or not self._is_exact(leader) or self.fixed:
            return examples, finalists
        fewer = min(examples, FEWEST_SEALED)
        return fewer, self._finalists_after(fewer, left_s)

    def _for(self, needed: int) -> int:
        return self.reserve.sealed_examples(available=self.terms.sealed_available, needed=needed)

    def _leader_needs(self) -> int:
        """Sealed examples that would prove the fastest form that any number within reach can prove."""
        for index in self.shortlist.contenders():
            gate = self.field.trials[index].gate
            if gate is None or gate.invariant:
                continue
            growth = growth_needed(gate.measurements, gate.limits, most=self._growth())
            if growth is not None:
                return min(self.reach, math.ceil(PROOF_SLACK * growth * self.terms.gate_examples))
        return 0

    def _growth(self) -> float:
        """How many times the gate's examples are within reach."""
        return self.reach / max(1, self.terms.gate_examples)

    def _finalists_after(self, examples: int, left_s: float) -> int:
        """How many finalists the time holds after one check on so many examples."""
        return self.reserve.affordable_finalists(left_s - self.reserve.sealed_s(examples, finalists=1))

    def _check_s(self, index: int, examples: int) -> float:
        """One sealed check at the pace that the screening saw."""
        pace = self.ledger.pace(index)
        ratio = math.exp(-pace.log_ratio) if pace else 1.0
        return self.reserve.costs.of(Step.OPEN) + examples * self.reserve.costs.example_s * ratio

    def _is_exact(self, index: int) -> bool:
        trial = self.field.trials[index]
        return trial.candidate.accuracy_invariant and trial.gate is not None and trial.gate.invariant

"""The field of a search: which candidates wait, which are held open, and what is known of each. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from optimizer.search.actions import Fidelity
from optimizer.search.plan import Candidate
from optimizer.specs import Failure, Recipe, Verdict


class Standing(StrEnum):
    """Where a trial stands in the search."""

    BUILDING = "building"
    GATING = "gating"
    HELD = "held"
    PARKED = "parked"
    BEATEN = "beaten"
    REFUSED = "refused"
    FAILED = "failed"


SCREENED = (Standing.HELD, Standing.PARKED, Standing.BEATEN)


@dataclass(slots=True, kw_only=True)
class Trial:
    """One recipe on its way through the search."""

    index: int
    candidate: Candidate
    standing: Standing = Standing.BUILDING
    size_bytes: int = 0
    gate: Fidelity | None = None
    sealed: Fidelity | None = None
    failure: Failure | None = None

    @property
    def recipe(self) -> Recipe:
        return self.candidate.recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What an earlier attempt at the same run already learned of a recipe; timings are never part of it."""

    index: int
    gate: Fidelity | None = None
    failure: Failure | None = None


@dataclass(slots=True, kw_only=True)
class Field:
    """Trials by index; index 0 is the untouched original. A recipe keeps the index that an earlier attempt gave it."""

    waiting: list[Candidate]
    known: Mapping[str, Known] = field(default_factory=dict)
    trials: dict[int, Trial] = field(default_factory=dict)

    def enter(self, candidate: Candidate) -> Trial:
        """Give a candidate its index and what is already known of it."""
        known = self.known.get(candidate.recipe.key)
        index = known.index if known else self._free_index()
        trial = Trial(index=index, candidate=candidate)
        if known:
            trial.gate, trial.failure = known.gate, known.failure
        if trial.failure:
            trial.standing = Standing.FAILED
        self.trials[index] = trial
        return trial

    def offer(self, candidates: tuple[Candidate, ...]) -> None:
        """Queue those whose recipe is neither waiting nor entered yet."""
        seen = {one.recipe.key for one in self.waiting} | {trial.recipe.key for trial in self.trials.values()}
        for candidate in candidates:
            if candidate.recipe.key not in seen:
                seen.add(candidate.recipe.key)
                self.waiting.append(candidate)

    def at(self, *standings: Standing) -> set[int]:
        """Indices of the candidates (never Trial 0) with one of these standings."""
        return {index for index, trial in self.trials.items() if index and trial.standing in standings}

    @property
    def held(self) -> set[int]:
        return self.at(Standing.HELD)

    @property
    def screened(self) -> set[int]:
        return self.at(*SCREENED)

    def take_gate(self, index: int, fidelity: Fidelity) -> None:
        """A proven Fail ends a candidate; what is unproven stays."""
        trial = self.trials[index]
        trial.gate = fidelity
        trial.standing = Standing.REFUSED if fidelity.verdict is Verdict.FAIL else Standing.HELD

    def fail(self, index: int, failure: Failure) -> None:
        trial = self.trials[index]
        trial.failure, trial.standing = failure, Standing.FAILED

    def _free_index(self) -> int:
        taken = set(self.trials) | {known.index for known in self.known.values()}
        return next(index for index in range(len(taken) + 1) if index not in taken)

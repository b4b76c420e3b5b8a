"""Whose turn it is: interleaved rounds in small waves, so that costs and the leader are known early. Pure."""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass

from optimizer.search.actions import ScreenRound
from optimizer.search.field import Field
from optimizer.search.shortlist import Shortlist

ROUND_S = 0.25
MIN_ROUNDS = 4
MAX_ROUNDS = 8
PLAYOFF_ROUNDS = 12
WAVE = 2


@dataclass(slots=True, kw_only=True)
class Rounds:
    """Counts the visits of every trial and proposes rounds."""

    field: Field
    shortlist: Shortlist
    seed: int
    visits: dict[int, int] = dataclasses.field(default_factory=dict)
    playoff: int = 0
    """Rounds that the last field gets beyond the usual most."""

    _random: random.Random = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311

    @property
    def unseen(self) -> set[int]:
        """Held candidates that are owed rounds."""
        return {trial for trial in self.field.held if self.visits.get(trial, 0) < MIN_ROUNDS}

    @property
    def is_wave_full(self) -> bool:
        """The very first wave is one candidate: from then on it is known what a start costs."""
        return len(self.unseen) >= (WAVE if self.visits else 1)

    def is_due(self, *, last_field: bool) -> bool:
        """Rounds are owed; or, in the last field, its members are not yet told apart."""
        if self.unseen:
            return True
        fewest = min((self.visits.get(trial, 0) for trial in self.field.held), default=0)
        return last_field and len(self.field.held) > 1 and fewest < MAX_ROUNDS + self.playoff

    def begin_playoff(self) -> None:
        """Every member of the last field gets as many further rounds, whatever it had before."""
        most = max((self.visits.get(trial, 0) for trial in self.field.held), default=0)
        self.playoff = PLAYOFF_ROUNDS
        self.visits |= dict.fromkeys(self.field.held, max(most, MAX_ROUNDS))

    def cost_s(self) -> float:
        """Seconds of the rounds that one more candidate would bring."""
        return MIN_ROUNDS * (3 + len(self.unseen)) * ROUND_S

    def next(self) -> ScreenRound:
        """Trial 0 beside those that are owed rounds and the leader; once none is owed, beside the whole field."""
        held, unseen = self.field.held, self.unseen
        visited = unseen | set(self.shortlist.ranking(held - unseen)[:1]) if unseen else held
        order = [0, *sorted(visited)]
        self._random.shuffle(order)
        for trial in order:
            self.visits[trial] = self.visits.get(trial, 0) + 1
        return ScreenRound(order=tuple(order), seconds=ROUND_S, kept=frozenset(held - visited))

"""Progress of a search in words and counts, for whoever looks on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from optimizer.search.actions import Action, Build, Finish, Gate, MeasureStart, RaceBlock, ScreenRound, SealedCheck
from optimizer.search.machine import SearchMachine
from optimizer.search.problem import Observer
from optimizer.specs import FirstProven

PHASES = {
    Build: "optimise",
    Gate: "optimise",
    ScreenRound: "optimise",
    SealedCheck: "confirm",
    RaceBlock: "confirm",
    MeasureStart: "baseline",
}


SETTLED_ROUNDS = 3


@dataclass(slots=True, kw_only=True)
class Watch:
    """Tells the observer what is done now, and logs each new best of the screening."""

    observer: Observer
    machine: SearchMachine
    _best: int = 0
    _best_speedup: float = 1.0
    _now: Action | None = None
    _found: dict[int, FirstProven] = field(default_factory=dict)

    def before(self, action: Action) -> None:
        if isinstance(action, Finish):
            self.observer.phase("score", done=1, total=1, detail=action.conclusion.decision.value.replace("_", " "))
            return
        self._now = action
        done, total = self._counts(action)
        self.observer.phase(self._phase(action), done=done, total=total, detail=self._detail(action))

    def during(self, words: str) -> None:
        """What a long build says of itself."""
        if self._now is not None and words:
            done, total = self._counts(self._now)
            self.observer.phase(self._phase(self._now), done=done, total=total, detail=f"{self._detail(self._now)}: {words}")

    def after(self, elapsed_s: float) -> None:
        """Note what the screening has found, and log a new best once it is faster than the original and than the best so far."""
        ledger = self.machine.ledger
        for trial in self.machine.field.screened:
            if trial not in self._found and ledger.pace(trial) is not None:
                forms = len(self.machine.field.trials) - 1
                self._found[trial] = FirstProven(trial=trial, forms=forms, seconds=round(elapsed_s, 1))
        for trial in ledger.ranking(self.machine.field.screened)[:1]:
            pace = ledger.pace(trial)
            if pace is None or pace.rounds < SETTLED_ROUNDS or trial == self._best or pace.speedup <= self._best_speedup:
                return
            self._best, self._best_speedup = trial, pace.speedup
            self.observer.log(
                f"{elapsed_s:.0f} s: best so far in screening is trial {trial} ({self._label(trial)}): about {pace.speedup:.2f}× as fast"
            )

    def first_of(self, proven: Iterable[int]) -> FirstProven | None:
        """The one of these trials that the screening found first."""
        return min((self._found[trial] for trial in proven if trial in self._found), key=lambda one: one.seconds, default=None)

    def _phase(self, action: Action) -> str:
        is_baseline = isinstance(action, Build | Gate) and action.trial == 0
        return "prepare" if is_baseline else PHASES[type(action)]

    def _counts(self, action: Action) -> tuple[int, int]:
        race = self.machine.race
        if isinstance(action, RaceBlock) and race is not None:
            return len(race.blocks), race.looks[-1]
        if isinstance(action, MeasureStart):
            return action.index, action.index + 1
        trials = len(self.machine.field.trials) - 1
        return max(0, trials), max(1, trials + len(self.machine.field.waiting))

    def _detail(self, action: Action) -> str:
        match action:
            case Build() if action.trial == 0:
                return "the untouched original"
            case Build():
                return f"build trial {action.trial}: {action.recipe.label}"
            case Gate() if action.trial == 0:
                return "reference outputs of the original"
            case Gate():
                return f"check the outputs of trial {action.trial}: {self._label(action.trial)}"
            case ScreenRound():
                return f"compare {len(action.order) - 1} candidates side by side with the original"
            case SealedCheck():
                return f"check trial {action.trial} on {action.examples} sealed examples"
            case RaceBlock():
                rivals = ", ".join(str(trial) for trial in sorted(action.order) if trial)
                return f"race trial {rivals} against the original, block {action.index + 1}"
            case MeasureStart():
                return f"measure the original, start {action.index + 1}"
        return ""

    def _label(self, trial: int) -> str:
        return self.machine.field.trials[trial].recipe.label

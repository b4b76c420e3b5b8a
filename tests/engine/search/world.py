"""A fake host with a fake clock: answers a search machine from true speeds, true fidelity and scripted accidents."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from optimizer.search.actions import (
    Action,
    Arm,
    Build,
    Built,
    Conclusion,
    Fidelity,
    Finish,
    Gate,
    Gated,
    MeasureStart,
    RaceBlock,
    Raced,
    Result,
    Screened,
    ScreenRound,
    Sealed,
    SealedCheck,
    Started,
)
from optimizer.search.machine import SearchMachine
from optimizer.search.plan import Candidate, Plan, Terms
from optimizer.specs import BackendSettings, Failure, Precision, Recipe, SearchSpec, Verdict

STRAY = Failure(code="child.killed", detail="killed from outside", stray=True)
CRASH = Failure(code="child.crash", detail="the runtime crashed")
BASELINE_NS = 10_000_000.0


def recipe(name: str, *, precision: Precision = Precision.F32) -> Recipe:
    return Recipe(backend=name, settings=BackendSettings(threads=2, precision=precision))


def candidate(name: str, *, invariant: bool = True) -> Candidate:
    precision = Precision.F32 if invariant else Precision.BF16
    return Candidate(recipe=recipe(name, precision=precision), accuracy_invariant=invariant, why="fake")


@dataclass(kw_only=True)
class Truth:
    """What is true of one recipe. ``sealed`` defaults to ``gate``; ``misses``: too far from its limit to be proven on more examples.

    ``speedup`` is that of an example; a call takes ``batch`` of them.
    """

    speedup: float = 1.0
    gate: Verdict = Verdict.PASS
    sealed: Verdict | None = None
    invariant: bool = True
    misses: bool = False
    batch: int = 1
    cold_ns: int = 110_000_000
    bucket_speedups: tuple[float, ...] = ()
    build_failure: Failure | None = None
    race_failures: list[Failure] = field(default_factory=list)


@dataclass(kw_only=True)
class World:
    """Carries out actions in simulated time. ``start_sd`` is the log sd between fresh processes, drawn anew for each."""

    truths: dict[str, Truth]
    seed: int = 0
    start_sd: float = 0.02
    call_sd: float = 0.03
    start_s: float = 1.2
    build_s: float = 2.0
    disturbed: set[int] = field(default_factory=set)
    shapes: int = 0
    elapsed_s: float = 0.0
    actions: list[Action] = field(default_factory=list)
    recipes: dict[int, Recipe] = field(default_factory=dict)
    held: dict[int, float] = field(default_factory=dict)
    blocks_run: int = 0
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def run(self, machine: SearchMachine, *, asks_at_most: int = 2000) -> Conclusion:
        for _ in range(asks_at_most):
            action = machine.ask(self.elapsed_s)
            self.actions.append(action)
            if isinstance(action, Finish):
                return action.conclusion
            machine.tell(self.perform(action))
        raise AssertionError("the machine asks without end")

    def truth(self, trial: int) -> Truth:
        recipe = self.recipes[trial]
        name = "+".join([recipe.backend, *(step.name for step in recipe.passes)])
        return self.truths.get(name) or self.truths.get(recipe.backend, Truth())

    def perform(self, action: Action) -> Result:
        match action:
            case Build():
                self.recipes[action.trial] = action.recipe
                return Built(
                    trial=action.trial, seconds=self._spend(self.build_s), size_bytes=1000, failure=self.truth(action.trial).build_failure
                )
            case Gate():
                return Gated(trial=action.trial, seconds=self._spend(self.start_s), fidelity=self._fidelity(action.trial, sealed=False))
            case SealedCheck():
                return Sealed(
                    trial=action.trial,
                    seconds=self._spend(self.start_s),
                    examples=action.examples,
                    fidelity=self._fidelity(action.trial, sealed=True),
                )
            case ScreenRound():
                return self._round(action)
            case RaceBlock():
                return self._block(action)
            case MeasureStart():
                return Started(trial=action.trial, index=action.index, seconds=self._spend(self.start_s + 1), arm=self._arm(action.trial))
        raise AssertionError(action)

    def count(self, kind: type[Action]) -> int:
        return sum(isinstance(action, kind) for action in self.actions)

    def _spend(self, seconds: float) -> float:
        self.elapsed_s += seconds
        return seconds

    def _fidelity(self, trial: int, *, sealed: bool) -> Fidelity:
        truth = self.truth(trial)
        verdict = truth.sealed if sealed and truth.sealed else truth.gate
        limits = {"fidelity_top1_agreement_fraction": 0.99} if truth.misses else {}
        return Fidelity(verdict=verdict, invariant=truth.invariant and not truth.misses, reason="simulated", limits=limits)

    def _process_ns(self, trial: int) -> float:
        """Median of a fresh process: the truth times its own start effect."""
        return BASELINE_NS / self.truth(trial).speedup * float(np.exp(self.rng.normal(0, self.start_sd)))

    def _round(self, action: ScreenRound) -> Screened:
        begin = self.elapsed_s
        for trial in set(self.held) - set(action.order) - action.kept:
            del self.held[trial]
        opened = {}
        for trial in action.order:
            if trial not in self.held:
                self.held[trial] = self._process_ns(trial)
                opened[trial] = self._spend(self.start_s)
        self._spend(action.seconds * len(action.order))
        medians = {trial: self.held[trial] * float(np.exp(self.rng.normal(0, 0.01))) for trial in action.order}
        colds = {trial: float(self._cold_ns(trial) + 10**7) for trial in opened}
        return Screened(seconds=self.elapsed_s - begin, medians_ns=medians, opened_s=opened, cold_ns=colds)

    def _cold_ns(self, trial: int) -> int:
        """Load time of a fresh process; a start cache halves it."""
        cold = self.truth(trial).cold_ns / (2 if self.recipes[trial].settings.cached else 1)
        return int(cold * float(np.exp(self.rng.normal(0, self.start_sd)))) - 10**7

    def _arm(self, trial: int) -> Arm:
        batch = self.truth(trial).batch
        durations = batch * self._process_ns(trial) * np.exp(self.rng.normal(0, self.call_sd, 40))
        buckets = None
        if self.shapes:
            buckets = np.arange(len(durations), dtype=np.int64) % self.shapes
            durations = durations / np.array(self.truth(trial).bucket_speedups or (1.0,) * self.shapes)[buckets]
        issued = np.concatenate([[0], np.cumsum(durations)[:-1]])
        rows = np.stack([issued, issued + durations], axis=1).astype(np.int64)
        return Arm(rows_ns=rows, load_ns=self._cold_ns(trial), first_ns=10**7, memory_peak_bytes=10**8, items=batch, buckets=buckets)

    def _block(self, action: RaceBlock) -> Raced:
        seconds = self._spend((self.start_s + 1) * len(action.order))
        number, self.blocks_run = self.blocks_run, self.blocks_run + 1
        failures = {trial: self.truth(trial).race_failures.pop(0) for trial in action.order if self.truth(trial).race_failures}
        arms = {trial: self._arm(trial) for trial in action.order if trial not in failures}
        return Raced(
            index=action.index,
            seconds=seconds,
            arms=arms,
            failures=failures,
            valid=number not in self.disturbed,
            reasons=("steal_fraction 0.05",) if number in self.disturbed else (),
        )


def machine(
    candidates: list[Candidate], *, spec: SearchSpec | None = None, total_s: float = 210.0, synthetic: bool = False, **settings: object
) -> SearchMachine:
    plan = Plan(reference=recipe("reference"), candidates=tuple(candidates))
    terms = Terms(total_s=total_s, synthetic=synthetic, sealed_available=500, sealed_needed=381)
    return SearchMachine(plan, spec or SearchSpec(), terms, **settings)  # type: ignore[arg-type]

"""The search as a pure ask/tell machine: no I/O, no clock of its own; elapsed seconds come in with every ask (measurement.md 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from optimizer.search.actions import (
    Action,
    Arm,
    Build,
    Built,
    Finish,
    Gate,
    Gated,
    MeasureStart,
    Raced,
    Result,
    Screened,
    Sealed,
    SealedCheck,
    Started,
)
from optimizer.search.appraise import Appraisal, appraise, needs_more
from optimizer.search.arms import COLD_START, check_objective, min_iterations
from optimizer.search.checking import Checking
from optimizer.search.field import Field, Known, Standing, Trial
from optimizer.search.plan import Candidate, Plan, Terms
from optimizer.search.race import Race
from optimizer.search.recommend import OUT_OF_TIME, Evidence, conclude
from optimizer.search.reserve import Costs, Reserve, Step
from optimizer.search.rounds import Rounds
from optimizer.search.screen import ScreenLedger
from optimizer.search.shortlist import Shortlist
from optimizer.specs import Failure, NotTried, PassStep, Recipe, SearchSpec, Verdict

KEPT_BESIDE_NEW = 2
TUNED_SURVIVORS = 2
PLAYOFF = 3
BASELINE_STARTS = 5
EXAMPLE_OVERHEAD = 1.3
REFINING_OPENS, REFINING_EXAMPLES = 20, 1_000
"""What finding the exact layers takes, in the original's terms: the forms tried open and run faster than it."""

UNNEEDED = "Simpler reduced precision already keeps the outputs."


class Phase(StrEnum):
    """Where the search stands; the names that a run displays."""

    PREPARE = "prepare"
    OPTIMISE = "optimise"
    VERIFY = "verify"
    RACE = "race"
    BASELINE = "baseline"
    DONE = "done"


class SearchMachine:
    """``ask(elapsed_s)`` for the next action, carry it out, ``tell`` its result; ends with ``Finish``, whatever is told."""

    def __init__(self, plan: Plan, spec: SearchSpec, terms: Terms, *, costs: Costs | None = None, known: Mapping[str, Known] | None = None):
        check_objective(spec.objective)
        self.plan, self.spec, self.terms = plan, spec, terms
        self.phase = Phase.PREPARE
        self.costs = costs or Costs()
        self.field = Field(waiting=list(plan.candidates), known=known or {})
        self.baseline = self.field.enter(Candidate(recipe=plan.reference, accuracy_invariant=True, why="the untouched original"))
        self.baseline.failure, self.baseline.standing = None, Standing.BUILDING
        self.ledger = ScreenLedger(margin=spec.margin)
        self.shortlist = Shortlist(field=self.field, ledger=self.ledger, objective=spec.objective, synthetic=terms.synthetic)
        self.rounds = Rounds(field=self.field, shortlist=self.shortlist, seed=spec.seed)
        self.race: Race | None = None
        self.starts: list[Arm] = []
        self.not_tried: list[NotTried] = list(plan.not_tried)
        self.fault: Failure | None = None
        self._reserve = Reserve(budget=spec.budget, total_s=terms.total_s, costs=self.costs, min_iterations=min_iterations(spec))
        self.checking = Checking(field=self.field, shortlist=self.shortlist, ledger=self.ledger, reserve=self._reserve, terms=terms)
        self._strays = 0
        self._starts_asked = 0
        self._known_at_s = 0.0
        self._is_tuned = False
        self._built_chains: set[str] = set()
        self._finalists: list[int] = []

    def ask(self, elapsed_s: float) -> Action:
        """The next thing to do, given the seconds used so far."""
        steps = {
            Phase.PREPARE: self._prepare,
            Phase.OPTIMISE: self._optimise,
            Phase.VERIFY: self._verify,
            Phase.RACE: self._run_race,
            Phase.BASELINE: self._measure_baseline,
        }
        while self.fault is None and self.phase is not Phase.DONE:
            action = steps[self.phase](elapsed_s)
            if action is not None:
                return action
        self.phase = Phase.DONE
        return Finish(conclusion=conclude(self._evidence()))

    def tell(self, result: Result) -> None:
        """What came of an action."""
        match result:
            case Built():
                self._take_built(result)
            case Gated():
                self._take_gated(result)
            case Screened():
                self._take_round(result)
            case Sealed():
                self._take_sealed(result)
            case Raced():
                assert_race(self.race).tell(result)
            case Started():
                self._take_start(result)

    def appraisal(self, trial: int) -> Appraisal | None:
        """A finalist as the race and the sealed check see it so far."""
        if self.race is None or trial not in self.race.finalists:
            return None
        entrant = self.field.trials[trial]
        return appraise(trial, race=self.race, spec=self.spec, sealed=entrant.sealed, size_bytes=entrant.size_bytes)

    # prepare: Trial 0 is built and its outputs become the reference

    def _prepare(self, elapsed_s: float) -> Action | None:
        match self.baseline.standing:
            case Standing.BUILDING:
                return Build(trial=0, recipe=self.plan.reference)
            case Standing.GATING:
                return Gate(trial=0)
            case _:
                self._known_at_s = elapsed_s
                self.phase = Phase.OPTIMISE
                return None

    # optimise: gate before timing, interleaved rounds, sequential elimination, settings for survivors only

    def _optimise(self, elapsed_s: float) -> Action | None:
        ends_s = self._search_ends_s()
        if elapsed_s >= ends_s:
            self._leave_search()
            return None
        gating = self.field.at(Standing.GATING)
        if gating:
            return Gate(trial=min(gating))
        if self.rounds.is_wave_full:
            return self.rounds.next()
        if self._has_room() and self._is_worth_entering(ends_s - elapsed_s):
            return self._enter_next()
        if self.rounds.is_due(last_field=self._is_tuned and not self.field.waiting):
            return self.rounds.next()
        if self.field.waiting and self._has_room(parked=True):
            self._park()
            return None
        if not self._is_tuned:
            self._offer_settings()
            return None
        if self.rounds.playoff or not self._begin_playoff():
            self._leave_search()
        return None

    def _begin_playoff(self) -> bool:
        """Fresh processes of those that may yet be the best, and more rounds to tell them apart; False where nobody comes near the leader.

        A few rounds of a busy host order the field wrongly, and only the first few are raced.
        """
        contenders = self.shortlist.contenders()
        near = [index for index in contenders[:PLAYOFF] if not self.shortlist.is_out_of_reach(index, first=contenders[0])]
        if len(near) < 2 or self.spec.objective == COLD_START:
            return False
        for index in self.field.held:
            self.field.trials[index].standing = Standing.PARKED
        for index in near:
            self.field.trials[index].standing = Standing.HELD
        self.rounds.begin_playoff()
        return True

    def _search_ends_s(self) -> float:
        return self._reserve.search_ends_s(known_at_s=self._known_at_s, sealed_s=self.checking.sealed_s())

    def _has_room(self, *, parked: bool = False) -> bool:
        held = KEPT_BESIDE_NEW if parked else len(self.field.held)
        return bool(self.field.waiting) and held < self.terms.held_max

    def _is_worth_entering(self, left_s: float) -> bool:
        """Whether the next candidate can still be built, gated and screened beside those that are owed rounds."""
        candidate = self.field.waiting[0]
        cost_s = self._build_s(candidate) + self.costs.of(Step.GATE) + self.costs.of(Step.OPEN) + self.rounds.cost_s()
        if cost_s <= left_s:
            return True
        self._drop_waiting(candidate)
        return bool(self.field.waiting) and self._is_worth_entering(left_s)

    def _build_s(self, candidate: Candidate) -> float:
        chain = chain_key(candidate.recipe.passes)
        preparing_s = self.costs.of(Step.OPEN) if candidate.recipe.settings.cached else 0.0
        if not candidate.recipe.passes or chain in self._built_chains:
            return preparing_s
        if candidate.tries_forms:
            return preparing_s + REFINING_OPENS * self.costs.of(Step.OPEN) + REFINING_EXAMPLES * self.costs.example_s
        is_trained = chain_key(candidate.trained) in self._built_chains
        return preparing_s + self.costs.of(Step.BUILD) + (0.0 if is_trained else candidate.training_s)

    def _drop_waiting(self, *candidates: Candidate) -> None:
        for candidate in candidates:
            self.field.waiting.remove(candidate)
            self.not_tried.append(NotTried(label=candidate.recipe.label, reason=OUT_OF_TIME))

    def _enter_next(self) -> Action | None:
        trial = self.field.enter(self.field.waiting.pop(0))
        return None if trial.failure else Build(trial=trial.index, recipe=trial.recipe)

    def _park(self) -> None:
        """Make room: close all but the best of those that had their rounds; they stay in the ranking."""
        for trial in self.shortlist.ranking(self.field.held)[KEPT_BESIDE_NEW:]:
            self.field.trials[trial].standing = Standing.PARKED

    def _offer_settings(self) -> None:
        """Settings for the survivors; when nothing survived, for the best of the beaten: threads alone may turn it."""
        self._is_tuned = True
        survivors = self.field.at(Standing.HELD, Standing.PARKED) or self.field.screened
        for index in self.shortlist.ranking(survivors)[:TUNED_SURVIVORS]:
            trial = self.field.trials[index]
            self.field.offer(self.plan.tune(trial.candidate))
        self._park()

    def _leave_search(self) -> None:
        self._drop_waiting(*list(self.field.waiting))
        for index in self.field.at(Standing.BUILDING, Standing.GATING):
            self.field.trials[index].standing = Standing.PARKED
        self.phase = Phase.VERIFY

    # verify: the sealed check of each finalist, before the race

    def _verify(self, elapsed_s: float) -> Action | None:
        left_s = self.terms.total_s - elapsed_s
        examples, finalists = self.checking.affordable(left_s)
        for index in self.checking.order(left_s, examples):
            if len(self._finalists) >= finalists or self._is_out_of_reach(index):
                break
            trial = self.field.trials[index]
            if trial.sealed is None:
                self.checking.fixed = examples
                return SealedCheck(trial=index, examples=examples)
            if trial.sealed and trial.sealed.verdict is Verdict.PASS and index not in self._finalists:
                self._finalists.append(index)
        self._start_race()
        return None

    def _is_out_of_reach(self, index: int) -> bool:
        """A second finalist is raced only if it might be the better one."""
        return bool(self._finalists) and self.shortlist.is_out_of_reach(index, first=self._finalists[0])

    # race, or a few starts of Trial 0 alone

    def _start_race(self) -> None:
        if not self._finalists:
            self.phase = Phase.BASELINE
            return
        self.race = Race(
            finalists=tuple(self._finalists),
            looks=self.spec.budget.looks,
            margin=self.spec.margin,
            objective=self.spec.objective,
            seed=self.spec.seed,
            sizes={index: trial.size_bytes for index, trial in self.field.trials.items()},
            wants_more=self._wants_more,
        )
        self.phase = Phase.RACE

    def _wants_more(self, trial: int) -> bool:
        appraisal = self.appraisal(trial)
        return appraisal is not None and needs_more(appraisal)

    def _run_race(self, elapsed_s: float) -> Action | None:
        race = assert_race(self.race)
        block = race.ask(left_s=self.terms.total_s - elapsed_s, block_s=self._reserve.block_s(len(race.running)))
        if block is None:
            self.phase = Phase.DONE if race.blocks else Phase.BASELINE
        return block

    def _measure_baseline(self, elapsed_s: float) -> Action | None:
        """Starts of Trial 0 while the time lasts, and one in any case: a run that measured nothing could not even be shown."""
        has_time = not self._starts_asked or elapsed_s + self._reserve.start_s() <= self.terms.total_s
        if len(self.starts) >= BASELINE_STARTS or self._starts_asked > BASELINE_STARTS or not has_time:
            self.phase = Phase.DONE
            return None
        self._starts_asked += 1
        return MeasureStart(trial=0, index=len(self.starts))

    # results

    def _take_built(self, result: Built) -> None:
        trial = self.field.trials[result.trial]
        if result.failure:
            self._take_failure(trial, result.failure)
            self._drop_doomed(trial, result.failure)
            return
        trial.size_bytes = result.size_bytes
        trial.standing = Standing.GATING
        chain = chain_key(trial.recipe.passes)
        if trial.recipe.passes and chain not in self._built_chains:
            self._built_chains |= {chain, chain_key(trial.candidate.trained)}
            if not trial.candidate.tries_forms and not trial.candidate.training_s:
                self.costs.observe(Step.BUILD, result.seconds)
        if trial.index and trial.gate:
            self.field.take_gate(trial.index, trial.gate)

    def _drop_doomed(self, failed: Trial, failure: Failure) -> None:
        """A chain that begins with passes that just failed would fail in the same way."""
        chain = failed.recipe.passes
        if not chain or failure.stray or not failure.code.startswith("pass."):
            return
        for candidate in [one for one in self.field.waiting if one.recipe.passes[: len(chain)] == chain]:
            self.field.waiting.remove(candidate)
            self.not_tried.append(NotTried(label=candidate.recipe.label, reason=f"Its first passes failed in trial {failed.index}."))

    def _take_gated(self, result: Gated) -> None:
        trial = self.field.trials[result.trial]
        if result.failure or result.fidelity is None:
            self._take_failure(trial, result.failure or Failure(code="gate.no_result", detail="The gate gave no result."))
            return
        self.costs.observe(Step.GATE, result.seconds)
        if trial.index:
            self.field.take_gate(trial.index, result.fidelity)
            self._consider_refinement(trial)
        else:
            trial.gate, trial.standing = result.fidelity, Standing.HELD

    def _consider_refinement(self, trial: Trial) -> None:
        """Reduced precision that keeps the outputs needs no repair; where it seems to miss, the next repair is tried at once.

        Behind it comes what the same runtime computes exactly: should no proof succeed in time, that can still win.
        """
        finer = [one for one in self.field.waiting if one.refines and _same_runtime(one.recipe, trial.recipe)]
        if (trial.candidate.rewrites_arithmetic and not trial.candidate.refines) or not finer:
            return
        if self.checking.is_foreseen(trial.index, is_cautious=True):
            for candidate in finer:
                self.field.waiting.remove(candidate)
                self.not_tried.append(NotTried(label=candidate.recipe.label, reason=UNNEEDED))
            return
        ground = trial.recipe.passes[:-1] if trial.candidate.refines else trial.recipe.passes
        same_ground = [one for one in finer if one.recipe.passes[:-1] == ground]
        following = (same_ground or finer)[0]
        safe = [one for one in self.field.waiting if one.accuracy_invariant and one.recipe.backend == trial.recipe.backend][:1]
        self._bring_forward(following, *safe)

    def _bring_forward(self, *candidates: Candidate) -> None:
        """These are tried next, in this order."""
        self.field.waiting[:] = [*candidates, *(one for one in self.field.waiting if one not in candidates)]

    def _take_failure(self, trial: Trial, failure: Failure) -> None:
        """A failed trial is out; Trial 0 killed from outside is tried once more, else nothing can be said at all."""
        if trial.index:
            self.field.fail(trial.index, failure)
        elif failure.stray and self._strays == 0:
            self._strays += 1
        else:
            self.fault = failure

    def _take_round(self, result: Screened) -> None:
        for index, failure in result.failures.items():
            self._take_failure(self.field.trials[index], failure)
        for seconds in result.opened_s.values():
            self.costs.observe(Step.OPEN, seconds)
        if result.medians_ns.get(0):
            self.costs.median_s = result.medians_ns[0] / 1e9
            self.costs.example_s = EXAMPLE_OVERHEAD * self.costs.median_s
        self.ledger.add(result.medians_ns)
        self.ledger.add_starts(result.cold_ns)
        for index in self.shortlist.beaten():
            self.field.trials[index].standing = Standing.BEATEN

    def _take_sealed(self, result: Sealed) -> None:
        trial = self.field.trials[result.trial]
        trial.sealed = result.fidelity
        if result.failure or result.fidelity is None:
            self.field.fail(result.trial, result.failure or Failure(code="sealed.no_result", detail="The sealed check gave no result."))

    def _take_start(self, result: Started) -> None:
        if result.arm is not None:
            self.starts.append(result.arm)

    def _evidence(self) -> Evidence:
        appraisals = [one for index in self._finalists if (one := self.appraisal(index))]
        return Evidence(
            spec=self.spec,
            field=self.field,
            ledger=self.ledger,
            race=self.race,
            appraisals=tuple(appraisals),
            not_tried=tuple(self.not_tried),
            synthetic=self.terms.synthetic,
            fault=self.fault,
            eligible=frozenset(index for index in self.field.trials if index and self.shortlist.is_eligible(index)),
        )


def _same_runtime(one: Recipe, other: Recipe) -> bool:
    return (one.backend, one.settings) == (other.backend, other.settings)


def chain_key(passes: Sequence[PassStep]) -> str:
    """Identity of what must be built: the passes without the settings."""
    return repr([(step.name, sorted(step.params.items())) for step in passes])


def assert_race(race: Race | None) -> Race:
    """The race, once it has begun. Raises RuntimeError when a block is told before one was asked for."""
    if race is None:
        raise RuntimeError("no race block was asked for")
    return race

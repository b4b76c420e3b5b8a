"""Turns each action of the search machine into work of the pipeline and its result into words the machine knows."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from optimizer.measure.fidelity import FidelityResult
from optimizer.measure.inputs import InputSet
from optimizer.pipeline import (
    Build as Artifact,
)
from optimizer.pipeline import (
    BuildCache,
    HeldField,
    Pace,
    Start,
    StepFailed,
    Subject,
    Verifier,
    Witness,
    materialise,
    portion,
    race_block,
    run_start,
)
from optimizer.sandbox import Sandbox
from optimizer.search.actions import (
    Action as SearchAction,
)
from optimizer.search.actions import (
    Arm,
    Build,
    Built,
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
from optimizer.search.appraise import Appraisal
from optimizer.search.arms import percentile_calls
from optimizer.search.machine import SearchMachine
from optimizer.search.per_bucket import told_buckets
from optimizer.search.reporting import Reporter
from optimizer.specs import Failure, Json, Recipe, Verdict


@dataclass(slots=True, kw_only=True)
class Performer:
    """Does what is asked; owns the held-open processes and the artifacts of this run."""

    subject: Subject
    machine: SearchMachine
    sandbox: Sandbox
    reporter: Reporter
    gate_inputs: InputSet
    sealed: tuple[int, ...]
    block_s: float
    min_iterations: int
    witness: Witness
    sealed_examples: int = 0
    warnings: tuple[str, ...] = ()
    _entrants: dict[int, tuple[Artifact, Recipe]] = field(default_factory=dict)
    _checks: dict[int, Sealed] = field(default_factory=dict)
    _screen_reported: set[int] = field(default_factory=set)
    _held: HeldField | None = None
    _verifier: Verifier | None = None

    def perform(self, action: SearchAction) -> Result:
        """Carry out one action; trouble of a child is part of the result."""
        if not isinstance(action, ScreenRound):
            self._close_unless_searching(action)
        match action:
            case Build():
                return self._build(action)
            case Gate():
                return self._gate(action)
            case ScreenRound():
                return self._screen(action)
            case SealedCheck():
                return self._check_sealed(action)
            case RaceBlock():
                return self._race(action)
            case MeasureStart():
                return self._start(action)
            case Finish():
                raise ValueError("a finished search asks for nothing")

    def close(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None

    @property
    def cache(self) -> BuildCache:
        return BuildCache(self.subject.workspace / "builds")

    def _close_unless_searching(self, action: SearchAction) -> None:
        """Held processes sleep through builds and gates; nothing of them is left when the race begins."""
        if isinstance(action, SealedCheck | RaceBlock | MeasureStart):
            self.close()

    # actions

    def _build(self, action: Build) -> Built:
        begin = time.monotonic()
        self.reporter.recipes[action.trial] = action.recipe
        try:
            artifact = materialise(action.recipe, subject=self.subject, cache=self.cache, sandbox=self.sandbox)
            self._refuse_twin(action, artifact)
        except StepFailed as failed:
            result = Built(trial=action.trial, seconds=time.monotonic() - begin, failure=failed.failure)
            self.reporter.built(result, None)
            return result
        self._entrants[action.trial] = (artifact, action.recipe)
        result = Built(trial=action.trial, seconds=time.monotonic() - begin, size_bytes=artifact.size_bytes)
        self.reporter.built(result, artifact)
        return result

    def _refuse_twin(self, action: Build, artifact: Artifact) -> None:
        """Two recipes that end in the same bytes and settings are one candidate."""
        for trial, (other, recipe) in self._entrants.items():
            same_runtime = (recipe.backend, recipe.settings) == (action.recipe.backend, action.recipe.settings)
            if trial != action.trial and other.sha256 == artifact.sha256 and same_runtime:
                raise StepFailed(Failure(code="build.duplicate", detail=f"The passes gave the same model as trial {trial}."))

    def _gate(self, action: Gate) -> Gated:
        begin = time.monotonic()
        examples = self.gate_inputs
        try:
            fidelity = self._reference(examples) if action.trial == 0 else self._compare(action.trial, examples)
            result = Gated(trial=action.trial, seconds=time.monotonic() - begin, fidelity=fidelity)
        except StepFailed as failed:
            result = Gated(trial=action.trial, seconds=time.monotonic() - begin, failure=failed.failure)
        self.reporter.gated(result, examples=examples.n)
        return result

    def _reference(self, examples: InputSet) -> Fidelity:
        self._verifying().prepare(examples)
        return _of_itself()

    def _compare(self, trial: int, examples: InputSet) -> Fidelity:
        artifact, recipe = self._entrants[trial]
        is_invariant = self.machine.field.trials[trial].candidate.accuracy_invariant
        return _fidelity(self._verifying().compare(artifact, recipe, examples=examples, accuracy_invariant=is_invariant))

    def _verifying(self) -> Verifier:
        if self._verifier is None:
            spec = self.machine.spec
            self._verifier = Verifier(
                subject=self.subject,
                sandbox=self.sandbox,
                baseline=self._entrants[0],
                task=spec.task or self.subject.card.task,
                targets=spec.targets,
            )
        return self._verifier

    def _screen(self, action: ScreenRound) -> Screened:
        begin = time.monotonic()
        if self._held is None:
            self._held = HeldField(
                self.subject, sandbox=self.sandbox, entrants=self._entrants, pace=self._pace, life_s=self.machine.terms.total_s
            )
        done = self._held.round(action.order, seconds=action.seconds, kept=action.kept)
        for trial, failure in done.failures.items():
            if trial:
                self.reporter.screen_failed(trial, failure)
                self._screen_reported.add(trial)
        return Screened(
            seconds=time.monotonic() - begin,
            medians_ns=done.medians_ns,
            opened_s=done.opened_s,
            cold_ns={trial: float(facts.get("load_ns", 0)) + float(facts.get("first_ns", 0)) for trial, facts in done.facts.items()},
            failures=done.failures,
        )

    def _check_sealed(self, action: SealedCheck) -> Sealed:
        begin = time.monotonic()
        examples = portion(self.subject.inputs, self.sealed[: action.examples], root=self.subject.workspace / "inputs")
        try:
            fidelity = self._compare(action.trial, examples)
            result = Sealed(trial=action.trial, seconds=time.monotonic() - begin, examples=examples.n, fidelity=fidelity)
            self.sealed_examples = examples.n
        except StepFailed as failed:
            result = Sealed(trial=action.trial, seconds=time.monotonic() - begin, examples=examples.n, failure=failed.failure)
        self._checks[action.trial] = result
        return result

    def _race(self, action: RaceBlock) -> Raced:
        begin = time.monotonic()
        block = race_block(
            action.order,
            index=action.index,
            subject=self.subject,
            sandbox=self.sandbox,
            entrants=self._entrants,
            pace=self._pace,
            telemetry=self.witness,
        )
        if block.telemetry.warnings:
            self._warn(f"The host was not quiet during the race: {', '.join(_signal(one) for one in block.telemetry.warnings)}.")
        return Raced(
            index=action.index,
            seconds=time.monotonic() - begin,
            arms={trial: arm_of(start) for trial, start in block.starts.items()},
            failures=block.failures,
            valid=block.telemetry.valid,
            reasons=block.telemetry.reasons,
        )

    def _start(self, action: MeasureStart) -> Started:
        begin = time.monotonic()
        artifact, recipe = self._entrants[action.trial]
        try:
            start = run_start(
                artifact, recipe, subject=self.subject, sandbox=self.sandbox, pace=self._pace, seed=self.subject.seed + action.index
            )
        except StepFailed as failed:
            return Started(trial=action.trial, index=action.index, seconds=time.monotonic() - begin, failure=failed.failure)
        return Started(trial=action.trial, index=action.index, seconds=time.monotonic() - begin, arm=arm_of(start))

    @property
    def _pace(self) -> Pace:
        spec = self.machine.spec
        return Pace(
            block_s=self.block_s, min_iterations=self.min_iterations, percentile_calls=percentile_calls(spec), by_rate=spec.is_offline
        )

    def _warn(self, sentence: str) -> None:
        kinds = {one.split(":")[0] for one in self.warnings}
        if sentence.split(":", maxsplit=1)[0] not in kinds:
            self.warnings = (*self.warnings, sentence)

    # reports

    def report_screening(self, *, field_left: bool = False) -> None:
        """Report candidates that left the field; at the end of the screening all of them."""
        field_ = self.machine.field
        has_ended = field_left or self.machine.race is not None
        for trial in sorted(field_.screened):
            is_out = has_ended or trial not in field_.held
            if is_out and trial not in self._screen_reported:
                self._screen_reported.add(trial)
                self.reporter.screened(trial, self.machine.ledger)

    def report_race(self) -> None:
        """Race and confirmation of Trial 0 and every finalist."""
        race, field_ = self.machine.race, self.machine.field
        finalists = race.finalists if race else ()
        for trial in (0, *finalists):
            arms = race.arms(trial) if race and race.blocks else (self.machine.starts if trial == 0 else [])
            failure = race.lost.get(trial) if race else None
            if failure is not None:
                self.reporter.race_failed(trial, failure)
            elif arms:
                appraisal = self.machine.appraisal(trial)
                detail: dict[str, Json] = {
                    "blocks": len(arms),
                    "repeated_blocks": len(race.invalid) if race else 0,
                    "disturbed_blocks": race.disturbed if race else 0,
                }
                if self.machine.spec.traffic:
                    detail["buckets"] = told_buckets(trial, arms, race=race, spec=self.machine.spec)
                self.reporter.raced(trial, arms, duels=appraisal.duels if appraisal else (), detail=detail)
            if arms or trial in self._checks:
                size = field_.trials[trial].size_bytes
                self.reporter.confirmed(trial, arms, size_bytes=size, sealed=self._checks.pop(trial, None))
        for trial, check in self._checks.items():
            self.reporter.confirmed(trial, [], size_bytes=field_.trials[trial].size_bytes, sealed=check)

    def race_winners(self) -> tuple[int, ...]:
        """Finalists that beat the baseline in the race."""
        return tuple(one.trial for one in self._appraised() if one.beats_baseline)

    def proven(self) -> tuple[int, ...]:
        """Finalists that meet every condition of the never-slower guard."""
        return tuple(one.trial for one in self._appraised() if one.wins)

    def _appraised(self) -> list[Appraisal]:
        race = self.machine.race
        return [] if race is None else [one for trial in race.finalists if (one := self.machine.appraisal(trial)) is not None]


def _of_itself() -> Fidelity:
    return Fidelity(verdict=Verdict.PASS, invariant=True, reason="The reference itself.")


def _fidelity(found: FidelityResult) -> Fidelity:
    return Fidelity(
        verdict=found.verdict,
        reason=found.reason,
        invariant=found.invariant,
        measurements=found.measurements,
        limits=dict(found.limits),
        stream_steps=found.stream_steps,
    )


def arm_of(start: Start) -> Arm:
    """A start as the machine knows it."""
    return Arm(
        rows_ns=start.rows_ns,
        load_ns=start.load_ns,
        first_ns=start.first_ns,
        memory_peak_bytes=start.memory_peak_bytes,
        warmup=start.warmup,
        calls_per_sample=start.calls_per_sample,
        items=start.items,
        in_flight=start.in_flight,
        buckets=start.buckets,
    )


def _signal(warning: str) -> str:
    return warning.split(" ", maxsplit=1)[0].replace("_", " ")

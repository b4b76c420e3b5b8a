"""Carries out what the search machine asks, through the pipeline's sandboxed children, and reports every stage as it ends."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from optimizer.errors import EngineError, EngineFault, InputError
from optimizer.measure.environment import environment_fingerprint
from optimizer.measure.inputs import Split, split
from optimizer.measure.memory import memory_available_bytes
from optimizer.measure.telemetry import Telemetry
from optimizer.measure.traffic import buckets_of
from optimizer.pipeline import Subject, Witness, Yardstick, limits_for, portion
from optimizer.sandbox import Sandbox
from optimizer.score.catalog import price_for
from optimizer.score.evidence import gather
from optimizer.score.picks import pick_trials
from optimizer.search.actions import Conclusion, Finish
from optimizer.search.arms import min_iterations
from optimizer.search.candidates import installed_backends, plan
from optimizer.search.estimate import check_budget, estimate, gate_examples, guesses, sealed_needed
from optimizer.search.machine import SearchMachine
from optimizer.search.performer import Performer
from optimizer.search.plan import Plan, Terms
from optimizer.search.problem import Cancelled, Observer, SearchProblem
from optimizer.search.reporting import Reporter
from optimizer.search.resume import known_recipes
from optimizer.search.watching import Watch
from optimizer.specs import Decision, InputSource, SearchOutcome, SearchSpec, Stage, StageReport
from optimizer.units import MIB

TIMING_EXAMPLES = 32
CHILD_WALL_S = 120.0
BUILD_SHARE = 0.25
"""Of the budget, the longest that one child may take where that is more: large models are built for minutes when there are many."""
HELD_MOST, HELD_LEAST = 6, 2
RUNTIME_BYTES = 350 * MIB
"""What a held-open process needs besides the model."""


def run_search(
    problem: SearchProblem,
    *,
    sandbox: Sandbox,
    observer: Observer,
    finished: Sequence[StageReport] = (),
    budget_left_s: float | None = None,
    witness: Witness | None = None,
) -> SearchOutcome:
    """Search within the budget and return the answer; every stage is reported to ``observer`` as it ends.

    ``witness`` watches the host around race blocks (default: the host's telemetry).
    ``finished`` are reports of an earlier attempt: its indices, builds and gates are kept, timings are taken again.
    Raises InputError ``budget.too_small`` (fresh starts only) or what makes the original itself unusable (``input.*``,
    ``backend.*``, ``baseline.not_finite``), EngineFault ``baseline.failed``, and Cancelled.
    """
    began = time.monotonic()
    spec = problem.spec
    if not finished:
        check_budget(estimate(problem.card, spec, problem.hardware))
    machine = _machine(problem, finished=finished, budget_left_s=budget_left_s)
    watch = Watch(observer=observer, machine=machine)
    performer = _performer(problem, machine=machine, sandbox=sandbox, watch=watch, witness=witness or Telemetry(), finished=finished)
    try:
        conclusion = _drive(machine, performer, watch, began=began, observer=observer)
        performer.report_race()
    finally:
        performer.close()
    _raise_fault(conclusion)
    first = watch.first_of(performer.proven()) if conclusion.decision is Decision.WINNER else None
    return replace(_outcome(conclusion, performer=performer, spec=spec, elapsed_s=time.monotonic() - began), first_proven=first)


def _drive(machine: SearchMachine, performer: Performer, watch: Watch, *, began: float, observer: Observer) -> Conclusion:
    while True:
        if observer.cancelled():
            raise Cancelled
        action = machine.ask(time.monotonic() - began)
        watch.before(action)
        if isinstance(action, Finish):
            performer.report_screening(field_left=True)
            return action.conclusion
        machine.tell(performer.perform(action))
        performer.report_screening()
        watch.after(time.monotonic() - began)


def _machine(problem: SearchProblem, *, finished: Sequence[StageReport], budget_left_s: float | None) -> SearchMachine:
    card, spec, hardware, source = problem.card, problem.spec, problem.hardware, problem.inputs.source
    fast, slow = guesses(card, hardware)
    planned = plan(
        card,
        spec,
        hardware,
        installed_backends(hardware),
        input_source=source,
        training_examples=len(_parts(problem, trains=True).training),
    )
    parts = _parts(problem, trains=_trains(planned))
    return SearchMachine(
        planned,
        spec,
        Terms(
            total_s=spec.budget.total_s if budget_left_s is None else budget_left_s,
            synthetic=source is InputSource.SYNTHETIC,
            sealed_available=len(parts.sealed),
            sealed_needed=sealed_needed(card, spec),
            gate_examples=len(_gate_part(problem, parts)),
            held_max=held_at_most(card.size_bytes, memory_available_bytes()),
        ),
        costs=fast.between(slow),
        known=known_recipes(finished),
    )


def _performer(
    problem: SearchProblem,
    *,
    machine: SearchMachine,
    sandbox: Sandbox,
    watch: Watch,
    witness: Witness,
    finished: Sequence[StageReport],
) -> Performer:
    parts, root = _parts(problem, trains=_trains(machine.plan)), problem.workspace / "inputs"
    gate_inputs = portion(problem.inputs, _gate_part(problem, parts), root=root)
    subject = Subject(
        model_dir=problem.model_dir,
        entry=problem.entry,
        card=problem.card,
        hardware=problem.hardware,
        inputs=problem.inputs,
        timing=portion(problem.inputs, parts.search[:TIMING_EXAMPLES], root=root),
        calibration=portion(problem.inputs, parts.calibration, root=root) if parts.calibration else None,
        choosing=portion(problem.inputs, parts.search, root=root),
        yardstick=Yardstick(
            reference=machine.plan.reference,
            task=problem.spec.task or problem.card.task,
            targets=tuple(one for one in problem.spec.targets if one.kpi.startswith(("fidelity_", "accuracy_"))),
            sealed_examples=machine.checking.reach,
        ),
        training=portion(problem.inputs, parts.training, root=root) if parts.training else None,
        buckets=buckets_of(problem.card, problem.spec),
        workspace=problem.workspace,
        seed=problem.spec.seed,
        limits=limits_for(problem.hardware, wall_s=max(CHILD_WALL_S, BUILD_SHARE * problem.spec.budget.total_s)),
        cancelled=watch.observer.cancelled,
        heard=watch.during,
    )
    reporter = Reporter(
        observer=watch.observer,
        environment=environment_fingerprint(problem.hardware, sandbox.level),
        samples_dir=problem.workspace / "samples",
        known=frozenset((report.trial, report.stage) for report in finished if report.stage in (Stage.BUILD, Stage.GATE)),
    )
    return Performer(
        subject=subject,
        machine=machine,
        sandbox=sandbox,
        reporter=reporter,
        gate_inputs=gate_inputs,
        sealed=parts.sealed,
        block_s=problem.spec.budget.stream_s,
        min_iterations=min_iterations(problem.spec),
        witness=witness,
    )


def _parts(problem: SearchProblem, *, trains: bool) -> Split:
    return split(problem.inputs, sealed_at_most=problem.spec.budget.accuracy_examples_most, with_training=trains)


def _trains(planned: Plan) -> bool:
    """Only a plan that trains takes examples from those that could judge."""
    return any(one.training_s for one in planned.candidates)


def _gate_part(problem: SearchProblem, parts: Split) -> tuple[int, ...]:
    return parts.search[: gate_examples(problem.card, problem.hardware)]


def held_at_most(model_bytes: int, available_bytes: int) -> int:
    """How many candidates may be held open beside Trial 0: memory bounds it (three copies of the weights each, half the free memory)."""
    each = RUNTIME_BYTES + 3 * model_bytes
    return max(HELD_LEAST, min(HELD_MOST, available_bytes // 2 // each - 1))


def _raise_fault(conclusion: Conclusion) -> None:
    """The original itself could not be run: no search result, an error."""
    fault = conclusion.fault
    if fault is None:
        return
    if fault.code == "child.cancelled":
        raise Cancelled
    is_users = fault.code.split(".")[0] in ("input", "backend", "baseline", "fidelity")
    kind: type[EngineError] = InputError if is_users else EngineFault
    raise kind(fault.code, f"The original model could not be measured: {fault.detail}")


def _outcome(conclusion: Conclusion, *, performer: Performer, spec: SearchSpec, elapsed_s: float) -> SearchOutcome:
    subject = performer.subject
    outcome = SearchOutcome(
        decision=conclusion.decision,
        reason=conclusion.reason,
        winner=conclusion.winner,
        nearest=conclusion.nearest,
        duels=conclusion.duels,
        shapes=conclusion.shapes,
        not_tried=conclusion.not_tried,
        input_source=subject.inputs.source,
        sealed_examples=performer.sealed_examples,
        trials=len(performer.machine.field.trials),
        elapsed_s=elapsed_s,
        warnings=(*conclusion.warnings, *performer.warnings, *subject.inputs.warnings),
    )
    return replace(outcome, picks=_picks(outcome, performer=performer, spec=spec))


def _picks(outcome: SearchOutcome, *, performer: Performer, spec: SearchSpec) -> dict[str, int]:
    """Named picks among the original and those that beat it in the race."""
    evidence = gather(performer.reporter.sent, price=price_for(performer.subject.hardware))
    proven = {0, *performer.race_winners()}
    able = {trial: one for trial, one in evidence.items() if trial in proven}
    return pick_trials(able, outcome=outcome, spec=spec) if 0 in able else {}

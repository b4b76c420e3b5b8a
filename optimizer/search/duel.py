"""Two given forms against each other, or one alone: the race and its starts without a search around them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from optimizer.errors import EngineError, EngineFault, InputError, Side
from optimizer.measure.telemetry import Telemetry
from optimizer.pipeline import Build, Pace, StepFailed, Subject, race_block, run_start
from optimizer.sandbox import Sandbox
from optimizer.search.actions import Arm, Raced
from optimizer.search.appraise import Appraisal, appraise
from optimizer.search.arms import min_iterations, percentile_calls
from optimizer.search.performer import arm_of
from optimizer.search.race import Race
from optimizer.specs import Recipe, SearchSpec

Contestant = tuple[Build, Recipe]
Told = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DuelResult:
    """The race as it ran and what it says about the second form against the first."""

    race: Race
    appraisal: Appraisal


def run_duel(
    first: Contestant, second: Contestant, *, subject: Subject, spec: SearchSpec, sandbox: Sandbox, told: Told = lambda _done, _total: None
) -> DuelResult:
    """Race ``second`` against ``first`` in blocks of fresh processes until a look decides or the looks are used.

    Raises EngineError with the code of a form that cannot run.
    """
    entrants = {0: first, 1: second}
    race = Race(
        finalists=(1,),
        looks=spec.budget.looks,
        margin=spec.margin,
        objective=spec.objective,
        seed=spec.seed,
        sizes={trial: build.size_bytes for trial, (build, _) in entrants.items()},
    )
    pace = _pace(spec)
    telemetry, begin = Telemetry(), time.monotonic()
    while (action := race.ask(left_s=spec.budget.total_s - (time.monotonic() - begin), block_s=2 * spec.budget.block_s)) is not None:
        told(len(race.blocks), race.looks[-1])
        started = time.monotonic()
        block = race_block(
            action.order, index=action.index, subject=subject, sandbox=sandbox, entrants=entrants, pace=pace, telemetry=telemetry
        )
        race.tell(
            Raced(
                index=action.index,
                seconds=time.monotonic() - started,
                arms={trial: arm_of(start) for trial, start in block.starts.items()},
                failures=block.failures,
                valid=block.telemetry.valid,
                reasons=block.telemetry.reasons,
            )
        )
    for failure in race.lost.values():
        raise _as_error(failure.code, failure.detail)
    return DuelResult(race=race, appraisal=appraise(1, race=race, spec=spec, sealed=None, size_bytes=second[0].size_bytes))


def measure_starts(form: Contestant, *, subject: Subject, spec: SearchSpec, sandbox: Sandbox, starts: int, told: Told) -> list[Arm]:
    """Fresh starts of one form as it is. Raises EngineError with the code of the form that cannot run."""
    pace = _pace(spec)
    arms = []
    for number in range(starts):
        told(number, starts)
        try:
            start = run_start(*form, subject=subject, sandbox=sandbox, pace=pace, seed=subject.seed + number)
        except StepFailed as failed:
            raise _as_error(failed.code, failed.message, side=failed.side) from failed
        arms.append(arm_of(start))
    return arms


def _pace(spec: SearchSpec) -> Pace:
    return Pace(block_s=spec.budget.block_s, min_iterations=min_iterations(spec), percentile_calls=percentile_calls(spec))


def _as_error(code: str, detail: str, *, side: Side = Side.SYSTEM) -> EngineError:
    is_users = side is Side.USER or code.split(".", maxsplit=1)[0] in ("input", "backend")
    return InputError(code, detail) if is_users else EngineFault(code, detail)

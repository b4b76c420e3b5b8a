"""How often noise wins, and that no answer whatever makes the machine ask for ever."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from optimizer.search.actions import (
    Action,
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
from optimizer.specs import Decision, Failure, SearchSpec, Verdict
from tests.engine.search.world import Truth, World, candidate, machine

NAMES = ("a", "b", "c")


def wins(speedup: float, *, runs: int) -> int:
    """Searches that end with a winner when every candidate truly has this speed-up."""
    count = 0
    for seed in range(runs):
        world = World(truths={name: Truth(speedup=speedup) for name in NAMES}, seed=seed)
        spec = SearchSpec(seed=seed)
        conclusion = world.run(machine([candidate(name) for name in NAMES], spec=spec, total_s=240))
        count += conclusion.decision is Decision.WINNER
    return count


@pytest.mark.parametrize("speedup", [0.95, 1.0])
def test_what_is_not_faster_wins_in_at_most_five_percent(speedup: float) -> None:
    runs = 40
    assert wins(speedup, runs=runs) <= stats.binom.ppf(0.999, runs, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("speedup", [0.95, 1.0])
def test_what_is_not_faster_wins_in_at_most_five_percent_of_many(speedup: float) -> None:
    runs = 400
    assert wins(speedup, runs=runs) <= stats.binom.ppf(0.999, runs, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("speedup", [1.02, 1.05, 1.10])
def test_race_values_are_reported_for_small_true_gains(speedup: float) -> None:
    world = World(truths={"a": Truth(speedup=speedup)}, seed=3)
    conclusion = world.run(machine([candidate("a")], total_s=400))
    assert conclusion.reason
    if conclusion.duels:
        assert conclusion.duels[0].speedup.value == pytest.approx(speedup, rel=0.04)


def test_a_ten_percent_gain_is_usually_found() -> None:
    assert wins(1.10, runs=20) >= 14


failures = st.none() | st.builds(Failure, code=st.just("child.crash"), detail=st.just("why"), stray=st.booleans())
fidelities = st.none() | st.builds(Fidelity, verdict=st.sampled_from(list(Verdict)), invariant=st.booleans())


@st.composite
def arms(draw: st.DrawFn) -> Arm:
    durations = np.full(draw(st.integers(1, 12)), draw(st.integers(1, 10**9)), dtype=np.int64)
    issued = np.concatenate([[0], np.cumsum(durations)[:-1]])
    return Arm(rows_ns=np.stack([issued, issued + durations], axis=1), load_ns=draw(st.integers(0, 10**9)))


def answer(draw: Any, action: Action) -> Result:
    """Anything a driver could say to this action, sensible or not."""
    seconds = draw(st.floats(0, 30))
    match action:
        case Build():
            return Built(trial=action.trial, seconds=seconds, size_bytes=draw(st.integers(0, 10**6)), failure=draw(failures))
        case Gate():
            return Gated(trial=action.trial, seconds=seconds, fidelity=draw(fidelities), failure=draw(failures))
        case SealedCheck():
            return Sealed(trial=action.trial, seconds=seconds, fidelity=draw(fidelities), failure=draw(failures))
        case ScreenRound():
            medians = {trial: draw(st.floats(1, 1e9)) for trial in action.order if draw(st.booleans())}
            broken = {trial: failure for trial in action.order if (failure := draw(failures))}
            return Screened(seconds=seconds, medians_ns=medians, failures=broken)
        case RaceBlock():
            started = {trial: draw(arms()) for trial in action.order if draw(st.integers(0, 9))}
            broken = {trial: failure for trial in action.order if trial not in started and (failure := draw(failures))}
            return Raced(index=action.index, seconds=seconds, arms=started, failures=broken, valid=draw(st.integers(0, 5)) > 0)
        case MeasureStart():
            return Started(trial=action.trial, index=action.index, seconds=seconds, arm=draw(st.none() | arms()))
    raise AssertionError(action)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), st.floats(0.1, 600), st.booleans(), st.booleans())
def test_whatever_is_told_the_search_ends_with_an_answer(data: st.DataObject, total_s: float, synthetic: bool, frozen_clock: bool) -> None:
    search = machine([candidate(name) for name in ("a", "b", "c", "d", "e", "f")], total_s=total_s, synthetic=synthetic)
    elapsed_s = 0.0
    for _ in range(400):
        action = search.ask(elapsed_s)
        if isinstance(action, Finish):
            assert action.conclusion.reason
            assert (action.conclusion.decision is Decision.WINNER) == (action.conclusion.winner is not None)
            return
        result = answer(data.draw, action)
        elapsed_s += 0.0 if frozen_clock else result.seconds
        search.tell(result)
    raise AssertionError("the machine asks without end")

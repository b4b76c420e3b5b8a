"""Time before the start: the sum of its parts, and whether the budget can hold an answer at all (measurement.md 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from optimizer.errors import InputError
from optimizer.measure.fidelity import examples_needed
from optimizer.measure.streams import examples_per_unit
from optimizer.measure.traffic import buckets_of
from optimizer.search.arms import min_iterations
from optimizer.search.candidates import installed_backends, plan
from optimizer.search.plan import Estimate
from optimizer.search.priors import inference_s
from optimizer.search.reserve import CLOSING_S, FEWEST_SEALED, RACE_SHARE, SEARCH_SHARE, Costs, Reserve
from optimizer.search.rounds import MIN_ROUNDS, ROUND_S
from optimizer.specs import HardwareProfile, ModelCard, SearchSpec

START_S = (0.7, 2.0)
LOAD_BYTES_PER_S = (1e9, 2e8)
BUILD_S = (1.0, 4.0)
GATE_EXAMPLES = (64, 200)
"""The least and the most that a gate looks at; in between, what ``GATE_S`` seconds hold."""
GATE_S = 3.0
LEAST_CANDIDATES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Guess:
    """One end of the guess: the fast or the slow one."""

    start_s: float
    build_s: float
    inference_s: float

    @property
    def gate_s(self) -> float:
        return self.start_s + _gate_examples(self.inference_s) * self.inference_s

    @property
    def candidate_s(self) -> float:
        """Build, gate, open and screen one candidate."""
        return self.build_s + self.gate_s + self.start_s + 2 * MIN_ROUNDS * ROUND_S

    def between(self, other: _Guess) -> Costs:
        """Priors for a run: the geometric mean of two guesses."""
        names = ("build_s", "gate_s", "start_s", "inference_s")
        build_s, gate_s, start_s, inference_s = (math.sqrt(getattr(self, name) * getattr(other, name)) for name in names)
        return Costs(build_s=build_s, gate_s=gate_s, open_s=start_s, example_s=inference_s, median_s=inference_s)

    def costs(self) -> Costs:
        return Costs(build_s=self.build_s, gate_s=self.gate_s, open_s=self.start_s, example_s=self.inference_s, median_s=self.inference_s)


def _gate_examples(inference_s: float) -> int:
    least, most = GATE_EXAMPLES
    return min(most, max(least, int(GATE_S / inference_s)))


def gate_examples(card: ModelCard, hardware: HardwareProfile) -> int:
    """Examples that the gate of every candidate looks at."""
    fast, slow = inference_s(card, hardware)
    return _gate_examples(math.sqrt(fast * slow))


def guesses(card: ModelCard, hardware: HardwareProfile) -> tuple[_Guess, _Guess]:
    """(fast, slow) guess of what each step costs on this host."""
    fast, slow = (
        _Guess(start_s=start + card.size_bytes / load, build_s=build + card.size_bytes / load, inference_s=inference)
        for start, load, build, inference in zip(START_S, LOAD_BYTES_PER_S, BUILD_S, inference_s(card, hardware), strict=True)
    )
    return fast, slow


def sealed_needed(card: ModelCard, spec: SearchSpec) -> int:
    """Sealed examples that a recipe without any change needs to Pass; a model with state needs as many streams."""
    return examples_needed(spec.task or card.task, spec.targets) * examples_per_unit(card)


def estimate(card: ModelCard, spec: SearchSpec, hardware: HardwareProfile) -> Estimate:
    """Seconds from start to answer. ``low_s``: the first look decides; ``parts`` add up to ``high_s``, which the budget bounds."""
    buckets_of(card, spec)  # refuses traffic that cannot be measured, before anything starts
    fast, slow = guesses(card, hardware)
    needed = sealed_needed(card, spec)
    candidates = len(plan(card, spec, hardware, installed_backends(hardware)).candidates)
    least_s = _least_s(fast, spec, needed)
    parts = _parts(slow, spec, needed=needed, candidates=candidates)
    low = _parts(fast, spec, needed=needed, candidates=candidates, first_look=True)
    return Estimate(
        low_s=min(sum(low.values()), sum(parts.values())),
        high_s=sum(parts.values()),
        parts=parts,
        trials=candidates + 1,
        sealed_needed=needed,
        problems=_problems(spec, least_s),
        least_s=least_s,
    )


def check_budget(found: Estimate) -> None:
    """Raises InputError ``budget.too_small`` naming the least that would do."""
    if found.problems:
        raise InputError("budget.too_small", found.problems[0])


def _parts(guess: _Guess, spec: SearchSpec, *, needed: int, candidates: int, first_look: bool = False) -> dict[str, float]:
    """Seconds by part; search takes what the race and the accuracy check leave, at most what its candidates need.

    Where a proof of reduced precision would leave no time to search and race, the check is that of an exact form.
    """
    total_s, reserve = spec.budget.total_s, _reserve(guess, spec)
    baseline_s = min(guess.gate_s, total_s)
    sealed_s = _sealed_s(reserve, needed)
    if sealed_s + SEARCH_SHARE * (total_s - baseline_s) + reserve.race_s(reserve.sizes()[-1]) > total_s - baseline_s - CLOSING_S:
        sealed_s = min(_sealed_s(reserve, min(needed, FEWEST_SEALED)), total_s - baseline_s)
    left_s = max(0.0, total_s - baseline_s - sealed_s - CLOSING_S)
    size = reserve.affordable(RACE_SHARE * left_s) or reserve.sizes()[-1]
    race_s = size.looks[0] * reserve.block_s(1) if first_look else reserve.race_s(size)
    race_s = min(race_s, left_s)
    search_s = min(candidates * guess.candidate_s, left_s - race_s)
    return {"baseline": baseline_s, "search": search_s, "accuracy_check": sealed_s, "race": race_s}


def _least_s(guess: _Guess, spec: SearchSpec, needed: int) -> float:
    """Screening of two candidates, one look of one finalist, and its check as an exact form, at the fast guess."""
    reserve = _reserve(guess, spec)
    search_s = LEAST_CANDIDATES * guess.candidate_s
    sealed_s = reserve.sealed_s(min(needed, FEWEST_SEALED), finalists=1)
    return guess.gate_s + search_s + sealed_s + spec.budget.looks[0] * reserve.block_s(1) + CLOSING_S


def _sealed_s(reserve: Reserve, needed: int) -> float:
    """The accuracy check of one finalist on what a proof needs, or on fewer where that would leave no time to search."""
    return reserve.sealed_s(reserve.sealed_examples(available=needed, needed=needed), finalists=1)


def _reserve(guess: _Guess, spec: SearchSpec) -> Reserve:
    return Reserve(budget=spec.budget, total_s=spec.budget.total_s, costs=guess.costs(), min_iterations=min_iterations(spec))


def _problems(spec: SearchSpec, least_s: float) -> tuple[str, ...]:
    if least_s <= spec.budget.total_s:
        return ()
    sentence = (
        f"A budget of {spec.budget.total_s:g} s cannot hold screening, one race look and the accuracy check; "
        f"allow at least {math.ceil(least_s)} s."
    )
    return (sentence,)

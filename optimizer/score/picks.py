"""The three named picks of a finished search, from its race Measurements."""

from __future__ import annotations

import math

import numpy as np

from optimizer.measure.verdict import judge
from optimizer.score.change import same_configuration
from optimizer.score.cost import COST
from optimizer.score.evidence import TrialEvidence
from optimizer.score.pareto import Option, independent_draws, named_picks
from optimizer.score.rows import change_against
from optimizer.specs import Measurement, SearchOutcome, SearchSpec, Verdict

DRAWS = 2_000


def pick_latency(spec: SearchSpec) -> str:
    """The latency that picks rank by: p90 in quick, where p99 is often unbounded, else p99."""
    return "latency_p90_ms" if spec.budget.preset == "quick" else "latency_p99_ms"


def pick_trials(evidence: dict[int, TrialEvidence], *, outcome: SearchOutcome, spec: SearchSpec) -> dict[str, int]:
    """Trial of each pick among the raced trials that meet every provable target; unbounded KPIs are not ranked."""
    rng = np.random.default_rng(spec.seed)
    options = [_option(one, evidence[0], outcome=outcome, spec=spec, rng=rng) for one in evidence.values() if one.raced]
    return named_picks(options)


def _option(one: TrialEvidence, baseline: TrialEvidence, *, outcome: SearchOutcome, spec: SearchSpec, rng: np.random.Generator) -> Option:
    cost, latency = one.get(COST), one.get(pick_latency(spec))
    return Option(
        trial=one.trial,
        cost=_ranked(cost),
        latency_ms=_ranked(latency),
        passes=_passes(one, baseline, outcome=outcome, spec=spec),
        cost_draws=None if cost is None else independent_draws(cost, draws=DRAWS, rng=rng),
        latency_draws=None if latency is None else independent_draws(latency, draws=DRAWS, rng=rng),
    )


def _ranked(measurement: Measurement | None) -> float:
    if measurement is None or measurement.value is None or measurement.ci_low is None or measurement.ci_high is None:
        return math.nan
    return measurement.value


def _passes(one: TrialEvidence, baseline: TrialEvidence, *, outcome: SearchOutcome, spec: SearchSpec) -> bool:
    """Fidelity is Pass and so is every target that this machine can prove at all."""
    if one.trial != 0 and one.fidelity is not Verdict.PASS:
        return False
    for target in spec.targets:
        measurement = one.get(target.kpi)
        if not target.relative and (measurement is None or measurement.provenance.is_estimate):
            continue
        change = change_against(one, baseline, target.kpi, outcome=outcome, margin=spec.margin)
        ratio = same_configuration() if one.trial == 0 else (change.ratio if change else None)
        if judge(target, measurement, ratio).verdict is not Verdict.PASS:
            return False
    return True

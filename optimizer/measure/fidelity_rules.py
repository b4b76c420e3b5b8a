"""Which limits a task's outputs are held to, which output carries the task, and how verdicts combine (measurement.md 9)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from optimizer.kpis import kpi
from optimizer.measure.proportions import examples_to_prove
from optimizer.measure.verdict import Judgement, Needed, judge
from optimizer.rounding import is_float
from optimizer.specs import KpiTarget, Measurement, TaskKind, Verdict

TOP1 = "fidelity_top1_agreement_fraction"
COSINE = "fidelity_cosine_p01_ratio"
SNR = "fidelity_snr_db"
RANKS = "fidelity_rank_correlation_ratio"
NEAREST = "fidelity_nearest_agreement_fraction"
CHARACTERS = "fidelity_character_agreement_fraction"
EXACT = "fidelity_sequence_exact_fraction"
STEPS = "fidelity_step_agreement_fraction"
DETECTION = "fidelity_detection_f1_fraction"
LARGEST = "fidelity_max_abs_error"
ACCURACY = "accuracy_top1_fraction"
ACCURACY_DELTA = "accuracy_delta_pp"

PERMITTED_DROP_PP = 1.0
LOWEST_PERCENTILE = 0.01
SHARES = frozenset({TOP1, CHARACTERS, EXACT, STEPS, NEAREST, DETECTION})

DEFAULT_LIMITS: dict[TaskKind, dict[str, float]] = {
    TaskKind.CLASSIFICATION: {TOP1: 0.99},
    TaskKind.EMBEDDING: {COSINE: 0.99, RANKS: 0.99},
    TaskKind.SEQUENCE: {CHARACTERS: 0.99},
    TaskKind.DETECTION: {DETECTION: 0.99},
    TaskKind.GENERIC: {COSINE: 0.99, SNR: 20.0},
}


def limits_for(task: TaskKind, targets: Iterable[KpiTarget] = ()) -> dict[str, float]:
    """Lower limits by KPI: the task's defaults, replaced and extended by the user's absolute fidelity targets."""
    chosen = dict(DEFAULT_LIMITS[task])
    chosen.update({target.kpi: target.value for target in targets if target.kpi.startswith("fidelity_") and not target.relative})
    return chosen


def permitted_drop_pp(targets: Iterable[KpiTarget] = ()) -> float:
    """Percentage points of accuracy that may be lost; the user's target on the change replaces the default."""
    stated = [target.value for target in targets if target.kpi == ACCURACY_DELTA and not target.relative]
    return -stated[-1] if stated else PERMITTED_DROP_PP


def examples_needed(task: TaskKind, targets: Iterable[KpiTarget] = ()) -> int:
    """Fewest sealed examples with which the task's limits can pass at all, with no change in the outputs."""
    return max((floor_of(name, limit) for name, limit in limits_for(task, targets).items()), default=1)


def floor_of(name: str, limit: float) -> int:
    """Examples that one limit needs when every output is right: 381 for a share of 0.99, 368 for a first percentile."""
    if name in SHARES:
        return examples_to_prove(limit) if 0 < limit < 1 else 1
    return math.ceil(math.log(0.025) / math.log(1 - LOWEST_PERCENTILE)) if name == COSINE else 3


def task_output(task: TaskKind, outputs: Sequence[np.ndarray[Any, Any]], *, states: frozenset[int] = frozenset()) -> int | None:
    """Index of the output that carries the task, by its shape: the last one that fits and is no state; None when none does."""
    ranks = {TaskKind.CLASSIFICATION: (2, 1), TaskKind.EMBEDDING: (2, 3), TaskKind.SEQUENCE: (3,)}.get(task, ())
    for rank in ranks:
        fitting = [i for i, one in enumerate(outputs) if i not in states and is_float(one) and one.ndim == rank and one.shape[-1] > 1]
        if fitting:
            return fitting[-1]
    return None


def judged(measurements: Iterable[Measurement], limits: Mapping[str, float]) -> dict[str, Judgement]:
    """Each limit's judgement, in order; a KPI that these outputs do not yield is Unproven."""
    found = {one.kpi: one for one in measurements}
    return {name: _judge(name, limit, found.get(name)) for name, limit in limits.items()}


def _judge(name: str, limit: float, measured: Measurement | None) -> Judgement:
    if measured is None:
        return Judgement(Verdict.UNPROVEN, f"These outputs yield no {kpi(name).title.lower()}.", None)
    answer = judge(KpiTarget(kpi=name, value=limit), measured)
    if answer.verdict is not Verdict.UNPROVEN:
        return answer
    return Judgement(Verdict.UNPROVEN, answer.reason, _needed(name, limit, measured, answer.needed))


def _needed(name: str, limit: float, measured: Measurement, guess: Needed | None) -> Needed | None:
    """Examples that would probably decide; for shares computed from Wilson's interval at the observed share."""
    value = measured.value
    if name in SHARES and value is not None and limit < value:
        return Needed(samples=max(floor_of(name, limit), math.ceil(examples_to_prove(limit, share=value) * measured.n / measured.n_eff)))
    floor = math.ceil(floor_of(name, limit) * measured.n / max(1, measured.n_eff))
    if guess is None:
        return Needed(samples=floor) if floor > measured.n else None
    return Needed(samples=max(floor, guess.samples))


def combined(judgements: Mapping[str, Judgement]) -> Verdict:
    """Fail if any fails, Pass if all pass, otherwise Unproven."""
    verdicts = {one.verdict for one in judgements.values()}
    if Verdict.FAIL in verdicts:
        return Verdict.FAIL
    return Verdict.PASS if verdicts == {Verdict.PASS} else Verdict.UNPROVEN


def sentence(
    verdict: Verdict,
    judgements: Mapping[str, Judgement],
    measurements: Sequence[Measurement],
    limits: Mapping[str, float],
    *,
    how: str = "",
) -> str:
    """One sentence for a person: what decided, with sizes and counts. ``how`` qualifies the inputs."""
    found = {one.kpi: one for one in measurements}
    deciding = {name: one for name, one in judgements.items() if one.verdict is verdict}
    parts = "; ".join(_clause(name, found.get(name), limits[name], one, verdict=verdict, how=how) for name, one in deciding.items())
    return (
        {Verdict.PASS: "Outputs match the original: ", Verdict.FAIL: "Outputs differ from the original: "}.get(verdict, "Not proven: ")
        + parts
        + "."
    )


def _clause(name: str, measured: Measurement | None, limit: float, judgement: Judgement, *, verdict: Verdict, how: str) -> str:
    title = kpi(name).title
    if measured is None or measured.value is None:
        return judgement.reason.rstrip(".")
    text = f"{title} {measured.value:.4g} on {measured.n:,} inputs{how}"
    if verdict is Verdict.PASS:
        return f"{text} (limit {limit:g})"
    if verdict is Verdict.FAIL:
        return f"{text} misses {limit:g}"
    needed = judgement.needed
    return f"{text}, limit {limit:g}" + (
        f", needs at least {needed.samples:,} sealed inputs" if needed and needed.samples > measured.n else ""
    )

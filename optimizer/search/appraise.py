"""A finalist on trial: its Measurements from the race's own blocks, its duels, and every constraint judged (measurement.md 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optimizer.kpis import kpi
from optimizer.measure.compare import PairedEffect
from optimizer.measure.statistics import exact, latency_measurements, mean_interval
from optimizer.measure.steady import WarmupClass, validity_of_starts
from optimizer.measure.verdict import Judgement, judge
from optimizer.search.actions import Arm, Fidelity
from optimizer.search.arms import COST, SIZE, START_KPIS, pairs_know, raced_kpi, value
from optimizer.search.race import Race, Standoff
from optimizer.specs import Duel, KpiTarget, Measurement, SearchSpec, Validity, Verdict

NOT_PROVABLE_HERE = (COST, "power_w", "energy_j_per_inference")
"""Estimated on this host unless prices or meters are given: shown, and left out of the decision."""

PAIRED_KPIS = ("latency_p50_ms", "latency_p90_ms", "latency_p95_ms", "latency_p99_ms", "latency_mean_ms", "throughput_per_s", *START_KPIS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One of the user's targets with its verdict."""

    target: KpiTarget
    judgement: Judgement


@dataclass(frozen=True, slots=True, kw_only=True)
class Appraisal:
    """What is known of a finalist: Measurements, duels (the objective's first), constraints, sealed fidelity."""

    trial: int
    standoff: Standoff | None
    measurements: tuple[Measurement, ...]
    duels: tuple[Duel, ...]
    constraints: tuple[Judged, ...]
    sealed: Fidelity | None

    def with_verdict(self, verdict: Verdict) -> tuple[Judged, ...]:
        return tuple(one for one in self.constraints if one.judgement.verdict is verdict)

    @property
    def wins(self) -> bool:
        """The never-slower guard: beats the baseline, every constraint is Pass, the sealed check is Pass."""
        is_proven = self.sealed is not None and self.sealed.verdict is Verdict.PASS
        return is_proven and self.beats_baseline and len(self.with_verdict(Verdict.PASS)) == len(self.constraints)

    @property
    def beats_baseline(self) -> bool:
        return self.standoff is not None and self.standoff.beats_baseline


def appraise(trial: int, *, race: Race, spec: SearchSpec, sealed: Fidelity | None, size_bytes: int) -> Appraisal:
    """Judge a finalist on all counted blocks."""
    measured = (*start_measurements(race.arms(trial)), size_measurement(size_bytes), *(sealed.measurements if sealed else ()))
    duels = _duels(trial, race=race, spec=spec)
    constraints = [
        Judged(target=target, judgement=judge(target, _of(target, measured), _ratio(target, duels)))
        for target in spec.targets
        if is_binding(target)
    ]
    return Appraisal(
        trial=trial,
        standoff=race.standoffs.get(trial),
        measurements=measured,
        duels=duels,
        constraints=tuple(constraints),
        sealed=sealed,
    )


def needs_more(appraisal: Appraisal) -> bool:
    """Whether another look could still prove a constraint: one is open, and none has failed."""
    return bool(appraisal.with_verdict(Verdict.UNPROVEN)) and not appraisal.with_verdict(Verdict.FAIL)


def is_binding(target: KpiTarget) -> bool:
    """A relative cost target is a throughput ratio, the price cancels; an absolute one needs prices this host does not know."""
    return target.kpi not in NOT_PROVABLE_HERE or (target.kpi == COST and target.relative)


def start_measurements(arms: Sequence[Arm], *, samples_sha256: str = "") -> tuple[Measurement, ...]:
    """Latency, throughput and cold-start Measurements of fresh starts; empty without any."""
    if not arms:
        return ()
    validity, reasons = validity_of_starts([WarmupClass(arm.warmup) for arm in arms])
    timed = latency_measurements(
        [_rows(arm, max(one.calls_per_sample for one in arms)) for arm in arms],
        calls_per_sample=max(arm.calls_per_sample for arm in arms),
        batch=arms[0].items,
        in_flight=arms[0].in_flight,
        validity=validity,
        reasons=reasons,
        samples_sha256=samples_sha256,
    )
    return (*timed, *(_start_measurement(arms, name) for name in START_KPIS))


def size_measurement(size_bytes: int) -> Measurement:
    """Bytes of all deployable files."""
    return exact(float(size_bytes)).measurement(SIZE)


def _rows(arm: Arm, calls: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Rows of ``calls`` calls each: starts that timed single calls are grouped where another start had to group."""
    group = max(1, calls // arm.calls_per_sample)
    if group == 1:
        return arm.rows_ns
    whole = len(arm.rows_ns) // group * group
    return np.column_stack([arm.rows_ns[:whole:group, 0], arm.rows_ns[group - 1 : whole : group, 1]])


def _start_measurement(arms: Sequence[Arm], name: str) -> Measurement:
    values = [value(arm, name) for arm in arms]
    if not all(one > 0 for one in values):
        reason = "some starts could not report it"
        return Measurement(kpi=name, value=None, unit=kpi(name).unit, validity=Validity.INVALID, reasons=(reason,))
    return mean_interval(values).measurement(name)


def _duels(trial: int, *, race: Race, spec: SearchSpec) -> tuple[Duel, ...]:
    pairs = race.pairs(trial)
    standoff = race.standoffs.get(trial)
    if not pairs or standoff is None:
        return ()
    first = raced_kpi(spec.objective)
    others = [name for name in PAIRED_KPIS if name != first and pairs_know(pairs, name)]
    headline = _duel(trial, first, standoff.effect, standoff=standoff)
    effects = ((name, race.effect(trial, name, error=race.error)) for name in others)
    return (headline, *(_duel(trial, name, effect, standoff=standoff) for name, effect in effects if effect.blocks))


def _duel(trial: int, name: str, effect: PairedEffect, *, standoff: Standoff) -> Duel:
    is_headline = effect is standoff.effect
    return Duel(
        trial=trial,
        kpi=name,
        speedup=effect.measurement(),
        effect=effect.effect,
        blocks=effect.blocks,
        looks=standoff.look,
        ratios=standoff.ratios if is_headline else (),
    )


def _of(target: KpiTarget, measured: Sequence[Measurement]) -> Measurement | None:
    return next((one for one in measured if one.kpi == target.kpi), None)


def _ratio(target: KpiTarget, duels: Sequence[Duel]) -> Measurement | None:
    source = raced_kpi(target.kpi)
    duel = next((one for one in duels if one.kpi == source), None)
    return None if duel is None else duel.speedup

"""The rows of a scorecard: one per KPI, or one per target where a KPI carries several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from optimizer.kpis import KPIS, Evidence, kpi
from optimizer.measure.verdict import Judgement, Needed, judge, ratio_target
from optimizer.score.change import Change, change_of, same_configuration, unpaired_ratio
from optimizer.score.cost import COST
from optimizer.score.evidence import FIDELITY, THROUGHPUT, TrialEvidence
from optimizer.score.wording import format_duration
from optimizer.specs import KpiTarget, Measurement, Operator, SearchOutcome, SearchSpec, Validity, Verdict

HEADLINE = (
    "latency_p50_ms",
    "latency_p90_ms",
    "latency_p95_ms",
    "latency_p99_ms",
    THROUGHPUT,
    "accuracy_top1_fraction",
    "accuracy_delta_pp",
)
AFTER_FIDELITY = (COST, "memory_peak_host_bytes", "model_size_bytes", "cold_start_ms", "load_time_ms", "first_inference_ms")
ORDER = (*HEADLINE, *(name for name in KPIS if name.startswith("fidelity_")), *AFTER_FIDELITY, "power_w", "energy_j_per_inference")
SHOWN_ONLY_IF_TARGETED = ("latency_p95_ms", "latency_mean_ms", "cost_usd_per_hour", "speedup_ratio", "time_to_steady_s")


class Standing(StrEnum):
    """How a row is marked; the last three are no verdicts and prove nothing."""

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    UNPROVEN = "unproven"
    ESTIMATED = "estimated"
    NOT_MEASURED = "not_measured"
    UNJUDGED = "unjudged"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """One KPI of the judged trial. ``headroom`` is the distance to the target as a share of it, above 0 on the good side."""

    kpi: str
    measurement: Measurement | None
    baseline: Measurement | None
    target: KpiTarget | None = None
    change: Change | None = None
    verdict: Verdict | None = None
    reason: str = ""
    needed: Needed | None = None
    standing: Standing = Standing.UNJUDGED
    default_target: bool = False
    headroom: float | None = None


def score_rows(judged: TrialEvidence, baseline: TrialEvidence, *, outcome: SearchOutcome, spec: SearchSpec) -> tuple[ScoreRow, ...]:
    """Every KPI that was measured or targeted, in the scorecard's order."""
    rows: list[ScoreRow] = []
    for name in _names(judged, spec):
        change = change_against(judged, baseline, name, outcome=outcome, margin=spec.margin)
        targets = _targets(name, judged, spec)
        rows += [_row(name, target, judged, baseline, change=change, spec=spec) for target in targets or (None,)]
    return _with_stage_verdict(rows, judged)


def change_against(judged: TrialEvidence, baseline: TrialEvidence, name: str, *, outcome: SearchOutcome, margin: float) -> Change | None:
    """Paired where the race paired this KPI, else from the two intervals. The price cancels from a cost ratio on one host."""
    if judged.trial == baseline.trial:
        return None
    source = THROUGHPUT if name == COST else name
    for duel in outcome.duels:
        if duel.trial == judged.trial and duel.kpi in (name, source):
            return Change(kpi=name, ratio=duel.speedup, effect=duel.effect)
    if name.startswith(FIDELITY):
        return None
    ratio = unpaired_ratio(baseline.get(source), judged.get(source))
    return None if ratio is None else change_of(name, ratio, margin=margin)


def _names(judged: TrialEvidence, spec: SearchSpec) -> list[str]:
    targeted = {target.kpi for target in spec.targets}
    measured = {name for name in judged.measurements if name not in SHOWN_ONLY_IF_TARGETED}
    wanted = targeted | measured
    return [*(name for name in ORDER if name in wanted), *(name for name in KPIS if name in wanted and name not in ORDER)]


def _targets(name: str, judged: TrialEvidence, spec: SearchSpec) -> tuple[KpiTarget, ...]:
    own = tuple(target for target in spec.targets if target.kpi == name)
    if own or name not in judged.limits or judged.trial == 0:
        return own
    return (KpiTarget(kpi=name, value=judged.limits[name]),)


def _row(
    name: str, target: KpiTarget | None, judged: TrialEvidence, baseline: TrialEvidence, *, change: Change | None, spec: SearchSpec
) -> ScoreRow:
    measurement = judged.get(name)
    plain = ScoreRow(kpi=name, measurement=measurement, baseline=baseline.get(name), target=target, change=change)
    if target is None:
        return replace(plain, standing=_unjudged(measurement))
    ratio = change.ratio if change else None
    verdict, reason, needed = _judged(target, judged, ratio, spec)
    needed = None if needed is None else replace(needed, seconds=_seconds(needed, target, judged, baseline, ratio))
    return replace(
        plain,
        verdict=verdict,
        reason=_with_time(reason, needed),
        needed=needed,
        standing=_standing(verdict, target, measurement),
        default_target=target not in spec.targets,
        headroom=_headroom(target, measurement, ratio),
    )


def _judged(target: KpiTarget, judged: TrialEvidence, ratio: Measurement | None, spec: SearchSpec) -> Judgement:
    if judged.trial == 0 and target.relative:
        return judge(target, judged.get(target.kpi), same_configuration())
    if judged.trial == 0 and target.kpi.startswith("fidelity_"):
        return Judgement(Verdict.PASS, "The original is the reference itself.", None)
    if spec.budget.preset == "quick" and (kpi(target.kpi).percentile or 0) >= 0.99:
        return Judgement(Verdict.UNPROVEN, "The quick budget shows p99 without judging it; run the standard budget.", None)
    measurement = judged.get(target.kpi)
    if measurement is None and target.kpi in ("power_w", "energy_j_per_inference"):
        return Judgement(
            Verdict.UNPROVEN, "Not measured: this machine gives no power reading; attach a meter or choose another agent.", None
        )
    return judge(target, measurement, ratio)


def _standing(verdict: Verdict, target: KpiTarget, measurement: Measurement | None) -> Standing:
    if verdict is not Verdict.UNPROVEN or target.relative:
        return Standing(verdict.value)
    unjudged = _unjudged(measurement)
    return Standing.UNPROVEN if unjudged is Standing.UNJUDGED else unjudged


def _unjudged(measurement: Measurement | None) -> Standing:
    if measurement is None or measurement.value is None or measurement.validity is Validity.INVALID:
        return Standing.NOT_MEASURED
    return Standing.ESTIMATED if measurement.provenance.is_estimate else Standing.UNJUDGED


def _with_time(reason: str, needed: Needed | None) -> str:
    return f"{reason} That takes about {format_duration(needed.seconds)} more." if needed and needed.seconds > 0 else reason


def _seconds(needed: Needed, target: KpiTarget, judged: TrialEvidence, baseline: TrialEvidence, ratio: Measurement | None) -> float:
    """Further measuring time: starts cost load, first call and their stream; examples cost one call on either side."""
    measured = ratio if target.relative else judged.get(target.kpi)
    if measured is None or measured.n == 0:
        return 0.0
    if kpi(target.kpi).evidence is Evidence.EXAMPLES:
        return max(0, needed.samples - measured.n) * (_call_s(judged) + _call_s(baseline))
    sides = (judged, baseline) if target.relative else (judged,)
    spent = sum(_start_s(side) for side in sides) * max(1, measured.starts)
    return max(0.0, needed.samples / measured.n - 1) * spent


def _call_s(evidence: TrialEvidence) -> float:
    mean = evidence.get("latency_mean_ms") or evidence.get("latency_p50_ms")
    return (mean.value or 0.0) / 1000 if mean else 0.0


def _start_s(evidence: TrialEvidence) -> float:
    stream = evidence.get("latency_p50_ms")
    calls = stream.n / max(1, stream.starts) if stream else 0
    opening = sum((evidence.measurements[name].value or 0.0) for name in ("load_time_ms", "first_inference_ms") if evidence.get(name))
    return calls * _call_s(evidence) + opening / 1000


def _headroom(target: KpiTarget, measurement: Measurement | None, ratio: Measurement | None) -> float | None:
    if target.relative:
        target, measurement = ratio_target(target), ratio
    if measurement is None or measurement.value is None or target.value == 0 or not math.isfinite(measurement.value):
        return None
    gap = (target.value - measurement.value) / abs(target.value)
    return gap if target.op is Operator.AT_MOST else -gap


def _with_stage_verdict(rows: Sequence[ScoreRow], judged: TrialEvidence) -> tuple[ScoreRow, ...]:
    """Where the sealed check reported no limits, its verdict stands on the first fidelity row without a target."""
    if judged.fidelity is None or judged.trial == 0 or any(row.default_target for row in rows):
        return tuple(rows)
    first = next((row for row in rows if row.kpi.startswith("fidelity_") and row.target is None), None)
    if first is None:
        return tuple(rows)
    marked = replace(first, verdict=judged.fidelity, reason=judged.fidelity_reason, standing=Standing(judged.fidelity.value))
    return tuple(marked if row is first else row for row in rows)

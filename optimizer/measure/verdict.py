"""Pass, Fail or Unproven: one target against one measurement (measurement.md 4)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from optimizer.kpis import Direction, Evidence, kpi
from optimizer.measure.percentile import MIN_STARTS, floor_samples
from optimizer.specs import KpiTarget, Measurement, Operator, Validity, Verdict

EXTENSIONS = 2
"""Collecting more doubles the starts, at most this often."""

MOST_NEEDED = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """What would probably decide: samples in all, and further seconds of measuring."""

    samples: int
    seconds: float = 0.0


class Judgement(NamedTuple):
    """A verdict, the sentence behind it, and what an open one needs."""

    verdict: Verdict
    reason: str
    needed: Needed | None


def look_error(look: int) -> float:
    """Two-sided error of the ``look``-th verdict on the same target: 0.05, 0.025, 0.0125; the false-Pass risk stays below 5%."""
    return 0.05 * 0.5 ** (look - 1)


def judge(target: KpiTarget, measurement: Measurement | None, baseline_ratio: Measurement | None = None) -> Judgement:
    """Judge one target.

    A relative target is judged on ``baseline_ratio`` alone: the paired ``speedup_ratio`` (above 1 is better), whatever the
    absolute measurement says. Estimates, invalid and missing numbers prove nothing.
    """
    if target.relative:
        return _judge_relative(target, baseline_ratio)
    if measurement is None or measurement.value is None or measurement.validity is Validity.INVALID:
        return Judgement(Verdict.UNPROVEN, _not_measured(measurement), None)
    if measurement.provenance.is_estimate:
        return Judgement(Verdict.UNPROVEN, f"Estimated ({_origin(measurement)}): an estimate proves nothing.", None)
    return _judge_interval(target, _with_exact_interval(measurement))


def ratio_target(target: KpiTarget) -> KpiTarget:
    """A relative target as a lower limit of the speed-up: "at most 80% of the baseline" is a speed-up of at least 1.25."""
    lower = kpi(target.kpi).direction is Direction.LOWER
    return KpiTarget(kpi="speedup_ratio", value=1 / target.value if lower else target.value)


def _judge_relative(target: KpiTarget, ratio: Measurement | None) -> Judgement:
    if ratio is None or ratio.value is None or ratio.validity is Validity.INVALID:
        return Judgement(Verdict.UNPROVEN, "Not measured: no comparison with the baseline on this KPI.", None)
    if ratio.provenance.is_estimate:
        return Judgement(Verdict.UNPROVEN, f"Estimated ({_origin(ratio)}): an estimate proves nothing.", None)
    return _judge_interval(ratio_target(target), _with_exact_interval(ratio), share_of=target)


def _judge_interval(target: KpiTarget, measured: Measurement, *, share_of: KpiTarget | None = None) -> Judgement:
    at_most = target.op is Operator.AT_MOST
    good_end, bad_end = (measured.ci_low, measured.ci_high) if at_most else (measured.ci_high, measured.ci_low)
    if good_end is not None and _misses(good_end, target.value, at_most=at_most):
        return Judgement(Verdict.FAIL, "The whole interval misses the target.", None)
    obstacle = _obstacle(measured, share_of)
    if obstacle is None and bad_end is not None and not _misses(bad_end, target.value, at_most=at_most):
        return Judgement(Verdict.PASS, "The whole interval meets the target.", None)
    why = obstacle or ("The interval is still open." if bad_end is None else "The interval contains the target.")
    needed = needed_samples(target, measured)
    return Judgement(Verdict.UNPROVEN, f"{why} {_what_decides(needed, share_of or target)}".strip(), needed)


def _misses(end: float, limit: float, *, at_most: bool) -> bool:
    return end > limit if at_most else end < limit


def _obstacle(measured: Measurement, share_of: KpiTarget | None) -> str | None:
    """Why this cannot be a Pass however good its interval looks; None if it can."""
    floor = _floor(measured.kpi)
    if measured.validity is Validity.INSUFFICIENT_SAMPLES or measured.n < floor:
        return f"Only {measured.n} samples; a verdict of Pass needs {floor}." if floor else "Too few samples."
    name = share_of.kpi if share_of else measured.kpi
    if kpi(name).evidence is Evidence.STARTS and measured.starts < MIN_STARTS and measured.method != "exact":
        return f"Only {measured.starts} fresh start{'s' if measured.starts != 1 else ''}; a verdict of Pass needs {MIN_STARTS}."
    return None


def _floor(name: str) -> int:
    percentile = kpi(name).percentile
    return 0 if percentile is None else floor_samples(percentile)


def needed_samples(target: KpiTarget, measured: Measurement) -> Needed | None:
    """Samples likely to decide: n × (half-width / distance to the target)², at least the floor; None when nothing will.

    The half-width is the one on the target's side of the value; an open end counts as twice the value's other side.
    """
    value = measured.value
    if value is None or measured.n == 0:
        return None
    least = max(_floor(measured.kpi), _least_for_starts(measured))
    facing = measured.ci_high if value < target.value else measured.ci_low
    if facing is None:
        return Needed(samples=max(least, 2 * measured.n))
    distance = abs(value - target.value)
    if distance == 0:
        return None
    samples = math.ceil(measured.n * max(1.0, (abs(facing - value) / distance) ** 2))
    return Needed(samples=max(samples, least)) if samples <= max(MOST_NEEDED, 100 * measured.n) else None


def _least_for_starts(measured: Measurement) -> int:
    if kpi(measured.kpi).evidence is not Evidence.STARTS or not 0 < measured.starts < MIN_STARTS:
        return 0
    return math.ceil(measured.n * MIN_STARTS / measured.starts)


def _what_decides(needed: Needed | None, target: KpiTarget) -> str:
    if needed is None:
        return "More samples are unlikely to decide: the value lies too close to the target."
    unit = "examples" if kpi(target.kpi).evidence is Evidence.EXAMPLES else ("blocks" if target.relative else "samples")
    return f"About {needed.samples:,} {unit} in all would decide."


def _with_exact_interval(measured: Measurement) -> Measurement:
    """What has no sampling error has an interval of width zero."""
    if measured.ci_low is None and measured.ci_high is None and kpi(measured.kpi).evidence is Evidence.EXACT:
        return replace(measured, ci_low=measured.value, ci_high=measured.value, method="exact")
    return measured


def _not_measured(measurement: Measurement | None) -> str:
    reasons = "; ".join(measurement.reasons) if measurement else ""
    return f"Not measured{': ' + reasons if reasons else ''}."


def _origin(measurement: Measurement) -> str:
    return measurement.provenance.value.replace("_", " ")

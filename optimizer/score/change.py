"""A change against the baseline: a speed-up in which above 1 is better, and the word for it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from optimizer.kpis import Direction, kpi
from optimizer.measure.compare import effect_of
from optimizer.specs import Effect, Measurement, Validity, weakest


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """``ratio`` is a ``speedup_ratio`` Measurement of KPI ``kpi`` against the baseline: above 1 is better."""

    kpi: str
    ratio: Measurement
    effect: Effect


def change_of(name: str, ratio: Measurement, *, margin: float) -> Change:
    """Name the effect of a ratio; an unbounded interval is inconclusive."""
    low = 0.0 if ratio.ci_low is None else ratio.ci_low
    high = math.inf if ratio.ci_high is None else ratio.ci_high
    return Change(kpi=name, ratio=ratio, effect=effect_of(low, high, margin=margin))


def same_configuration() -> Measurement:
    """The baseline against itself: exactly 1, by identity."""
    return Measurement(
        kpi="speedup_ratio", value=1.0, unit=kpi("speedup_ratio").unit, ci_low=1.0, ci_high=1.0, n=1, n_eff=1, method="exact"
    )


def unpaired_ratio(baseline: Measurement | None, candidate: Measurement | None) -> Measurement | None:
    """Speed-up from two separate Measurements: half-widths on the log scale add in quadrature.

    Wider than a paired interval on one host, never narrower than either side's. None when a value is missing.
    """
    if baseline is None or candidate is None or not _usable(baseline) or not _usable(candidate):
        return None
    better, worse = (candidate, baseline) if kpi(candidate.kpi).direction is Direction.HIGHER else (baseline, candidate)
    value = (better.value or 0) / (worse.value or 1)
    down = _quadrature(_below(better), _above(worse))
    up = _quadrature(_above(better), _below(worse))
    return replace(
        candidate,
        kpi="speedup_ratio",
        unit=kpi("speedup_ratio").unit,
        value=value,
        ci_low=None if down is None else value * math.exp(-down),
        ci_high=None if up is None else value * math.exp(up),
        n=min(baseline.n, candidate.n),
        n_eff=min(baseline.n_eff, candidate.n_eff),
        starts=min(baseline.starts, candidate.starts),
        method="exact" if down == up == 0 else "unpaired_log_quadrature",
        provenance=weakest(baseline.provenance, candidate.provenance),
    )


def _usable(measurement: Measurement) -> bool:
    valid = measurement.validity in (Validity.VALID, Validity.VALID_WITH_WARNINGS)
    return valid and measurement.value is not None and measurement.value > 0


def _below(measurement: Measurement) -> float | None:
    low = measurement.ci_low
    return math.log((measurement.value or 1) / low) if low is not None and low > 0 else None


def _above(measurement: Measurement) -> float | None:
    high = measurement.ci_high
    return math.log(high / (measurement.value or 1)) if high is not None else None


def _quadrature(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else math.hypot(first, second)

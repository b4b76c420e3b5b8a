"""What one fresh start says about a KPI, and the speed-up of two starts of one block."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from optimizer.errors import InputError
from optimizer.kpis import Direction, kpi
from optimizer.measure.statistics import floor_samples
from optimizer.search.actions import Arm
from optimizer.specs import SearchSpec
from optimizer.units import ms_from_ns

LEAST_ITERATIONS = 30

SPEED_KPIS = ("latency_p50_ms", "latency_p90_ms", "latency_p95_ms", "latency_p99_ms", "latency_mean_ms", "throughput_per_s")
GUARDED_KPIS = ("latency_p50_ms", "throughput_per_s")
"""Speed that an objective other than speed may not cost (measurement.md 7, step 4)."""

START_KPIS = ("load_time_ms", "first_inference_ms", "cold_start_ms", "memory_peak_host_bytes")
COLD_START = "cold_start_ms"
STARTING = ("load_time_ms", "first_inference_ms", COLD_START)
COST = "cost_usd_per_million_inferences"
SIZE = "model_size_bytes"
OBJECTIVES = (*SPEED_KPIS, COST, SIZE, COLD_START, "memory_peak_host_bytes")


def check_objective(objective: str) -> None:
    """Raises InputError ``objective.unsupported`` for a KPI the race cannot decide."""
    kpi(objective)
    if objective not in OBJECTIVES:
        raise InputError(
            "objective.unsupported", f"{kpi(objective).title} cannot be the objective yet; use one of {', '.join(OBJECTIVES)}."
        )


def is_speed(objective: str) -> bool:
    """Cost counts as speed: on one host its ratio is the inverse throughput ratio, the price cancels."""
    return objective in SPEED_KPIS or objective == COST


def is_start_targeted(spec: SearchSpec) -> bool:
    """Whether a target limits how long a start may take."""
    return any(target.kpi in STARTING for target in spec.targets)


def raced_kpi(objective: str) -> str:
    """The KPI whose per-block ratio decides for this objective."""
    return "throughput_per_s" if objective == COST else objective


def min_iterations(spec: SearchSpec) -> int:
    """Examples per start: at least 30, and one for each call that percentiles need."""
    return max(LEAST_ITERATIONS, percentile_calls(spec))


def percentile_calls(spec: SearchSpec) -> int:
    """Calls per start, of one example or many: enough where a percentile is the objective, is compared, or must reach its floor pooled."""
    needed = [0]
    raced = kpi(raced_kpi(spec.objective)).percentile
    if raced is not None:
        needed.append(floor_samples(raced))
    for target in spec.targets:
        percentile = kpi(target.kpi).percentile
        if percentile is not None:
            floor = floor_samples(percentile)
            needed.append(floor if target.relative else math.ceil(floor / spec.budget.looks[0]))
    return max(needed)


def pairs_know(pairs: Sequence[tuple[Arm, Arm]], name: str) -> bool:
    """Whether every start holds enough calls for this KPI to be compared start by start."""
    percentile = kpi(name).percentile
    if percentile is None:
        return True
    floor = floor_samples(percentile)
    return all(len(arm.rows_ns) >= floor for pair in pairs for arm in pair)


def value(arm: Arm, name: str) -> float:
    """One start's value of a KPI, in the KPI's unit; NaN when this start cannot know it."""
    percentile = kpi(name).percentile
    if percentile is not None:
        ordered = np.sort(arm.latencies_ns)
        return ms_from_ns(float(ordered[math.ceil(percentile * len(ordered)) - 1]))
    by_name = {
        "latency_mean_ms": ms_from_ns(float(np.mean(arm.latencies_ns))),
        "throughput_per_s": arm.throughput_per_s,
        "load_time_ms": ms_from_ns(arm.load_ns),
        "first_inference_ms": ms_from_ns(arm.first_ns),
        "cold_start_ms": ms_from_ns(arm.load_ns + arm.first_ns),
        "memory_peak_host_bytes": float(arm.memory_peak_bytes),
    }
    return by_name.get(name, math.nan)


def log_speedup(baseline: Arm, candidate: Arm, name: str) -> float:
    """ln of how many times better the candidate is on this KPI; above 0 is better, NaN when either start lacks it."""
    before, after = value(baseline, name), value(candidate, name)
    if not (before > 0 and after > 0):
        return math.nan
    ratio = math.log(before / after)
    return ratio if kpi(name).direction is Direction.LOWER else -ratio


def log_speedups(pairs: Sequence[tuple[Arm, Arm]], name: str) -> list[float]:
    """Finite log speed-ups of (baseline, candidate) pairs."""
    ratios = (log_speedup(baseline, candidate, name) for baseline, candidate in pairs)
    return [ratio for ratio in ratios if math.isfinite(ratio)]

"""Trade-offs: fronts, domination in joint draws, the knee and the three named picks (measurement.md 8). Pure numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from optimizer.specs import Measurement

Floats = np.ndarray[Any, np.dtype[np.float64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

CERTAIN = 0.95
FASTEST_COST_CAP = 2.0
KNEE_MIN_POINTS = 3


class Pick(StrEnum):
    """The named recommendations."""

    CHEAPEST = "cheapest"
    FASTEST = "fastest"
    BALANCED = "balanced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A trial that may be recommended. ``cost`` is $/1M, or machine-seconds per inference without prices; lower is better.

    Draws are joint over options (index d of every array is the same draw), shape [draws]; None: unbounded, not ranked.
    """

    trial: int
    cost: float
    latency_ms: float
    passes: bool = True
    cost_draws: Floats | None = None
    latency_draws: Floats | None = None


def front(costs: Floats) -> Bools:
    """Members of the Pareto front. ``costs`` is [points, objectives], lower is better; equal points stay together.

    A point with a missing (NaN) objective is never on the front.
    """
    known = np.all(np.isfinite(costs), axis=1)
    no_worse = np.all(costs[:, None, :] <= costs[None, :, :], axis=2)
    better = np.any(costs[:, None, :] < costs[None, :, :], axis=2)
    dominated = np.any(no_worse & better & known[:, None], axis=0)
    return np.asarray(known & ~dominated)


def dominance(draws: Floats, *, margin: float) -> Floats:
    """P(row dominates column): better by over the margin on an objective and no worse by over it on any.

    ``draws`` is [draws, options, objectives] of positive values, lower is better.
    """
    logs, step = np.log(draws), math.log1p(margin)
    gain = logs[:, None, :, :] - logs[:, :, None, :]
    beats = np.any(gain > step, axis=3) & np.all(gain >= -step, axis=3)
    return np.asarray(np.mean(beats, axis=0))


def p_nondominated(draws: Floats, *, margin: float) -> Floats:
    """For each option the share of draws in which no other option dominates it; shapes as in ``dominance``."""
    logs, step = np.log(draws), math.log1p(margin)
    gain = logs[:, None, :, :] - logs[:, :, None, :]
    beats = np.any(gain > step, axis=3) & np.all(gain >= -step, axis=3)
    return np.asarray(np.mean(~np.any(beats, axis=1), axis=0))


def survivors(draws: Floats, *, margin: float, certain: float = CERTAIN) -> Bools:
    """Options left after removing the certainly dominated; members of a cycle of domination stay."""
    dominates = dominance(draws, margin=margin) >= certain
    reaches = dominates.copy()
    for middle in range(len(reaches)):
        reaches |= reaches[:, [middle]] & reaches[[middle], :]
    in_cycle = np.diag(reaches)
    return np.asarray(~np.any(dominates, axis=0) | in_cycle)


def independent_draws(measurement: Measurement, *, draws: int, rng: np.random.Generator) -> Floats | None:
    """Log-normal draws whose 95% span is the measurement's interval, each half on its own; None when unbounded."""
    value, low, high = measurement.value, measurement.ci_low, measurement.ci_high
    if value is None or low is None or high is None or min(value, low) <= 0:
        return None
    normal = rng.standard_normal(draws) / 1.959963984540054
    return np.asarray(value * np.exp(np.where(normal < 0, normal * math.log(value / low), normal * math.log(high / value))))


def knee(points: Floats) -> tuple[int, float] | None:
    """Index and distance of the point farthest below the chord of the log-normalised front; None below three points.

    ``points`` is [points, 2], positive, lower is better, all on the front.
    """
    distances = _chord_distances(points)
    if distances is None:
        return None
    best = int(np.argmax(distances))
    return best, float(distances[best])


def named_picks(options: Sequence[Option]) -> dict[str, int]:
    """Cheapest, fastest (at most twice the cheapest's cost) and balanced trial among the options that pass everything."""
    passing = [one for one in options if one.passes and math.isfinite(one.cost) and math.isfinite(one.latency_ms)]
    if not passing:
        return {}
    cheapest = min(passing, key=lambda one: (one.cost, one.latency_ms, one.trial))
    affordable = [one for one in passing if one.cost <= FASTEST_COST_CAP * cheapest.cost]
    fastest = min(affordable, key=lambda one: (one.latency_ms, one.cost, one.trial))
    picks = {Pick.CHEAPEST.value: cheapest.trial, Pick.FASTEST.value: fastest.trial}
    balanced = _balanced(passing)
    return picks if balanced is None else {**picks, Pick.BALANCED.value: balanced}


def _balanced(options: Sequence[Option]) -> int | None:
    """The knee of the front, if the draws agree that it lies below the chord."""
    on_front = [one for one, keep in zip(options, front(_points(options)), strict=True) if keep]
    found = knee(_points(on_front))
    if found is None or found[1] <= 0:
        return None
    return on_front[found[0]].trial if _p_below_chord(on_front, found[0]) >= CERTAIN else None


def _points(options: Sequence[Option]) -> Floats:
    return np.array([[one.cost, one.latency_ms] for one in options], dtype=float)


def _p_below_chord(options: Sequence[Option], index: int) -> float:
    draws = [(one.cost_draws, one.latency_draws) for one in options]
    if any(cost is None or latency is None for cost, latency in draws):
        return 0.0
    joint = np.array(draws, dtype=float).transpose(2, 0, 1)
    ends = int(np.argmin(_points(options)[:, 0])), int(np.argmin(_points(options)[:, 1]))
    return float(np.mean([_distance(np.log(one), ends, index) > 0 for one in joint]))


def _chord_distances(points: Floats) -> Floats | None:
    if len(points) < KNEE_MIN_POINTS:
        return None
    logs = np.log(points)
    ends = int(np.argmin(logs[:, 0])), int(np.argmin(logs[:, 1]))
    return np.array([_distance(logs, ends, index) for index in range(len(points))])


def _distance(logs: Floats, ends: tuple[int, int], index: int) -> float:
    """Signed distance below the chord between the two ends, after scaling both axes to the chord's box; ends are 0."""
    first, last = logs[ends[0]], logs[ends[1]]
    span = last - first
    if span[0] == 0 or span[1] == 0:
        return 0.0
    x, y = (logs[index] - first) / span
    return float((y - x) / math.sqrt(2))

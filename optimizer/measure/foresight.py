"""What fidelity limits would say of more examples: a guess that chooses what to try next; only sealed examples prove anything."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from optimizer.measure.fidelity_rules import SHARES
from optimizer.measure.proportions import wilson
from optimizer.specs import Measurement

OPEN_ENDED_SHARE = 0.25
"""Of the room between a limit and perfection, what a value without an interval must keep clear."""
GROWTH_STEP = 1.02


def limits_missed(measurements: Iterable[Measurement], limits: Mapping[str, float], *, growth: float) -> tuple[str, ...]:
    """KPIs whose lower limit would not be proven on ``growth`` times as many examples that agree as well as these did."""
    found = {one.kpi: one for one in measurements}
    return tuple(name for name, limit in limits.items() if not _would_hold(found.get(name), limit, growth=max(1.0, growth)))


def _would_hold(measured: Measurement | None, limit: float, *, growth: float) -> bool:
    """For shares Wilson's lower limit at the grown numbers (never above that of no disagreement), else a distance that shrinks."""
    if measured is None or measured.value is None:
        return False
    value = measured.value
    if measured.kpi in SHARES:
        size, examples = (max(1, round(count * growth)) for count in (measured.n_eff or measured.n, measured.n))
        lows = wilson(value * size, size).low, wilson(examples, examples).low
        return all(low is not None and low >= limit for low in lows)
    if measured.ci_low is None:
        return value >= limit + OPEN_ENDED_SHARE * max(0.0, 1.0 - limit)
    return value - (value - measured.ci_low) / math.sqrt(growth) >= limit


def growth_needed(measurements: Sequence[Measurement], limits: Mapping[str, float], *, most: float) -> float | None:
    """The least growth, up to ``most``, at which every limit would be proven; None when even that many examples would not do."""
    if limits_missed(measurements, limits, growth=most):
        return None
    low, high = 1.0, max(1.0, most)
    if not limits_missed(measurements, limits, growth=low):
        return low
    while high / low > GROWTH_STEP:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if limits_missed(measurements, limits, growth=middle) else (low, middle)
    return high

"""What fidelity limits would say of more examples: a guess that chooses what to try next; only sealed examples prove anything."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from optimizer.measure.fidelity_rules import SHARES
from optimizer.measure.proportions import wilson
from optimizer.specs import Measurement

OPEN_ENDED_SHARE = 0.25
"""Of the room between a limit and perfection, what a value without an interval must keep clear."""
GROWTH_STEP = 1.02
CAUTION = 0.4
"""Error of the two-sided interval whose lower end is taken for the value where few examples may have been lucky ones."""
CAUTION_OF_HALF = 0.43
"""The same as a part of half a 95 % interval: the ratio of their normal quantiles, 0.84 / 1.96."""


def limits_missed(
    measurements: Iterable[Measurement], limits: Mapping[str, float], *, growth: float, is_cautious: bool = False
) -> tuple[str, ...]:
    """KPIs whose lower limit would not be proven on ``growth`` times as many examples that agree as well as these did.

    Cautious: that agree somewhat less well, as they would if these few had been lucky. Flawless agreement is taken as it is.
    """
    found = {one.kpi: _cautious(one) if is_cautious else one for one in measurements}
    return tuple(name for name, limit in limits.items() if not _would_hold(found.get(name), limit, growth=max(1.0, growth)))


def _cautious(measured: Measurement) -> Measurement:
    """The value replaced by the lower end of a narrow interval, in which it lies four times in five."""
    value = measured.value
    if value is None or value >= 1.0:
        return measured
    if measured.kpi in SHARES:
        size = measured.n_eff or measured.n
        return replace(measured, value=wilson(value * size, size, error=CAUTION).low)
    return measured if measured.ci_low is None else replace(measured, value=value - CAUTION_OF_HALF * (value - measured.ci_low))


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


def growth_needed(
    measurements: Sequence[Measurement], limits: Mapping[str, float], *, most: float, is_cautious: bool = False
) -> float | None:
    """The least growth, up to ``most``, at which every limit would be proven; None when even that many examples would not do."""

    def misses(growth: float) -> bool:
        return bool(limits_missed(measurements, limits, growth=growth, is_cautious=is_cautious))

    if misses(most):
        return None
    low, high = 1.0, max(1.0, most)
    if not misses(low):
        return low
    while high / low > GROWTH_STEP:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if misses(middle) else (low, middle)
    return high

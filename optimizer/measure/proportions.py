"""Proportions over examples: Wilson for one, Tango for a paired difference (measurement.md 9)."""

from __future__ import annotations

import math

from scipy import optimize, stats

from optimizer.errors import EngineFault
from optimizer.measure.estimate import Estimate


def _z(error: float) -> float:
    return float(stats.norm.ppf(1 - error / 2))


def wilson(successes: float, n: int, *, error: float = 0.05, n_eff: int | None = None) -> Estimate:
    """Share of successes with Wilson's score interval (Wilson 1927) on ``n_eff`` examples.

    Raises EngineFault ``statistics.no_samples``.
    """
    if n <= 0:
        raise EngineFault("statistics.no_samples", "A share needs at least one example.")
    size = n if n_eff is None else max(1, n_eff)
    share, z2 = successes / n, _z(error) ** 2
    centre = (share + z2 / (2 * size)) / (1 + z2 / size)
    half = math.sqrt(z2 * (share * (1 - share) / size + z2 / (4 * size**2))) / (1 + z2 / size)
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Estimate(value=share, low=low, high=high, n=n, n_eff=size, starts=0, error=error, method="wilson")


def examples_to_prove(limit: float, *, share: float = 1.0, error: float = 0.05) -> int:
    """Fewest examples with which Wilson's lower limit reaches ``limit`` when the observed share is ``share``.

    Raises EngineFault ``statistics.unreachable`` when the share does not lie above the limit.
    """
    if share <= limit or not 0 < limit < 1:
        raise EngineFault("statistics.unreachable", "No number of examples proves a limit that the share does not exceed.")
    low, high = 0, 1
    while not _wilson_lower(share, high, error) >= limit:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _wilson_lower(share, middle, error) >= limit else (middle, high)
    return high


def _wilson_lower(share: float, n: int, error: float) -> float:
    z2 = _z(error) ** 2
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n**2)))
    return (share + z2 / (2 * n) - half) / (1 + z2 / n)


def tango(gained: int, lost: int, n: int, *, error: float = 0.05) -> Estimate:
    """Paired difference of two proportions, (gained − lost)/n, with Tango's score interval (Tango 1998).

    ``gained`` examples are right only for the candidate, ``lost`` only for the baseline; zero discordant pairs are fine.
    """
    if n <= 0 or gained < 0 or lost < 0 or gained + lost > n:
        raise EngineFault("statistics.no_samples", "Discordant pairs must fit into the number of examples.")
    difference, z = (gained - lost) / n, _z(error)

    def score(delta: float, target: float) -> float:
        return _tango_score(delta, gained, lost, n) - target

    low = -1.0 if lost == n else float(optimize.brentq(score, -1 + 1e-12, difference, args=(z,), xtol=1e-12))
    high = 1.0 if gained == n else float(optimize.brentq(score, difference, 1 - 1e-12, args=(-z,), xtol=1e-12))
    return Estimate(value=difference, low=low, high=high, n=n, n_eff=n, starts=0, error=error, method="tango")


def _tango_score(delta: float, gained: int, lost: int, n: int) -> float:
    """Score statistic for the true difference ``delta``: decreasing in delta, zero at the observed difference."""
    excess = gained - lost - n * delta
    linear = -gained - lost + (2 * n - gained + lost) * delta
    constant = -lost * delta * (1 - delta)
    q = (math.sqrt(max(0.0, linear**2 - 8 * n * constant)) - linear) / (4 * n)
    variance = n * (2 * q + delta * (1 - delta))
    return 0.0 if excess == 0 else excess / math.sqrt(max(variance, 1e-300))

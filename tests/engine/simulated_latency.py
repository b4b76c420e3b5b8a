"""Simulated latency processes with known truth, for the coverage tests."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, signal, stats

SLOW_SHARE, SLOW_FACTOR = 0.02, 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """Log-normal calls of log sd ``sd``; starts shift them by log sd ``start_sd``; AR(1) correlation ``rho``; a slow mode of 2%."""

    sd: float = 0.2
    start_sd: float = 0.0
    rho: float = 0.0
    slow_mode: bool = False

    def draw(self, rng: np.random.Generator, *, starts: int, samples: int) -> np.ndarray:
        """Durations [starts, samples]."""
        noise = rng.standard_normal((starts, samples))
        if self.rho:
            noise[:, 1:] *= math.sqrt(1 - self.rho**2)
            noise = signal.lfilter([1.0], [1.0, -self.rho], noise, axis=1)
        logs = self.sd * noise + self.start_sd * rng.standard_normal((starts, 1))
        if self.slow_mode:
            logs += math.log(SLOW_FACTOR) * (rng.random((starts, samples)) < SLOW_SHARE)
        return np.exp(logs)

    def percentile(self, q: float) -> float:
        """The true percentile over all starts."""
        sd = math.hypot(self.sd, self.start_sd)
        share = SLOW_SHARE if self.slow_mode else 0.0

        def excess(log: float) -> float:
            fast = (1 - share) * stats.norm.cdf(log / sd)
            return float(fast + share * stats.norm.cdf((log - math.log(SLOW_FACTOR)) / sd) - q)

        return math.exp(optimize.brentq(excess, -3, 5, xtol=1e-12))


def binomial_bounds(share: float, runs: int, *, error: float = 1e-4) -> tuple[float, float]:
    """Shares that ``runs`` runs show with probability 1 − error when the true share is ``share``."""
    low, high = stats.binom.ppf([error / 2, 1 - error / 2], runs, share) / runs
    return float(low), float(high)


def assert_share_between(hits: int, runs: int, low: float, high: float) -> None:
    """``hits`` of ``runs`` is consistent with a true share in [low, high], up to binomial noise."""
    least, most = binomial_bounds(low, runs)[0], binomial_bounds(high, runs)[1]
    assert least <= hits / runs <= most, (
        f"{hits}/{runs} = {hits / runs:.3f} is outside [{low}, {high}] with tolerance [{least:.3f}, {most:.3f}]"
    )

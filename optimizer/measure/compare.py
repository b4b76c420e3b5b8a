"""Comparing two configurations: Hodges-Lehmann on paired log ratios, sequential looks, effects at a margin (measurement.md 6)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import stats

from optimizer.errors import EngineFault, InputError
from optimizer.specs import Effect, Measurement, Provenance

Floats = np.ndarray[Any, np.dtype[np.float64]]

LOOK_ERRORS = (0.025, 0.0125, 0.00625, 0.00625)
"""Two-sided error spent at each look; the sum is 0.05."""

TOTAL_ERROR = sum(LOOK_ERRORS)


def look_errors(looks: Sequence[int]) -> tuple[float, ...]:
    """The two-sided error of each look. Raises InputError ``looks.invalid``."""
    if not 1 <= len(looks) <= len(LOOK_ERRORS) or any(b <= a for a, b in pairwise(looks)) or looks[0] < 1:
        raise InputError("looks.invalid", f"Looks must be one to {len(LOOK_ERRORS)} rising numbers of blocks, such as 8, 16.")
    return LOOK_ERRORS[: len(looks)]


@cache
def _signed_rank_cdf(n: int) -> Floats:
    """P(T+ <= t) for t = 0 … n(n+1)/2 under symmetry: the exact distribution, built rank by rank."""
    probability = np.zeros(n * (n + 1) // 2 + 1)
    probability[0] = 1.0
    for rank in range(1, n + 1):
        probability[rank:] = (probability[rank:] + probability[:-rank]) / 2
        probability[:rank] /= 2
    return np.cumsum(probability)


def signed_rank_index(n: int, *, error: float) -> int | None:
    """i such that the i-th smallest and i-th largest Walsh averages bound the interval; None: ``n`` blocks cannot reach ``error``."""
    i = int(np.searchsorted(_signed_rank_cdf(n), error / 2, side="right"))
    return i if i >= 1 else None


def walsh_averages(values: Floats) -> Floats:
    """Sorted means of all pairs i <= j along the last axis: n(n+1)/2 of them."""
    first, second = np.triu_indices(values.shape[-1])
    return np.sort((values[..., first] + values[..., second]) / 2, axis=-1)


def signed_rank_interval(log_ratios: Floats, *, error: float) -> tuple[Floats, Floats, Floats]:
    """Hodges-Lehmann estimate and exact signed-rank interval along the last axis, all on the log scale.

    Shapes: [..., n] in, three times [...] out; an interval that ``n`` blocks cannot bound is (−inf, inf).
    """
    averages = walsh_averages(log_ratios)
    estimate = np.median(averages, axis=-1)
    index = signed_rank_index(log_ratios.shape[-1], error=error)
    if index is None:
        return estimate, np.full_like(estimate, -np.inf), np.full_like(estimate, np.inf)
    return estimate, averages[..., index - 1], averages[..., -index]


def effect_of(ci_low: float, ci_high: float, *, margin: float) -> Effect:
    """The word for an interval of a speed-up ratio: >1 is better."""
    if ci_low > 1 + margin:
        return Effect.FASTER
    if ci_high < 1 / (1 + margin):
        return Effect.SLOWER
    if ci_low >= 1 / (1 + margin) and ci_high <= 1 + margin:
        return Effect.EQUIVALENT
    return Effect.INCONCLUSIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedEffect:
    """A speed-up (>1 is better) with its interval at two-sided ``error``; open ends are 0 and inf."""

    estimate: float
    ci_low: float
    ci_high: float
    effect: Effect
    blocks: int
    error: float
    margin: float

    @property
    def not_slower(self) -> bool:
        """Proven not slower by over the margin: the guard on speed of measurement.md 7, step 4."""
        return self.ci_low > 1 / (1 + self.margin)

    def measurement(self, *, confidence: float = 1 - TOTAL_ERROR, samples_sha256: str = "") -> Measurement:
        """As the ``speedup_ratio`` Measurement. The confidence holds over all looks and finalists together."""
        return Measurement(
            kpi="speedup_ratio",
            value=self.estimate if math.isfinite(self.estimate) else None,
            unit="×",
            ci_low=self.ci_low if self.ci_low > 0 else None,
            ci_high=self.ci_high if math.isfinite(self.ci_high) else None,
            confidence=confidence,
            n=self.blocks,
            n_eff=self.blocks,
            starts=self.blocks,
            method=f"hodges_lehmann_signed_rank_error_{self.error:.6g}",
            provenance=Provenance.MEASURED,
            samples_sha256=samples_sha256,
        )


def paired_effect(log_ratios: Sequence[float], *, error: float = 0.05, margin: float = 0.03) -> PairedEffect:
    """Speed-up from one log ratio per block (above 0 is better). Without any block: no estimate, inconclusive."""
    ratios = np.asarray(log_ratios, dtype=float)
    if not np.all(np.isfinite(ratios)):
        raise EngineFault("compare.not_finite", "Log ratios of blocks must be finite; leave unfinished blocks out.")
    if ratios.size == 0:
        return _as_effect(math.nan, -math.inf, math.inf, blocks=0, error=error, margin=margin)
    estimate, low, high = signed_rank_interval(ratios, error=error)
    return _as_effect(float(estimate), float(low), float(high), blocks=ratios.size, error=error, margin=margin)


def welch_effect(baseline: Sequence[float], candidate: Sequence[float], *, error: float = 0.05, margin: float = 0.03) -> PairedEffect:
    """Different hosts: ratio baseline/candidate of positive start values with Welch's t interval on the logs.

    Values are times (lower is better); swap the arguments for a rate. Below two starts a side the interval is open.
    """
    before, after = np.log(np.asarray(baseline, dtype=float)), np.log(np.asarray(candidate, dtype=float))
    blocks = min(before.size, after.size)
    if blocks == 0 or not (np.all(np.isfinite(before)) and np.all(np.isfinite(after))):
        raise EngineFault("compare.not_positive", "Comparing hosts needs positive start values on both sides.")
    centre = float(np.mean(before) - np.mean(after))
    if blocks < 2:
        return _as_effect(centre, -math.inf, math.inf, blocks=blocks, error=error, margin=margin)
    parts = [float(np.var(side, ddof=1)) / side.size for side in (before, after)]
    half = _welch_half_width(parts, [before.size, after.size], error=error)
    return _as_effect(centre, centre - half, centre + half, blocks=blocks, error=error, margin=margin)


def _welch_half_width(variances: Sequence[float], sizes: Sequence[int], *, error: float) -> float:
    """Welch-Satterthwaite: ``variances`` are squared standard errors of the two means."""
    total = sum(variances)
    if total == 0:
        return 0.0
    freedom = total**2 / sum(part**2 / (size - 1) for part, size in zip(variances, sizes, strict=True))
    return float(stats.t.ppf(1 - error / 2, freedom)) * math.sqrt(total)


def _as_effect(estimate: float, low: float, high: float, *, blocks: int, error: float, margin: float) -> PairedEffect:
    ci_low, ci_high = math.exp(low), math.exp(high)
    return PairedEffect(
        estimate=math.exp(estimate),
        ci_low=ci_low,
        ci_high=ci_high,
        effect=effect_of(ci_low, ci_high, margin=margin),
        blocks=blocks,
        error=error,
        margin=margin,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look says; ``decided`` also when it was the last one."""

    number: int
    effect: PairedEffect
    decided: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialRace:
    """The schedule of looks of one finalist; the error is shared between ``finalists`` (Bonferroni)."""

    looks: tuple[int, ...]
    finalists: int = 1
    margin: float = 0.03

    def __post_init__(self) -> None:
        look_errors(self.looks)
        if self.finalists < 1:
            raise InputError("finalists.invalid", "A race needs at least one finalist.")

    def error_at(self, look: int) -> float:
        """Two-sided error of the ``look``-th look, counted from 1."""
        return look_errors(self.looks)[look - 1] / self.finalists

    def after(self, log_ratios: Sequence[float]) -> Look | None:
        """Judge after a block; None between looks: no verdict is taken there."""
        blocks = len(log_ratios)
        if blocks not in self.looks:
            return None
        number = self.looks.index(blocks) + 1
        effect = paired_effect(log_ratios, error=self.error_at(number), margin=self.margin)
        return Look(number=number, effect=effect, decided=effect.effect is not Effect.INCONCLUSIVE or number == len(self.looks))

"""The race bucket by bucket: a mix may gain while one shape of the traffic loses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optimizer.measure.compare import PairedEffect, paired_effect
from optimizer.search.actions import Arm
from optimizer.search.race import Race
from optimizer.specs import Json, SearchSpec, ShapeDuel, TrafficShare
from optimizer.units import ms_from_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketEffect:
    """Median latency of one shape against the original's, paired block by block."""

    share: TrafficShare
    effect: PairedEffect


def bucket_effects(trial: int, *, race: Race, spec: SearchSpec) -> list[BucketEffect]:
    """One effect per bucket, in the order of the traffic; blocks in which either arm saw no call of that shape do not count.

    The buckets share the race's error: any of them may be called slower by chance (measurement.md 6).
    """
    found = []
    for index, share in enumerate(spec.traffic):
        pairs = [(_median_ns(before, index), _median_ns(after, index)) for before, after in race.pairs(trial)]
        ratios = [math.log(before / after) for before, after in pairs if before > 0 and after > 0]
        found.append(BucketEffect(share=share, effect=paired_effect(ratios, error=race.error / len(spec.traffic), margin=spec.margin)))
    return found


def shape_duels(trial: int | None, *, race: Race | None, spec: SearchSpec) -> tuple[ShapeDuel, ...]:
    """For the outcome: every shape of the traffic that the trial's race saw."""
    if race is None or trial is None or trial not in race.standoffs:
        return ()
    return tuple(
        ShapeDuel(
            trial=trial,
            bindings=dict(one.share.bindings),
            share=share,
            speedup=one.effect.measurement(),
            effect=one.effect.effect,
        )
        for one, share in zip(bucket_effects(trial, race=race, spec=spec), spec.shares, strict=True)
        if one.effect.blocks
    )


def told_buckets(trial: int, arms: Sequence[Arm], *, race: Race | None, spec: SearchSpec) -> list[Json]:
    """For the report: median latency of each bucket, and its speed-up where the trial was raced."""
    effects = bucket_effects(trial, race=race, spec=spec) if race and trial in race.finalists else []
    rows: list[Json] = []
    for index, share in enumerate(spec.traffic):
        medians = [one for arm in arms if (one := _median_ns(arm, index)) > 0]
        row: dict[str, Json] = {"bindings": dict(share.bindings), "weight": share.weight, "latency_p50_ms": _ms(medians)}
        if effects and effects[index].effect.blocks:
            row |= _told(effects[index].effect)
        rows.append(row)
    return rows


def _told(effect: PairedEffect) -> dict[str, Json]:
    high = effect.ci_high if math.isfinite(effect.ci_high) else None
    return {"speedup": effect.estimate, "ci_low": effect.ci_low or None, "ci_high": high, "effect": effect.effect.value}


def _ms(medians: Sequence[float]) -> float | None:
    return ms_from_ns(float(np.median(medians))) if medians else None


def _median_ns(arm: Arm, bucket: int) -> float:
    """Median latency of a start's calls of one bucket; 0 without any."""
    own = arm.latencies_ns[arm.buckets == bucket] if arm.buckets is not None else np.zeros(0)
    return float(np.median(own)) if len(own) else 0.0

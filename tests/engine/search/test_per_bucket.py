"""The shapes of a mix are tested together: they share the race's error."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.search.actions import Arm, Raced
from optimizer.search.per_bucket import bucket_effects, shape_duels
from optimizer.search.race import Race
from optimizer.specs import Effect, SearchSpec, TrafficShare

BLOCKS = 8


def mixed_arm(medians_ns: list[float]) -> Arm:
    """Ten calls of each bucket, each of its bucket's time."""
    buckets = np.tile(np.arange(len(medians_ns)), 10)
    durations = np.array(medians_ns)[buckets].round().astype(np.int64)
    ends = np.cumsum(durations)
    return Arm(rows_ns=np.stack([ends - durations, ends], axis=1), buckets=buckets)


def raced(spec: SearchSpec, *, slower_by: float) -> Race:
    """One finalist, a little slower in every shape and every block; the smallest effect over 8 blocks has an error of 2/256."""
    race = Race(finalists=(1,), looks=(BLOCKS,), margin=spec.margin, objective="latency_mean_ms", seed=1)
    for index in range(BLOCKS):
        race.ask(left_s=1e9, block_s=1.0)
        slow = slower_by + index / 1000
        arms = {0: mixed_arm([1e6] * len(spec.traffic)), 1: mixed_arm([1e6 * slow] * len(spec.traffic))}
        race.tell(Raced(index=index, seconds=1.0, arms=arms))
    return race


@pytest.mark.parametrize(("shapes", "effect"), [(1, Effect.SLOWER), (2, Effect.SLOWER), (12, Effect.INCONCLUSIVE)])
def test_a_shape_among_many_needs_more_to_be_called_slower(shapes: int, effect: Effect) -> None:
    spec = SearchSpec(traffic=tuple(TrafficShare(bindings={"s": size + 1}) for size in range(shapes)))
    race = raced(spec, slower_by=1.05)
    effects = bucket_effects(1, race=race, spec=spec)
    assert {one.effect.error for one in effects} == {race.error / shapes}
    assert {one.effect.effect for one in effects} == {effect}


def test_a_shape_s_share_of_the_calls_is_told() -> None:
    spec = SearchSpec(traffic=(TrafficShare(bindings={"s": 1}, weight=3), TrafficShare(bindings={"s": 2}, weight=1)))
    assert spec.shares == (0.75, 0.25)
    assert [one.share for one in shape_duels(1, race=raced(spec, slower_by=1.05), spec=spec)] == [0.75, 0.25]
    assert SearchSpec().shares == ()

"""The A/A benchmark's own logic, on simulated starts."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from tests.benchmarks.bench_trust import arguments, excludes_one, run_pair, run_pairs, sentence, tally
from tests.engine.simulated_latency import assert_share_between


def test_honest_pairs_exclude_one_in_two_of_sixty_four() -> None:
    rng = np.random.default_rng(1)
    excluding = sum(excludes_one(np.exp(0.02 * rng.standard_normal((6, 2)))) for _ in range(2_000))
    assert_share_between(excluding, 2_000, 2 / 64, 2 / 64)


def test_pairs_that_reuse_their_processes_are_found_out() -> None:
    rng = np.random.default_rng(2)
    results = [np.exp(0.02 * rng.standard_normal((1, 2)) + 0.004 * rng.standard_normal((6, 2))) for _ in range(200)]
    found = tally(results, seconds=1.0)
    assert found.share > 0.30
    assert not found.trusted
    assert "do not trust" in sentence(found)


def test_ten_of_two_hundred_is_consistent_with_five_percent_and_thirty_is_not() -> None:
    even, apart = np.ones((6, 2)) * 1e5, np.tile([1e5, 2e5], (6, 1))
    assert tally([apart] * 10 + [even] * 190, seconds=1.0).trusted
    assert not tally([apart] * 30 + [even] * 170, seconds=1.0).trusted


def test_each_arm_is_a_start_of_its_own_and_order_turns_over_within_block_pairs() -> None:
    ticket = itertools.count()
    medians = run_pair(lambda _seed: float(next(ticket)), blocks=6, rng=random.Random(3))
    assert sorted(medians.ravel()) == list(range(12))
    firsts = [int(np.argmin(block)) for block in medians]
    assert all(firsts[i] != firsts[i + 1] for i in (0, 2, 4))


def test_both_arms_of_a_block_share_the_seed() -> None:
    seeds: list[int] = []
    run_pair(lambda seed: float(seeds.append(seed) or 1.0), blocks=6, rng=random.Random(4))
    assert seeds[0::2] == seeds[1::2]
    assert len(set(seeds)) == 6


def test_the_time_limit_ends_the_pairs() -> None:
    assert list(run_pairs(lambda _seed: 1.0, pairs=5, blocks=6, seed=1, until=0.0)) == []


def test_too_few_blocks_for_an_interval_are_refused() -> None:
    with pytest.raises(SystemExit):
        arguments(["--blocks-per-pair", "5"])

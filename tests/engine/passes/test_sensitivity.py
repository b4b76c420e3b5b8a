"""Which layers break the fidelity: planted contributions are found again, with fewer runs than layers."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.passes.sensitivity import contributions, fewest, half_subsets, keep_order


def test_every_part_is_reduced_in_exactly_half_of_the_runs() -> None:
    reduced = half_subsets(7, pairs=5, seed=3)
    assert reduced.shape == (10, 7)
    assert (reduced.sum(axis=0) == 5).all()
    assert (half_subsets(7, pairs=5, seed=3) == reduced).all()


def test_planted_noise_is_found_with_fewer_runs_than_parts() -> None:
    planted = np.full(60, 1e-6)
    planted[[4, 17, 40]] = [3e-3, 1e-3, 2e-3]
    reduced = half_subsets(60, pairs=16, seed=1)
    seen = reduced @ planted * np.exp(np.random.default_rng(2).normal(scale=0.05, size=len(reduced)))
    found = contributions(reduced, list(seen))
    assert set(np.argsort(-found)[:3]) == {4, 40, 17}
    assert found[4] > found[17]
    assert (found >= 0).all()


def test_unusable_runs_are_left_out_and_silence_is_shared_equally() -> None:
    reduced = half_subsets(4, pairs=4, seed=1)
    planted = np.array([0.0, 1.0, 0.0, 0.0])
    seen = list(reduced @ planted)
    spoiled = [np.inf, *seen[1:]]
    assert int(np.argmax(contributions(reduced, spoiled))) == 1
    assert contributions(reduced, [0.0] * 8).tolist() == [0.25] * 4


def test_noise_per_time_given_up_decides_the_order() -> None:
    noise = np.array([1.0, 4.0, 1.0, 0.0])
    saved_us = np.array([10.0, 100.0, 2.0, 50.0])
    assert keep_order(noise, saved_us) == [2, 0, 1, 3]


def test_a_layer_that_saves_nothing_is_kept_first_if_it_makes_any_noise() -> None:
    assert keep_order(np.array([1.0, 0.1]), np.array([100.0, 0.0]))[0] == 1


@pytest.mark.parametrize("threshold", [0, 1, 5, 16])
def test_bisection_finds_the_threshold_in_few_questions(threshold: int) -> None:
    asked: list[int] = []

    def holds(count: int) -> bool:
        asked.append(count)
        return count >= threshold

    assert fewest(holds, 16) == threshold
    assert len(asked) <= 6


def test_out_of_time_the_best_known_count_stands() -> None:
    left = iter([True, True, False])
    assert fewest(lambda count: count >= 3, 64, may_ask=lambda: next(left)) == 15


def test_nothing_holds_when_all_is_not_enough() -> None:
    assert fewest(lambda _: False, 9) is None

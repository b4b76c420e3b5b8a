"""The noise that tells layers apart: typical over examples, and infinite for outputs that are unusable."""

from __future__ import annotations

import math

import numpy as np
import pytest

from optimizer.pipeline.evaluating import noise_power

EXACT = [[np.full((1, 4), 2.0, np.float32)]] * 9


def shifted(by: list[float]) -> list[list[np.ndarray]]:
    return [[one[0] + np.float32(shift)] for one, shift in zip(EXACT, by, strict=True)]


def test_an_example_in_which_a_decision_flips_does_not_carry_the_noise() -> None:
    assert noise_power(zip(EXACT, shifted([0.2] * 9), strict=True)) == pytest.approx(0.01)
    assert noise_power(zip(EXACT, shifted([0.2] * 7 + [50.0, 60.0]), strict=True)) == pytest.approx(0.01)


def test_float_outputs_add_up_and_whole_numbers_do_not_count() -> None:
    ours = [[one[0], one[0], np.array([1, 2])] for one in EXACT]
    theirs = [[one[0], one[0], np.array([3, 4])] for one in shifted([0.2] * 9)]
    assert noise_power(zip(ours, theirs, strict=True)) == pytest.approx(0.02)


@pytest.mark.parametrize("broken", [np.full((1, 4), np.nan, np.float32), np.zeros((1, 3), np.float32)])
def test_one_unusable_example_is_enough(broken: np.ndarray) -> None:
    theirs = [*shifted([0.2] * 8 + [0.2])[:8], [broken]]
    assert math.isinf(noise_power(zip(EXACT, theirs, strict=True)))

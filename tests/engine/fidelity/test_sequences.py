"""Fidelity of decoded strings: characters gate, whole strings and steps are shown beside them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.measure.fidelity import FidelityResult, compare_outputs, examples_needed
from optimizer.measure.fidelity_numbers import clustered_share
from optimizer.measure.fidelity_tallies import edit_distance
from optimizer.specs import KpiTarget, Measurement, TaskKind, Verdict

Array = np.ndarray[Any, Any]
Outputs = list[list[Array]]
ENOUGH = 400
CHARACTERS, EXACT, STEPS = (f"fidelity_{name}_fraction" for name in ("character_agreement", "sequence_exact", "step_agreement"))


def found(result: FidelityResult, name: str) -> Measurement:
    return next(one for one in result.measurements if one.kpi == name)


def paths(strings: list[list[int]], *, width: int = 8) -> Outputs:
    """Scores [1, steps, classes] whose top classes are these."""
    return [[np.eye(width, dtype=np.float32)[classes][None]] for classes in strings]


def lines(*, n: int = ENOUGH, length: int = 50) -> list[list[int]]:
    """Lines of characters without repeats or blanks, so that every step is one character."""
    rng = np.random.default_rng(5)
    return [[1 + int(place % 2) * 3 + int(one) for place, one in enumerate(rng.integers(0, 3, length))] for _ in range(n)]


def with_errors(wanted: list[list[int]], *, every: int, per_line: int = 1) -> list[list[int]]:
    """Every so many lines, the first characters replaced by one that occurs nowhere else."""
    return [[7 if place < per_line else one for place, one in enumerate(line)] if i % every == 0 else line for i, line in enumerate(wanted)]


def compared(ours: list[list[int]], theirs: list[list[int]], *targets: KpiTarget) -> FidelityResult:
    return compare_outputs(TaskKind.SEQUENCE, paths(ours), paths(theirs), targets=targets)


@pytest.mark.parametrize(("n", "verdict", "needed"), [(380, Verdict.UNPROVEN, 381), (381, Verdict.PASS, None)])
def test_characters_without_any_change_need_381_examples(n: int, verdict: Verdict, needed: int | None) -> None:
    result = compared(lines(n=n), lines(n=n))
    assert (result.verdict, result.needed) == (verdict, needed)
    assert result.limits == {CHARACTERS: 0.99}
    assert examples_needed(TaskKind.SEQUENCE) == 381
    assert verdict is Verdict.PASS or "needs at least 381 sealed inputs" in result.reason


def test_one_wrong_character_in_some_long_lines_passes_though_those_lines_are_not_equal() -> None:
    wanted = lines(n=800)
    result = compared(wanted, with_errors(wanted, every=20))
    assert found(result, CHARACTERS).value == pytest.approx(0.999)
    assert found(result, EXACT).value == 0.95
    assert result.verdict is Verdict.PASS


def test_many_wrong_characters_fail() -> None:
    wanted = lines()
    result = compared(wanted, with_errors(wanted, every=5, per_line=25))
    assert found(result, CHARACTERS).value == pytest.approx(0.9)
    assert result.verdict is Verdict.FAIL


@pytest.mark.parametrize("name", [EXACT, STEPS])
def test_whole_strings_and_steps_gate_only_when_the_user_asks(name: str) -> None:
    wanted = lines(n=800)
    broken = with_errors(wanted, every=5, per_line=1)
    assert name not in compared(wanted, broken).limits
    result = compared(wanted, broken, KpiTarget(kpi=name, value=0.999))
    assert result.limits[name] == 0.999
    assert result.verdict is not Verdict.PASS


def test_steps_that_flip_beside_a_character_leave_the_text_alone() -> None:
    result = compared([[1, 1, 0, 2, 0, 3]] * ENOUGH, [[0, 1, 0, 2, 3, 3]] * ENOUGH)
    assert found(result, STEPS).value == pytest.approx(4 / 6)
    assert (found(result, CHARACTERS).value, found(result, EXACT).value) == (1.0, 1.0)
    assert result.verdict is Verdict.PASS


def test_more_edits_than_characters_count_as_no_agreement() -> None:
    result = compared([[1, 0, 0, 0, 0, 0]] * ENOUGH, [[2, 3, 4, 5, 6, 7]] * ENOUGH)
    agreement = found(result, CHARACTERS)
    assert (agreement.value, agreement.ci_low) == (0.0, 0.0)
    assert agreement.ci_high is not None
    assert agreement.ci_high < 0.05
    assert result.verdict is Verdict.FAIL


def test_invented_characters_on_empty_lines_count() -> None:
    wanted = [[1, 2, 3, 4] if index % 2 else [0, 0, 0, 0] for index in range(ENOUGH)]
    invented = [line if any(line) else [5, 0, 0, 0] for line in wanted]
    assert found(compared(wanted, invented), CHARACTERS).value == pytest.approx(0.75)


def test_inputs_without_any_text_prove_nothing() -> None:
    empty = [[0, 0, 0]] * ENOUGH
    result = compared(empty, empty)
    assert result.verdict is Verdict.UNPROVEN
    assert "no character agreement" in result.reason


def test_only_examples_with_text_are_evidence() -> None:
    wanted = [[1, 2, 3] if index % 4 == 0 else [0, 0, 0] for index in range(ENOUGH)]
    result = compared(wanted, wanted)
    assert (found(result, CHARACTERS).n, found(result, CHARACTERS).n_eff) == (ENOUGH, ENOUGH // 4)
    assert (result.verdict, result.needed) == (Verdict.UNPROVEN, 4 * 381)


def test_parts_of_one_example_are_not_independent() -> None:
    for name in (CHARACTERS, STEPS):
        one = found(compared(lines(n=20), lines(n=20)), name)
        assert (one.n, one.n_eff) == (20, 20)


@pytest.mark.parametrize("wrong", [1, 2, 5])
def test_a_wrong_part_never_proves_more_than_none(wrong: int) -> None:
    clean, broken = clustered_share([50] * 100, [50] * 100), clustered_share([50 - wrong, *[50] * 99], [50] * 100)
    assert clean.low is not None
    assert broken.low is not None
    assert broken.low <= clean.low


def test_errors_that_gather_in_few_examples_widen_the_interval() -> None:
    """Fifty wrong parts of five thousand: one in every other example, or all in one long example."""
    spread = clustered_share([49, 50] * 50, [50] * 100)
    gathered = clustered_share([450, *[50] * 90], [500, *[50] * 90])
    assert spread.value == gathered.value
    assert gathered.n_eff < spread.n_eff
    assert (gathered.low or 0) < (spread.low or 0)


def test_single_errors_in_many_lines_are_worth_more_than_their_lines() -> None:
    """Eight of a hundred lines with one wrong character of fourteen: the lines vary little, and enough of them show how little."""
    many = clustered_share([13 if index % 12 == 0 else 14 for index in range(500)], [14] * 500)
    assert many.n_eff > 5 * 500
    assert many.low is not None
    assert 0.9900 < many.low < many.value < 0.9945
    few = clustered_share([13 if index % 250 == 0 else 14 for index in range(500)], [14] * 500)
    assert few.low is not None
    clean = clustered_share([14] * 500, [14] * 500)
    assert many.low <= few.low <= (clean.low or 0)


def test_few_lines_are_asked_to_be_at_least_as_many_as_flawless_ones_would_need() -> None:
    wanted = lines(n=200)
    result = compared(wanted, with_errors(wanted, every=10))
    assert (result.verdict, result.needed) == (Verdict.UNPROVEN, 381)


@pytest.mark.parametrize(("broken", "whole"), [(0.1, 0.0), (0.2, 0.0), (0.1, 0.1), (0.05, 0.1)])
def test_the_lower_limit_covers_the_true_share(broken: float, whole: float) -> None:
    """Lines of 28 characters; a ``broken`` share of them has one error, of which a ``whole`` share loses every character."""
    rng = np.random.default_rng(3)
    size, examples, runs = 28, 500, 600
    true = 1 - broken * (whole * size + 1 - whole) / size
    missed = 0
    for _ in range(runs):
        lost = np.where(rng.random(examples) < whole, size, 1) * (rng.random(examples) < broken)
        low = clustered_share((size - lost).tolist(), [size] * examples).low
        missed += low is not None and low > true
    assert missed / runs < 0.05


@given(st.lists(st.integers(1, 3), max_size=7), st.lists(st.integers(1, 3), max_size=7))
def test_the_edit_distance_is_that_of_its_definition(first: list[int], second: list[int]) -> None:
    @cache
    def defined(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        replaced = defined(i - 1, j - 1) + (first[i - 1] != second[j - 1])
        return min(replaced, defined(i - 1, j) + 1, defined(i, j - 1) + 1)

    assert edit_distance(first, second) == defined(len(first), len(second))

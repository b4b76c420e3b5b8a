"""The three-window gate and the classes of a start (measurement.md 5)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.measure.steady import ThreeWindowGate, WarmupClass, class_of_starts, validity_of_starts
from optimizer.specs import Validity

MS = 1_000_000


def gate_after(durations: list[int]) -> ThreeWindowGate:
    gate = ThreeWindowGate(window_ns=10 * MS, min_calls=5)
    for duration in durations:
        gate.add(duration)
    return gate


def test_equal_calls_open_the_gate_with_the_third_window() -> None:
    gate = ThreeWindowGate(window_ns=10 * MS, min_calls=5)
    opened = [gate.add(2 * MS) for _ in range(15)]
    assert opened == [False] * 14 + [True]
    assert gate.warmup_class is WarmupClass.FLAT


def test_a_window_holds_enough_work_and_enough_calls() -> None:
    assert [window.calls for window in gate_after([MS] * 20).windows] == [10, 10]
    assert [window.calls for window in gate_after([50 * MS] * 10).windows] == [5, 5]


@pytest.mark.parametrize(("factor", "steady"), [(1.05, True), (1.25, False)])
def test_windows_must_agree_within_ten_percent(factor: float, steady: bool) -> None:
    assert gate_after([2 * MS] * 10 + [int(2 * MS * factor)] * 5).steady is steady


def test_a_rare_long_call_breaks_agreement_in_throughput_though_the_median_stands_still() -> None:
    gate = gate_after([2 * MS] * 14 + [8 * MS])
    assert not gate.steady
    assert gate.windows[-1].median_ns == 2 * MS


def test_a_shifted_median_breaks_agreement_though_throughput_stands_still() -> None:
    assert not gate_after([2 * MS] * 10 + [MS, MS, MS, MS, 6 * MS]).steady


def test_a_slow_beginning_is_warm_up_and_a_fast_one_slowdown() -> None:
    assert gate_after([8 * MS] * 5 + [2 * MS] * 15).warmup_class is WarmupClass.WARMUP
    assert gate_after([2 * MS] * 5 + [3 * MS] * 15).warmup_class is WarmupClass.SLOWDOWN


@pytest.mark.parametrize(
    "durations",
    [[], [2 * MS] * 14, [(2 + index) * MS for index in range(40)], ([2 * MS] * 5 + [4 * MS] * 5) * 6],
    ids=["none", "short", "ramp", "oscillation"],
)
def test_what_never_agrees_has_no_steady_state(durations: list[int]) -> None:
    assert gate_after(durations).warmup_class is WarmupClass.NO_STEADY_STATE


@given(st.lists(st.integers(1, 100 * MS), max_size=200))
def test_the_gate_stays_open_only_while_the_last_three_agree(durations: list[int]) -> None:
    gate = ThreeWindowGate(window_ns=5 * MS, min_calls=2)
    for duration in durations:
        answer = gate.add(duration)
        assert answer is gate.steady
        if answer:
            rates = [one.throughput_per_s for one in gate.windows[-3:]]
            assert max(rates) <= 1.10 * sum(rates) / 3 * (1 + 1e-9)


def test_starts_of_one_class_share_it_and_others_are_inconsistent() -> None:
    assert class_of_starts([WarmupClass.FLAT] * 3) is WarmupClass.FLAT
    assert class_of_starts([WarmupClass.FLAT, WarmupClass.WARMUP]) is WarmupClass.INCONSISTENT


@pytest.mark.parametrize(
    ("unsteady", "starts", "validity"),
    [(0, 4, Validity.VALID), (1, 4, Validity.VALID_WITH_WARNINGS), (2, 4, Validity.VALID_WITH_WARNINGS), (3, 4, Validity.INVALID)],
)
def test_over_half_unsteady_starts_make_a_result_invalid(unsteady: int, starts: int, validity: Validity) -> None:
    classes = [WarmupClass.NO_STEADY_STATE] * unsteady + [WarmupClass.FLAT] * (starts - unsteady)
    got, reasons = validity_of_starts(classes)
    assert got is validity
    assert bool(reasons) is bool(unsteady)

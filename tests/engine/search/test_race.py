"""The race alone: looks, shared error, reruns, time, order."""

from __future__ import annotations

import math

import numpy as np
import pytest

from optimizer.search.actions import Arm, Fidelity, Raced
from optimizer.search.appraise import appraise
from optimizer.search.race import Race, RaceEnd
from optimizer.specs import Effect, SearchSpec, Verdict

AMPLE = 1e9


def arm(median_ns: float) -> Arm:
    durations = np.full(40, round(median_ns), dtype=np.int64)
    issued = np.concatenate([[0], np.cumsum(durations)[:-1]])
    return Arm(rows_ns=np.stack([issued, issued + durations], axis=1), load_ns=10**8, first_ns=10**6, memory_peak_bytes=10**8)


def race(
    finalists: tuple[int, ...] = (1,), *, looks: tuple[int, ...] = (8, 16), objective: str = "latency_p50_ms", **settings: object
) -> Race:
    return Race(finalists=finalists, looks=looks, margin=0.03, objective=objective, seed=1, **settings)  # type: ignore[arg-type]


def run(
    contest: Race, speedups: dict[int, list[float]], *, invalid: frozenset[int] = frozenset(), left_s: float = AMPLE, block_s: float = 1.0
) -> int:
    """Play the race out; speed-ups are taken in turn. Returns the number of blocks that ran."""
    number = 0
    while (block := contest.ask(left_s=left_s, block_s=block_s)) is not None:
        arms = {trial: arm(1e7 / (speedups[trial][number % len(speedups[trial])] if trial else 1.0)) for trial in block.order}
        seconds = block_s * len(arms) / (1 + len(contest.finalists))
        contest.tell(Raced(index=block.index, seconds=seconds, arms=arms, valid=number not in invalid, reasons=("steal_fraction 1",)))
        number += 1
        left_s -= seconds
    return number


def test_a_clear_effect_is_decided_at_the_first_look() -> None:
    contest = race()
    assert run(contest, {1: [2.0]}) == 8
    assert contest.end is RaceEnd.DECIDED
    assert contest.standoffs[1].effect.effect is Effect.FASTER


def test_an_open_effect_goes_on_to_the_last_look_and_stops_there() -> None:
    contest = race()
    assert run(contest, {1: [0.9, 1.2]}) == 16
    assert contest.end is RaceEnd.LOOKS_USED
    assert not contest.standoffs[1].decided


def test_the_error_is_shared_between_the_finalists() -> None:
    alone, shared = race((1,)), race((1, 2))
    assert shared.error == pytest.approx(alone.error / 2)
    assert alone.error == 0.025


def test_a_host_that_was_busy_at_first_is_not_waited_for() -> None:
    contest = race()
    assert run(contest, {1: [2.0]}, invalid=frozenset(range(5))) == 8
    assert (contest.disturbed, contest.standoffs[1].look, contest.end) == (5, 1, RaceEnd.DECIDED)


def test_up_to_half_of_the_blocks_may_be_run_again() -> None:
    contest = race()
    assert run(contest, {1: [1.05]}, invalid=frozenset(range(4))) == 12
    assert (contest.disturbed, len(contest.invalid), contest.standoffs[1].blocks) == (0, 4, 8)
    assert contest.standoffs[1].beats_baseline


def test_time_ends_a_race_that_is_not_decided() -> None:
    contest = race()
    assert run(contest, {1: [0.9, 1.2]}, left_s=12.0) == 8
    assert contest.end is RaceEnd.TIME


def test_a_first_look_that_clearly_does_not_fit_is_not_begun() -> None:
    contest = race()
    assert run(contest, {1: [2.0]}, left_s=4.0) == 0
    assert contest.end is RaceEnd.TIME


def test_when_disturbed_blocks_have_eaten_the_time_the_leader_races_alone() -> None:
    contest = race((1, 2))
    assert run(contest, {1: [2.0], 2: [1.9]}, invalid=frozenset({0, 1}), left_s=9.0) == 10
    assert contest.lost[2].code == "race.withdrawn"
    assert (contest.standoffs[1].blocks, contest.end) == (8, RaceEnd.DECIDED)
    assert 2 not in contest.standoffs


def test_nobody_withdraws_while_the_first_look_of_all_fits() -> None:
    contest = race((1, 2))
    run(contest, {1: [2.0], 2: [1.9]}, invalid=frozenset({0}), left_s=9.0)
    assert not contest.lost
    assert set(contest.standoffs) == {1, 2}


def test_a_winner_with_an_open_target_goes_on_to_the_next_look() -> None:
    contest = race(wants_more=lambda _trial: True)
    assert run(contest, {1: [2.0]}) == 16


def test_a_second_finalist_that_cannot_win_any_more_does_not_prolong_the_race() -> None:
    contest = race((1, 2))
    assert run(contest, {1: [3.0], 2: [0.9, 1.2]}) == 8


def test_every_block_holds_the_baseline_and_orders_are_reversed_in_pairs() -> None:
    contest = race((1, 2))
    orders = []
    for _ in range(6):
        block = contest.ask(left_s=AMPLE, block_s=1)
        assert block is not None
        assert set(block.order) == {0, 1, 2}
        orders.append(block.order)
        contest.tell(Raced(index=block.index, seconds=1, arms={trial: arm(1e7) for trial in block.order}))
    assert orders[1::2] == [tuple(reversed(order)) for order in orders[::2]]
    assert len(set(orders[::2])) > 1


def test_a_smaller_model_wins_on_size_only_if_it_is_not_slower() -> None:
    sizes = {0: 1000, 1: 300}
    kept, lost = (race(objective="model_size_bytes", sizes=sizes) for _ in range(2))
    run(kept, {1: [1.0]})
    run(lost, {1: [0.8]})
    assert kept.standoffs[1].beats_baseline
    assert lost.standoffs[1].guard_holds is False
    assert not lost.standoffs[1].beats_baseline


def test_cost_is_decided_by_throughput() -> None:
    contest = race(objective="cost_usd_per_million_inferences")
    run(contest, {1: [2.0]})
    assert contest.standoffs[1].effect.estimate == pytest.approx(2.0, rel=1e-3)


@pytest.mark.parametrize(("sealed", "wins"), [(Verdict.PASS, True), (Verdict.UNPROVEN, False), (Verdict.FAIL, False), (None, False)])
def test_no_finalist_wins_without_a_passed_sealed_check(sealed: Verdict | None, wins: bool) -> None:
    contest = race()
    run(contest, {1: [2.0]})
    checked = None if sealed is None else Fidelity(verdict=sealed)
    assert appraise(1, race=contest, spec=SearchSpec(), sealed=checked, size_bytes=1).wins is wins


def test_on_a_host_that_is_never_quiet_every_block_counts_and_a_clear_lead_wins() -> None:
    contest = race()
    assert run(contest, {1: [2.0, 1.2, 3.0]}, invalid=frozenset(range(40))) == 8
    assert (contest.end, contest.disturbed, len(contest.blocks), contest.invalid) == (RaceEnd.DECIDED, 8, 8, [])
    assert contest.standoffs[1].blocks == 8
    assert contest.standoffs[1].beats_baseline


def test_a_lead_that_a_busy_host_might_make_stays_open() -> None:
    contest = race()
    assert run(contest, {1: [1.07]}, invalid=frozenset(range(40))) == 16
    assert contest.standoffs[1].effect.effect is Effect.FASTER
    assert not contest.standoffs[1].decided
    assert not contest.standoffs[1].beats_baseline
    assert (contest.end, contest.disturbed) == (RaceEnd.LOOKS_USED, 16)


def test_quiet_blocks_alone_decide_where_there_are_enough() -> None:
    contest = race()
    run(contest, {1: [1.07]}, invalid=frozenset(range(3)))
    assert (contest.disturbed, contest.standoffs[1].blocks) == (0, 8)
    assert contest.standoffs[1].beats_baseline


def test_too_few_blocks_for_a_look_decide_nothing_however_the_host_was() -> None:
    contest = race()
    assert run(contest, {1: [2.0]}, invalid=frozenset(range(40)), left_s=7.0) == 7
    assert (contest.end, contest.disturbed, contest.standoffs) == (RaceEnd.TIME, 0, {})


def test_when_the_time_ends_all_blocks_count_at_an_error_that_no_look_has_spent() -> None:
    contest = race(looks=(8, 16, 32))
    assert run(contest, {1: [0.9, 1.2]}, invalid=frozenset(range(9, 14)), left_s=17.0) == 17
    assert (contest.end, contest.standoffs[1].look, contest.standoffs[1].blocks, contest.disturbed) == (RaceEnd.TIME, 2, 17, 5)


def test_after_a_look_at_all_blocks_no_stretch_begins_that_cannot_end() -> None:
    contest = race()
    assert run(contest, {1: [0.9, 1.2]}, invalid=frozenset({0, 1, 2, 3, 8}), left_s=13.0) == 9
    assert (contest.standoffs[1].blocks, contest.end) == (9, RaceEnd.TIME)


def test_a_block_that_is_run_again_turns_its_order_round() -> None:
    contest, orders = race(), []
    for _ in range(4):
        block = contest.ask(left_s=AMPLE, block_s=1.0)
        assert block is not None
        orders.append(block.order)
        contest.tell(Raced(index=0, seconds=1.0, arms={0: arm(1e7), 1: arm(1e7)}, valid=False))
    assert orders[0] == orders[2] == orders[1][::-1] == orders[3][::-1]


def test_two_copies_of_one_form_on_a_busy_host_are_not_told_apart() -> None:
    """Bursts hit either arm: a share of races near the error of a look may say faster, none may claim a clear lead."""
    dice, faster, clear = np.random.default_rng(7), 0, 0
    for _ in range(300):
        contest = race()
        bursts = [float(math.exp(first - second)) for first, second in dice.standard_t(2, size=(40, 2)) * 0.1]
        run(contest, {1: bursts}, invalid=frozenset(range(40)))
        faster += contest.standoffs[1].effect.effect is Effect.FASTER
        clear += contest.standoffs[1].beats_baseline
    assert faster <= 0.025 * 300
    assert clear <= 1

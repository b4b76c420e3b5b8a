"""How many sealed examples the leader's agreement at the gate asks for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from optimizer.measure.foresight import limits_missed
from optimizer.measure.proportions import wilson
from optimizer.search.actions import Fidelity
from optimizer.search.checking import Checking
from optimizer.search.field import Field, Standing
from optimizer.search.plan import Terms
from optimizer.search.reserve import FEWEST_SEALED, Costs, Reserve
from optimizer.search.screen import ScreenLedger
from optimizer.search.shortlist import Shortlist
from optimizer.specs import Budget, Verdict
from tests.engine.search.world import candidate

TOP1 = "fidelity_top1_agreement_fraction"
GATE_EXAMPLES = 200


def checking_of(*right: int, example_s: float = 0.002, total_s: float = 210.0) -> Checking:
    """One trial for each, the fastest first, with so many right answers of 200 at the gate."""
    field, ledger = Field(waiting=[]), ScreenLedger(margin=0.03)
    field.enter(candidate("original"))
    medians = {0: 1_000_000}
    for agreeing in right:
        trial = field.enter(candidate(f"form{len(field.trials)}", invariant=False))
        measured = wilson(agreeing, GATE_EXAMPLES).measurement(TOP1)
        trial.gate = Fidelity(verdict=Verdict.UNPROVEN, reason="", invariant=False, measurements=(measured,), limits={TOP1: 0.99})
        trial.standing = Standing.HELD
        medians[trial.index] = 200_000 + 100_000 * trial.index
    for _ in range(6):
        ledger.add(medians)
    terms = Terms(total_s=total_s, synthetic=False, sealed_available=2_000, sealed_needed=381, gate_examples=GATE_EXAMPLES)
    reserve = Reserve(budget=Budget(), total_s=total_s, costs=Costs(example_s=example_s))
    shortlist = Shortlist(field=field, ledger=ledger, objective="latency_p50_ms", synthetic=False)
    return Checking(field=field, shortlist=shortlist, ledger=ledger, reserve=reserve, terms=terms)


def test_flawless_agreement_takes_the_usual_number() -> None:
    assert checking_of(200).examples() == Budget().accuracy_examples


def test_a_narrow_leader_gets_the_examples_that_can_prove_it() -> None:
    checking = checking_of(199)
    assert checking.is_foreseen(1)
    assert Budget().accuracy_examples < checking.examples() <= 2_000
    gate = checking.field.trials[1].gate
    assert gate is not None
    assert limits_missed(gate.measurements, gate.limits, growth=checking.examples() / GATE_EXAMPLES) == ()


def test_a_proof_that_only_luck_can_give_takes_all_within_reach() -> None:
    """Never the usual few."""
    checking = checking_of(199)
    needed = checking.examples()
    checking.terms = replace(checking.terms, sealed_available=round(needed / 1.1))
    assert checking.is_foreseen(1)
    assert checking.examples() == checking.reach == round(needed / 1.1)


def test_a_leader_that_no_number_can_prove_leaves_the_question_to_the_next() -> None:
    checking = checking_of(196, 200)
    assert not checking.is_foreseen(1)
    assert checking.examples() == Budget().accuracy_examples


def test_the_next_narrow_one_asks_for_its_own_proof() -> None:
    assert checking_of(196, 199).examples() == checking_of(199).examples() > Budget().accuracy_examples


@pytest.mark.parametrize(("left_s", "usual"), [(200.0, False), (25.0, True)])
def test_more_examples_never_take_the_time_of_the_race(left_s: float, usual: bool) -> None:
    checking = checking_of(199, example_s=0.01)
    examples, finalists = checking.affordable(left_s)
    assert finalists or usual
    assert (examples <= Budget().accuracy_examples) == usual


def test_the_first_check_fixes_the_number() -> None:
    checking = checking_of(199)
    checking.fixed = 444
    assert checking.examples() == 444
    assert checking.affordable(200.0)[0] == 444


def repaired(checking: Checking, index: int) -> None:
    trial = checking.field.trials[index]
    trial.candidate = replace(trial.candidate, refines=True)


def test_a_repaired_form_of_the_same_pace_goes_before_a_doubtful_one() -> None:
    checking = checking_of(199, 200)
    checking.ledger.rounds[2] = [value - 0.005 for value in checking.ledger.rounds[1]]
    assert checking.order(200.0, 500) == [1, 2]
    repaired(checking, 2)
    assert checking.order(200.0, 500) == [2, 1]


def test_a_slower_repair_waits_behind_the_form_that_might_do_without_it() -> None:
    checking = checking_of(199, 200)
    repaired(checking, 2)
    assert checking.order(200.0, 500) == [1, 2]


def test_a_form_that_needs_no_repair_keeps_its_place() -> None:
    checking = checking_of(200, 200)
    checking.ledger.rounds[2] = [value - 0.005 for value in checking.ledger.rounds[1]]
    repaired(checking, 2)
    assert checking.order(200.0, 500) == [1, 2]


def test_the_time_kept_for_the_checks_is_what_forms_as_fast_as_the_leader_take() -> None:
    checking = checking_of(200, example_s=0.01)
    slow = checking.reserve.sealed_s(checking.examples(), finalists=2)
    opening_s = 3 * checking.reserve.costs.open_s
    assert checking.sealed_s() - opening_s == pytest.approx((slow - opening_s) * (1 + 2 * 0.3) / 3)


def test_where_not_all_fit_the_most_that_do_are_opened() -> None:
    checking = checking_of(199, example_s=0.01)
    wanted = checking.examples()
    found = [checking.affordable(float(left_s))[0] for left_s in range(25, 120)]
    assert any(Budget().accuracy_examples < one < wanted for one in found)
    assert found == sorted(found)


def exact(checking: Checking, index: int) -> None:
    trial = checking.field.trials[index]
    trial.candidate = replace(trial.candidate, accuracy_invariant=True)
    trial.gate = Fidelity(verdict=Verdict.PASS, reason="", invariant=True)


def test_without_time_for_a_proof_an_exact_form_behind_the_leader_is_checked_on_few() -> None:
    checking = checking_of(200, 200, example_s=0.05, total_s=75.0)
    assert checking.affordable(45.0) == (381, 0)
    exact(checking, 2)
    examples, finalists = checking.affordable(45.0)
    assert (examples, finalists) == (FEWEST_SEALED, 1)
    assert checking.order(45.0, examples) == [2]


def test_few_examples_that_are_all_there_are_still_shown_to_every_form() -> None:
    checking = checking_of(200, 200)
    exact(checking, 2)
    checking.terms = replace(checking.terms, sealed_available=100)
    assert checking.order(200.0, 100) == [1, 2]


def test_a_search_there_is_even_where_its_proofs_would_take_all_time() -> None:
    reserve = Reserve(budget=Budget(), total_s=75.0, costs=Costs(example_s=0.05, median_s=0.04))
    ends_s = reserve.search_ends_s(known_at_s=10.0, sealed_s=70.0)
    assert ends_s == pytest.approx(10.0 + 0.2 * 65.0)
    left_s = 75.0 - ends_s - reserve.sealed_s(FEWEST_SEALED, finalists=1)
    assert reserve.affordable_finalists(left_s) >= 1
    assert reserve.search_ends_s(known_at_s=60.0, sealed_s=70.0) == 60.0


def sealed_as(checking: Checking, index: int, verdict: Verdict) -> None:
    checking.field.trials[index].sealed = Fidelity(verdict=verdict)


def test_after_the_first_check_the_reference_is_there_and_the_next_check_costs_only_itself() -> None:
    checking = checking_of(199, 200, example_s=0.05)
    left_s = 55.0
    assert checking.affordable(left_s)[1] == 0
    checking.fixed = 1_000
    sealed_as(checking, 1, Verdict.UNPROVEN)
    assert checking.affordable(left_s) == (1_000, 1)


def test_a_doubtful_form_whose_repair_was_not_proven_comes_last() -> None:
    checking = checking_of(199, 200, 200)
    checking.ledger.rounds[2] = [value - 0.005 for value in checking.ledger.rounds[1]]
    repaired(checking, 2)
    sealed_as(checking, 2, Verdict.UNPROVEN)
    assert checking.order(200.0, 500) == [2, 3, 1]


@pytest.mark.parametrize(("total_s", "stream_s"), [(210.0, 1.0), (75.0, 0.5), (10.0, 0.25)])
def test_little_time_measures_shorter_and_still_holds_a_look(total_s: float, stream_s: float) -> None:
    assert Budget(total_s=total_s).stream_s == stream_s
    assert Budget(total_s=total_s, block_s=0.01).stream_s == 0.01
    reserve = Reserve(budget=Budget(total_s=total_s), total_s=total_s, costs=Costs(median_s=0.001))
    assert reserve.start_s() == pytest.approx(reserve.costs.open_s + stream_s)

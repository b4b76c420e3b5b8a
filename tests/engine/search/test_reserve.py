"""How many sealed examples a search opens: what a proof needs, unless that would leave no time to search."""

from __future__ import annotations

import pytest

from optimizer.search.reserve import Costs, Reserve
from optimizer.specs import Budget

STREAMS = 368 * 32


def opened(needed: int, *, example_s: float, total_s: float = 100.0) -> int:
    budget = Budget(preset="standard", total_s=total_s, finalists=1, accuracy_examples=20_000)
    reserve = Reserve(budget=budget, total_s=total_s, costs=Costs(example_s=example_s))
    return reserve.sealed_examples(available=50_000, needed=needed)


@pytest.mark.parametrize("example_s", [0.001, 0.1, 1.0])
def test_the_usual_proof_is_always_kept(example_s: float) -> None:
    assert opened(381, example_s=example_s) >= 381


def test_streams_are_proven_when_the_model_is_fast_enough() -> None:
    assert opened(STREAMS, example_s=0.002) == STREAMS


def test_an_uncommonly_large_proof_does_not_starve_the_search() -> None:
    fewer = opened(STREAMS, example_s=0.01)
    assert 381 <= fewer < STREAMS
    assert 2 * fewer * 0.01 <= 0.2 * 100.0


def test_a_narrow_agreement_may_take_more_than_the_usual_number() -> None:
    reserve = Reserve(budget=Budget(), total_s=210.0, costs=Costs(example_s=0.005))
    assert reserve.sealed_examples(available=5_000, needed=381) == Budget().accuracy_examples
    assert reserve.sealed_examples(available=5_000, needed=1_400) == 1_400
    assert reserve.sealed_examples(available=900, needed=1_400) == 900
    assert reserve.provable_examples() == Budget().accuracy_examples_most
    slow = Reserve(budget=Budget(), total_s=210.0, costs=Costs(example_s=0.05))
    assert slow.provable_examples() * 3 * 0.05 <= 0.5 * 210.0
    assert slow.sealed_examples(available=5_000, needed=1_400) < 500

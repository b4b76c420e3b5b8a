"""What the screening found, and when."""

from __future__ import annotations

from optimizer.search.actions import Finish
from optimizer.search.problem import Silent
from optimizer.search.watching import Watch
from tests.engine.search.world import Truth, World, candidate, machine


def test_the_first_of_the_proven_is_the_one_screened_first() -> None:
    world = World(truths={"slow": Truth(speedup=1.5), "fast": Truth(speedup=2.0)})
    search = machine([candidate("slow"), candidate("fast")])
    watch = Watch(observer=Silent(), machine=search)
    while not isinstance(action := search.ask(world.elapsed_s), Finish):
        search.tell(world.perform(action))
        watch.after(world.elapsed_s)
    first, later = watch.first_of([2, 1]), watch.first_of([2])
    assert watch.first_of([]) is None
    assert first is not None
    assert later is not None
    assert (first.trial, later.trial) == (1, 2)
    assert 0 < first.seconds < later.seconds < world.elapsed_s
    assert 1 <= first.forms <= later.forms == 2

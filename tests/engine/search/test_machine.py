"""The search machine against a simulated host."""

from __future__ import annotations

from dataclasses import replace

import pytest

from optimizer.search.actions import Built, Gate, MeasureStart, RaceBlock, ScreenRound, SealedCheck
from optimizer.search.field import Known
from optimizer.search.machine import SearchMachine
from optimizer.search.per_bucket import bucket_effects, told_buckets
from optimizer.search.plan import Candidate, Plan, Terms
from optimizer.search.race import RaceEnd
from optimizer.search.reserve import Step
from optimizer.specs import BackendSettings, Decision, Effect, Failure, KpiTarget, PassStep, SearchSpec, TrafficShare, Verdict
from tests.engine.search.world import CRASH, STRAY, Truth, World, candidate, machine, recipe

FAST = Truth(speedup=3.0)


def test_a_clearly_faster_candidate_wins_with_its_race_as_evidence() -> None:
    world = World(truths={"fast": Truth(speedup=3.0), "slow": Truth(speedup=0.5)})
    conclusion = world.run(machine([candidate("slow"), candidate("fast")]))
    assert conclusion.decision is Decision.WINNER
    assert world.recipes[conclusion.winner or 0].backend == "fast"
    duel = conclusion.duels[0]
    assert duel.effect is Effect.FASTER
    assert duel.kpi == "latency_p50_ms"
    assert duel.blocks == 8
    assert (duel.speedup.ci_low or 0) < 3.0 < (duel.speedup.ci_high or 0)


def test_the_race_stops_at_the_first_look_that_decides() -> None:
    world = World(truths={"fast": FAST})
    world.run(machine([candidate("fast")]))
    assert world.count(RaceBlock) == 8


def test_a_candidate_that_fails_the_gate_is_never_timed_and_never_wins() -> None:
    world = World(truths={"fast": Truth(speedup=5.0, gate=Verdict.FAIL), "good": Truth(speedup=1.5)})
    conclusion = world.run(machine([candidate("fast"), candidate("good")]))
    refused = next(trial for trial, one in world.recipes.items() if one.backend == "fast")
    timed = {trial for action in world.actions if isinstance(action, ScreenRound | RaceBlock) for trial in action.order}
    assert refused not in timed
    assert world.recipes[conclusion.winner or 0].backend == "good"


def test_the_gate_comes_before_any_timing() -> None:
    world = World(truths={"fast": FAST})
    world.run(machine([candidate("fast")]))
    kinds = [type(action) for action in world.actions]
    assert kinds.index(Gate) < kinds.index(ScreenRound) < kinds.index(SealedCheck) < kinds.index(RaceBlock)


def test_a_finalist_that_fails_on_the_sealed_examples_makes_way_for_the_next() -> None:
    world = World(truths={"hasty": Truth(speedup=5.0, sealed=Verdict.FAIL), "good": Truth(speedup=2.0)})
    conclusion = world.run(machine([candidate("hasty"), candidate("good")]))
    assert conclusion.decision is Decision.WINNER
    assert world.recipes[conclusion.winner or 0].backend == "good"


def test_what_the_gate_saw_missing_is_sealed_first_only_while_the_safe_one_still_fits() -> None:
    shaky = Truth(speedup=4.0, gate=Verdict.UNPROVEN, misses=True)
    world = World(truths={"shaky": shaky, "good": Truth(speedup=2.0)})
    search = machine([candidate("shaky", invariant=False), candidate("good")])
    conclusion = world.run(search)
    checked = [world.recipes[action.trial].backend for action in world.actions if isinstance(action, SealedCheck)]
    assert checked[:2] == ["shaky", "good"]
    assert world.recipes[conclusion.winner or 0].backend == "good"
    for trial in search.field.trials.values():
        trial.sealed = None
    search.checking.fixed = 0
    orders = [[world.recipes[one].backend for one in search.checking.order(left_s, 400)] for left_s in (150.0, 30.0)]
    assert [order[0] for order in orders] == ["shaky", "good"]


def test_the_sealed_examples_are_opened_once_per_finalist() -> None:
    world = World(truths={"a": Truth(speedup=2.0), "b": Truth(speedup=2.1)})
    world.run(machine([candidate("a"), candidate("b")]))
    opened = [action.trial for action in world.actions if isinstance(action, SealedCheck)]
    assert len(opened) == len(set(opened)) == 2


def test_a_search_whose_time_is_gone_still_measures_the_original_once() -> None:
    world = World(truths={"fast": FAST})
    search = machine([candidate("fast")], total_s=0.001)
    assert world.run(search).decision is Decision.INCONCLUSIVE
    assert world.count(MeasureStart) == len(search.starts) == 1


def test_without_any_gain_the_original_is_kept_with_its_own_measured_starts() -> None:
    world = World(truths={"slow": Truth(speedup=0.5)})
    search = machine([candidate("slow")])
    conclusion = world.run(search)
    assert conclusion.decision is Decision.KEEP_ORIGINAL
    assert conclusion.winner is None
    assert conclusion.nearest == 1
    assert "None of one candidate was faster" in conclusion.reason
    assert world.count(MeasureStart) == len(search.starts) == 5


def test_an_equivalent_finalist_leaves_the_original_in_place() -> None:
    world = World(truths={"same": Truth(speedup=1.0)}, start_sd=0.005)
    conclusion = world.run(machine([candidate("same")], total_s=400))
    assert conclusion.decision is Decision.KEEP_ORIGINAL
    assert conclusion.duels[0].effect is Effect.EQUIVALENT


@pytest.mark.parametrize("total_s", [0.001, 3.0, 20.0, 40.0, 60.0, 100.0, 500.0])
def test_every_budget_ends_with_a_decision_and_a_reason(total_s: float) -> None:
    world = World(truths={"fast": FAST, "other": Truth(speedup=1.3)})
    conclusion = world.run(machine([candidate("fast"), candidate("other")], total_s=total_s))
    assert conclusion.reason
    assert world.elapsed_s <= total_s + 8


def test_a_budget_without_a_look_is_inconclusive_and_says_so() -> None:
    world = World(truths={"fast": FAST})
    conclusion = world.run(machine([candidate("fast")], total_s=25.0))
    assert conclusion.decision is Decision.INCONCLUSIVE
    assert "allow more time" in conclusion.reason


def test_candidates_whose_turn_never_came_are_listed() -> None:
    names = [f"c{number}" for number in range(60)]
    world = World(truths={name: Truth(speedup=1.2) for name in names})
    conclusion = world.run(machine([candidate(name) for name in names]))
    assert conclusion.not_tried
    assert len(conclusion.not_tried) + len(world.recipes) - 1 == 60


def test_a_stray_kill_of_a_race_arm_is_retried_once() -> None:
    world = World(truths={"fast": Truth(speedup=3.0, race_failures=[STRAY])})
    conclusion = world.run(machine([candidate("fast")]))
    assert conclusion.decision is Decision.WINNER
    assert world.count(RaceBlock) == 9


def test_a_second_stray_kill_of_the_same_arm_costs_it_the_race() -> None:
    world = World(truths={"fast": Truth(speedup=3.0, race_failures=[STRAY, STRAY])})
    conclusion = world.run(machine([candidate("fast")]))
    assert conclusion.decision is Decision.KEEP_ORIGINAL
    assert "killed from outside" in conclusion.reason


def test_a_race_arm_that_hits_its_own_limit_is_not_retried() -> None:
    world = World(truths={"fast": Truth(speedup=3.0, race_failures=[CRASH])})
    world.run(machine([candidate("fast")]))
    assert world.count(RaceBlock) == 1


def test_losing_one_finalist_leaves_the_other_in_the_race() -> None:
    world = World(truths={"a": Truth(speedup=2.1, race_failures=[CRASH]), "b": Truth(speedup=2.0)})
    conclusion = world.run(machine([candidate("a"), candidate("b")]))
    assert world.recipes[conclusion.winner or 0].backend == "b"


def test_a_stray_kill_of_the_baseline_is_survived_once_in_the_race() -> None:
    world = World(truths={"fast": Truth(speedup=3.0), "reference": Truth(race_failures=[STRAY])})
    assert world.run(machine([candidate("fast")])).decision is Decision.WINNER


def test_a_baseline_that_cannot_be_built_ends_the_search_as_a_fault() -> None:
    world = World(truths={"reference": Truth(build_failure=CRASH)})
    conclusion = world.run(machine([candidate("fast")]))
    assert conclusion.fault == CRASH


def test_a_failed_build_costs_one_trial() -> None:
    world = World(truths={"broken": Truth(build_failure=CRASH), "fast": FAST})
    conclusion = world.run(machine([candidate("broken"), candidate("fast")]))
    assert world.recipes[conclusion.winner or 0].backend == "fast"


def test_passes_that_failed_once_are_not_tried_again_in_front_of_others() -> None:
    broken = Failure(code="pass.failed", detail="no")
    step, more = PassStep(name="simplify"), PassStep(name="dynamic_int8")
    chains = [("a", (step,)), ("b", (step,)), ("c", (step, more)), ("d", (more,))]
    world = World(truths={name: Truth(build_failure=broken if step in chain else None) for name, chain in chains})
    recipes = [replace(candidate(name), recipe=replace(recipe(name), passes=chain)) for name, chain in chains]
    conclusion = world.run(machine(recipes))
    assert [one.backend for one in world.recipes.values()] == ["reference", "a", "d"]
    assert [one.reason for one in conclusion.not_tried] == ["Its first passes failed in trial 1."] * 2


def test_when_nothing_survives_settings_are_still_tried_on_the_best() -> None:
    single = replace(candidate("single"), recipe=replace(recipe("single"), settings=BackendSettings(threads=1)))
    world = World(truths={"slow": Truth(speedup=0.5), "single": FAST})
    plan = Plan(reference=recipe("reference"), candidates=(candidate("slow"),), tune=lambda _one: (single,))
    terms = Terms(total_s=210, synthetic=False, sealed_available=500, sealed_needed=381)
    assert world.run(SearchMachine(plan, SearchSpec(), terms)).decision is Decision.WINNER


def test_disturbed_blocks_are_repeated_whole() -> None:
    world = World(truths={"fast": FAST}, disturbed={1, 4})
    conclusion = world.run(machine([candidate("fast")]))
    assert conclusion.decision is Decision.WINNER
    assert world.count(RaceBlock) == 10
    assert any(one.startswith("2 disturbed race blocks were repeated") for one in conclusion.warnings)


def test_where_most_blocks_are_disturbed_a_small_lead_is_not_claimed() -> None:
    world = World(truths={"little": Truth(speedup=1.07)}, disturbed=set(range(40)))
    search = machine([candidate("little")], total_s=1000)
    conclusion = world.run(search)
    assert conclusion.decision is Decision.INCONCLUSIVE
    assert "after 16 blocks, 16 of them disturbed (steal fraction); run again on a quiet machine" in conclusion.reason
    assert world.count(RaceBlock) == 16


def test_where_most_blocks_are_disturbed_a_clear_lead_wins_and_the_host_is_named() -> None:
    world = World(truths={"fast": FAST}, disturbed=set(range(40)))
    search = machine([candidate("fast")], total_s=1000)
    conclusion = world.run(search)
    assert conclusion.decision is Decision.WINNER
    assert conclusion.duels[0].blocks == 8
    assert any("8 of 8 race blocks were disturbed (steal fraction) and all count" in one for one in conclusion.warnings)
    assert not any("were repeated" in one for one in conclusion.warnings)


def test_time_that_disturbed_blocks_have_eaten_is_said_with_what_disturbed_them() -> None:
    world = World(truths={"fast": Truth(speedup=1.07)}, disturbed=set(range(7)))
    search = machine([candidate("fast")], total_s=110.0)
    world.start_s = 2.5
    conclusion = world.run(search)
    assert search.race is not None
    assert (conclusion.decision, search.race.end) == (Decision.INCONCLUSIVE, RaceEnd.TIME)
    assert "7 of them disturbed (steal fraction); run again on a quiet machine or allow more time" in conclusion.reason


def test_synthetic_inputs_let_only_invariant_recipes_win() -> None:
    truths = {"half": Truth(speedup=4.0, invariant=False), "exact": Truth(speedup=1.5)}
    world = World(truths=truths)
    conclusion = world.run(machine([candidate("half", invariant=False), candidate("exact")], synthetic=True))
    assert world.recipes[conclusion.winner or 0].backend == "exact"


def test_synthetic_inputs_leave_a_fast_lossy_candidate_unproven() -> None:
    world = World(truths={"half": Truth(speedup=4.0, invariant=False)})
    conclusion = world.run(machine([candidate("half", invariant=False)], synthetic=True))
    assert conclusion.decision is Decision.INCONCLUSIVE
    assert "add 500 real inputs to prove it" in conclusion.reason
    assert conclusion.nearest == 1


def test_a_missed_target_keeps_the_original_although_the_candidate_is_faster() -> None:
    spec = SearchSpec(targets=(KpiTarget(kpi="latency_p50_ms", value=0.2, relative=True),))
    world = World(truths={"fast": Truth(speedup=2.0)})
    conclusion = world.run(machine([candidate("fast")], spec=spec))
    assert conclusion.decision is Decision.KEEP_ORIGINAL
    assert "misses p50 latency ≤20% of the baseline" in conclusion.reason


def test_a_met_target_lets_it_win() -> None:
    spec = SearchSpec(targets=(KpiTarget(kpi="latency_p50_ms", value=0.8, relative=True), KpiTarget(kpi="throughput_per_s", value=150)))
    world = World(truths={"fast": Truth(speedup=2.0)})
    assert world.run(machine([candidate("fast")], spec=spec)).decision is Decision.WINNER


def test_an_unprovable_target_is_left_out_of_the_decision_and_said() -> None:
    spec = SearchSpec(targets=(KpiTarget(kpi="power_w", value=5),))
    conclusion = World(truths={"fast": FAST}).run(machine([candidate("fast")], spec=spec))
    assert conclusion.decision is Decision.WINNER
    assert any("estimated on this machine" in warning for warning in conclusion.warnings)


def test_what_an_earlier_attempt_learned_is_not_asked_again() -> None:
    fast, broken = candidate("fast"), candidate("broken")
    first = World(truths={"fast": FAST})
    search = machine([fast])
    first.run(search)
    gate = search.field.trials[1].gate
    known = {
        recipe("reference").key: Known(index=0),
        broken.recipe.key: Known(index=1, failure=CRASH),
        fast.recipe.key: Known(index=7, gate=gate),
    }
    world = World(truths={"fast": FAST})
    conclusion = world.run(machine([broken, fast], known=known))
    assert conclusion.winner == 7
    assert [action.trial for action in world.actions if isinstance(action, Gate)] == [0]
    assert world.count(ScreenRound) > 0
    assert world.count(RaceBlock) == 8


def test_new_recipes_never_take_an_index_of_an_earlier_attempt() -> None:
    known = {candidate("gone").recipe.key: Known(index=1)}
    world = World(truths={"fast": FAST})
    assert world.run(machine([candidate("fast")], known=known)).winner == 2


def test_offline_a_batch_wins_by_its_throughput_and_the_longer_request_is_said() -> None:
    world = World(truths={"fast": Truth(speedup=1.5, batch=8)})
    search = machine([candidate("fast")], spec=SearchSpec(objective="throughput_per_s"))
    conclusion = world.run(search)
    assert conclusion.decision is Decision.WINNER
    assert conclusion.duels[0].kpi == "throughput_per_s"
    assert conclusion.duels[0].speedup.value == pytest.approx(1.5, rel=0.1)
    assert any("One request takes 5.3 times as long" in warning or "times as long" in warning for warning in conclusion.warnings)


def test_offline_a_latency_target_still_binds_what_a_batch_takes() -> None:
    spec = SearchSpec(objective="throughput_per_s", targets=(KpiTarget(kpi="latency_p50_ms", value=2.0, relative=True),))
    conclusion = World(truths={"fast": Truth(speedup=1.5, batch=8)}).run(machine([candidate("fast")], spec=spec))
    assert conclusion.decision is Decision.KEEP_ORIGINAL
    assert "misses p50 latency" in conclusion.reason


def test_offline_a_batch_that_brings_no_throughput_never_wins() -> None:
    conclusion = World(truths={"same": Truth(speedup=1.0, batch=8)}).run(
        machine([candidate("same")], spec=SearchSpec(objective="throughput_per_s"))
    )
    assert conclusion.decision is not Decision.WINNER


def with_cache(one: Candidate) -> Candidate:
    return replace(one, recipe=replace(one.recipe, settings=replace(one.recipe.settings, cached=True)))


def test_a_start_cache_wins_by_its_starts_and_both_numbers_are_said() -> None:
    world = World(truths={"quick": Truth(speedup=1.0), "fast": Truth(speedup=1.2, cold_ns=300_000_000)})
    search = machine([candidate("fast"), candidate("quick"), with_cache(candidate("quick"))], spec=SearchSpec(objective="cold_start_ms"))
    conclusion = world.run(search)
    assert conclusion.decision is Decision.WINNER
    assert conclusion.winner is not None
    winner = search.field.trials[conclusion.winner].recipe
    assert (winner.backend, winner.settings.cached) == ("quick", True)
    assert search.race is not None
    assert [search.field.trials[one].recipe.settings.cached for one in search.race.finalists] == [True, False]
    assert conclusion.duels[0].kpi == "cold_start_ms"
    assert any("Cold start with it" in one and "without it" in one for one in conclusion.warnings)


def test_a_quick_start_that_makes_calls_slower_never_wins() -> None:
    world = World(truths={"quick": Truth(speedup=0.9, cold_ns=30_000_000)})
    conclusion = world.run(machine([candidate("quick")], spec=SearchSpec(objective="cold_start_ms")))
    assert conclusion.decision is not Decision.WINNER


def test_what_starts_no_sooner_is_not_raced_for_its_start() -> None:
    world = World(truths={"fast": Truth(speedup=3.0, cold_ns=900_000_000)})
    conclusion = world.run(machine([candidate("fast")], spec=SearchSpec(objective="cold_start_ms")))
    assert conclusion.decision is Decision.KEEP_ORIGINAL
    assert "quicker to start" in conclusion.reason
    assert world.count(RaceBlock) == 0


def test_a_shape_of_the_traffic_that_gets_slower_is_named_though_the_mix_wins() -> None:
    traffic = tuple(TrafficShare(bindings={"sequence": size}, weight=weight) for size, weight in ((16, 3), (512, 1)))
    world = World(truths={"fast": Truth(speedup=2.0, bucket_speedups=(1.0, 0.4))}, shapes=2)
    search = machine([candidate("fast")], spec=SearchSpec(objective="latency_mean_ms", traffic=traffic))
    conclusion = world.run(search)
    assert search.race is not None
    effects = bucket_effects(1, race=search.race, spec=search.spec)
    assert [one.effect.estimate for one in effects] == pytest.approx([2.0, 0.8], rel=0.1)
    assert [one.effect.effect for one in effects] == [Effect.FASTER, Effect.SLOWER]
    told = told_buckets(1, search.race.arms(1), race=search.race, spec=search.spec)
    assert [row["effect"] for row in told] == ["faster", "slower"]
    assert told[0]["latency_p50_ms"] < told[1]["latency_p50_ms"]
    assert conclusion.decision is Decision.WINNER
    assert [(one.bindings, one.share, one.effect) for one in conclusion.shapes] == [
        ({"sequence": 16}, 0.75, Effect.FASTER),
        ({"sequence": 512}, 0.25, Effect.SLOWER),
    ]
    assert any("slower at sequence=512 (25% of the calls, 1.2" in one for one in conclusion.warnings)


def trained(*names: str) -> Candidate:
    """A student on cleaned ground; a step behind it uses the same training."""
    steps = tuple(PassStep(name=name) for name in names)
    until = names.index("distillation") + 1
    one = candidate("student", invariant=False)
    return replace(one, recipe=replace(one.recipe, passes=steps), rewrites_arithmetic=True, training_s=60.0, trained=steps[:until])


def test_a_training_is_charged_until_it_is_built_and_then_no_more() -> None:
    search = machine([])
    cleaned = replace(trained("simplify", "distillation"), training_s=0.0, trained=())
    cleaned = replace(cleaned, recipe=replace(cleaned.recipe, passes=cleaned.recipe.passes[:1]))
    quantized = trained("simplify", "distillation", "static_int8")
    build_s = search.costs.of(Step.BUILD)
    assert search._build_s(quantized) == build_s + 60.0
    for built in (cleaned, trained("simplify", "distillation")):
        assert search._build_s(quantized) == build_s + 60.0
        trial = search.field.enter(built)
        search.tell(Built(trial=trial.index, seconds=build_s, size_bytes=1))
    assert search._build_s(quantized) == build_s


def test_a_start_cache_is_made_for_every_setting_and_its_passes_are_built_once() -> None:
    search = machine([])
    plain = replace(candidate("form"), recipe=replace(recipe("form"), passes=(PassStep(name="simplify"),)))
    trial = search.field.enter(plain)
    search.tell(Built(trial=trial.index, seconds=3.0, size_bytes=1))
    assert search._build_s(plain) == 0.0
    assert search._build_s(with_cache(plain)) == search.costs.of(Step.OPEN)


def test_one_quick_start_rules_nobody_out() -> None:
    world = World(truths={"quick": Truth(speedup=2.0, cold_ns=50_000_000), "other": Truth(speedup=1.0, cold_ns=52_000_000)})
    search = machine([candidate("quick"), candidate("other")], spec=SearchSpec(objective="cold_start_ms"), total_s=400.0)
    world.run(search)
    assert search.race is not None
    assert {world.recipes[trial].backend for trial in search.race.finalists} == {"quick", "other"}


def rounds_of(world: World, name: str) -> int:
    trial = next(trial for trial, one in world.recipes.items() if one.backend == name)
    return sum(trial in one.order for one in world.actions if isinstance(one, ScreenRound))


def test_neighbours_at_the_top_get_more_rounds_before_the_race_is_manned() -> None:
    world = World(truths={"near": Truth(speedup=2.0), "nearer": Truth(speedup=2.1), "far": Truth(speedup=1.2)})
    world.run(machine([candidate("near"), candidate("nearer"), candidate("far")]))
    assert rounds_of(world, "near") >= 16
    assert rounds_of(world, "nearer") >= 16
    assert rounds_of(world, "far") <= 8


def test_a_leader_far_ahead_needs_no_further_rounds() -> None:
    world = World(truths={"fast": Truth(speedup=4.0), "slow": Truth(speedup=1.5)})
    world.run(machine([candidate("fast"), candidate("slow")]))
    assert rounds_of(world, "fast") <= 8

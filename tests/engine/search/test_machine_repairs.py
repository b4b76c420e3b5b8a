"""Repairs of reduced precision: when they are tried, in which order, and what stands behind them."""

from __future__ import annotations

from dataclasses import replace

from optimizer.search.plan import Candidate
from optimizer.specs import BackendSettings, PassStep, Verdict
from tests.engine.search.world import Truth, World, candidate, machine, recipe


def refined(name: str) -> Candidate:
    plain = candidate(name, invariant=False)
    steps = (PassStep(name="partial_bf16"),)
    return replace(plain, recipe=replace(plain.recipe, passes=steps), refines=True, tries_forms=True, rewrites_arithmetic=True)


def test_where_reduced_precision_misses_its_exact_layers_come_next() -> None:
    world = World(truths={"half": Truth(speedup=4.0, gate=Verdict.FAIL), "half+partial_bf16": Truth(speedup=3.5, invariant=False)})
    queue = [candidate("half", invariant=False), candidate("other"), candidate("another"), refined("half")]
    conclusion = world.run(machine(queue, total_s=400.0))
    assert [len(world.recipes[trial].passes) for trial in (1, 2)] == [0, 1]
    assert world.recipes[conclusion.winner or 0].passes


def test_behind_the_repair_comes_what_the_same_runtime_computes_exactly() -> None:
    """Should neither be proven in time, it can still win."""
    exact = replace(candidate("half"), recipe=replace(recipe("half"), settings=BackendSettings(threads=3)))
    queue = [candidate("half", invariant=False), candidate("other"), candidate("another"), refined("half"), exact]

    def tried(gate: Verdict) -> list[str]:
        truths = {"half": Truth(speedup=4.0, gate=gate, invariant=False), "half+partial_bf16": Truth(speedup=3.5, invariant=False)}
        world = World(truths=truths)
        world.run(machine(list(queue), total_s=400.0))
        words = {(False, 3): "exact", (True, 2): "repair", (False, 2): "plain"}
        return [
            words[bool(one.passes), one.settings.threads] if one.backend == "half" else one.backend
            for trial, one in sorted(world.recipes.items()) if trial
        ]  # fmt: skip

    assert tried(Verdict.FAIL)[:4] == ["plain", "repair", "exact", "other"]
    assert tried(Verdict.PASS)[:3] == ["plain", "other", "another"]


def test_exact_layers_are_searched_only_where_the_time_holds_that() -> None:
    def tried(total_s: float) -> bool:
        world = World(truths={"half": Truth(speedup=4.0, gate=Verdict.FAIL), "half+partial_bf16": Truth(speedup=3.5, invariant=False)})
        world.run(machine([candidate("half", invariant=False), refined("half")], total_s=total_s))
        return any(one.passes for one in world.recipes.values())

    assert tried(260.0)
    assert not tried(140.0)


def test_reduced_precision_that_keeps_the_outputs_needs_no_exact_layers() -> None:
    world = World(truths={"half": Truth(speedup=4.0, invariant=False)})
    conclusion = world.run(machine([candidate("half", invariant=False), refined("half")]))
    assert all(not one.passes for one in world.recipes.values())
    assert any("already keeps the outputs" in one.reason for one in conclusion.not_tried)


def test_repairs_are_tried_simplest_first_until_one_keeps_the_outputs() -> None:
    rounded = refined("half")
    rounded = replace(rounded, recipe=replace(rounded.recipe, passes=(PassStep(name="bf16_rounding"),)), tries_forms=False)
    queue = [candidate("half", invariant=False), candidate("other"), rounded, refined("half")]

    def tried(rounding: Truth) -> list[list[str]]:
        truths = {"half": Truth(speedup=4.0, gate=Verdict.FAIL), "half+bf16_rounding": rounding, "half+partial_bf16": Truth(speedup=3.0)}
        world = World(truths=truths)
        world.run(machine(list(queue), total_s=400.0))
        return [[step.name for step in world.recipes[trial].passes] for trial in sorted(world.recipes) if trial]

    assert tried(Truth(speedup=4.0, invariant=False))[:2] == [[], ["bf16_rounding"]]
    assert ["partial_bf16"] not in tried(Truth(speedup=4.0, invariant=False))
    assert tried(Truth(speedup=4.0, gate=Verdict.FAIL))[:3] == [[], ["bf16_rounding"], ["partial_bf16"]]


def test_a_repair_that_misses_is_followed_by_one_on_the_same_ground() -> None:
    clean = PassStep(name="simplify")

    def repaired(*names: str) -> Candidate:
        one = refined("half")
        return replace(
            one, recipe=replace(one.recipe, passes=tuple(clean if name == "simplify" else PassStep(name=name) for name in names))
        )

    queue = [repaired("simplify", "bf16_rounding"), repaired("partial_bf16"), repaired("simplify", "partial_bf16")]
    world = World(truths={"half": Truth(speedup=4.0, gate=Verdict.FAIL)})
    world.run(machine(queue, total_s=600.0))
    assert [[step.name for step in world.recipes[trial].passes] for trial in (1, 2)] == [
        ["simplify", "bf16_rounding"],
        ["simplify", "partial_bf16"],
    ]


def test_int8_that_keeps_the_outputs_says_nothing_of_bf16s_exact_layers() -> None:
    """It runs under the same bf16 hint as the form that misses, and its own arithmetic is another."""
    int8 = replace(candidate("half", invariant=False), rewrites_arithmetic=True)
    int8 = replace(int8, recipe=replace(int8.recipe, passes=(PassStep(name="openvino_int8"),)))
    truths = {"half+openvino_int8": Truth(speedup=3.0, invariant=False), "half+partial_bf16": Truth(speedup=3.5, invariant=False)}
    world = World(truths=truths)
    conclusion = world.run(machine([int8, refined("half")], total_s=400.0))
    assert not any("already keeps the outputs" in one.reason for one in conclusion.not_tried)
    assert [step.name for step in world.recipes[conclusion.winner or 0].passes] == ["partial_bf16"]

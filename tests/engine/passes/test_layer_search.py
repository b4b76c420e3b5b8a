"""The search for exact layers on a network that exists only as noise: what it keeps, and what it says when it cannot."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from optimizer.passes.errors import NoChange, PassFailed
from optimizer.passes.evaluator import Judged
from optimizer.passes.layer_search import LayerSearch, Part, parts_of, profiles, segments
from optimizer.specs import BackendSettings, ExecutedNode

LAYERS = tuple(f"layer{number}" for number in range(8))


@dataclass(slots=True)
class Planted:
    """Noise by layer; a form holds when the noise of its reduced layers is at most ``allowed``."""

    noise_of: dict[str, float]
    allowed: float
    kept: frozenset[str] = frozenset()
    judged: list[int] = field(default_factory=list)
    examples: int = 100

    def form(self, layers: Collection[str]) -> Path:
        self.kept = frozenset(layers)
        return Path("form")

    def noise(self, entry: Path, settings: BackendSettings, *, examples: int) -> float:
        return sum(noise for layer, noise in self.noise_of.items() if layer not in self.kept)

    def judge(self, entry: Path, settings: BackendSettings) -> Judged:
        self.judged.append(len(self.kept))
        return Judged(holds=self.noise(entry, settings, examples=1) <= self.allowed, reason="Too noisy.", values={"noise": 1.0})

    def nodes(self, entry: Path, settings: BackendSettings) -> tuple[ExecutedNode, ...]:
        return ()

    def seconds(self, forms: Sequence[tuple[Path, BackendSettings]]) -> list[float]:
        return [1.0 for _ in forms]


def search_of(planted: Planted, *, seconds: float = 60.0) -> LayerSearch:
    return LayerSearch(
        evaluator=planted,
        parts=[Part(kind="Convolution", layers=(layer,), saved_us=10.0) for layer in planted.noise_of],
        form=planted.form,
        settings=BackendSettings(threads=1),
        reduced="bf16",
        exact="f32",
        deadline_s=time.monotonic() + seconds,
    )


def test_the_two_noisy_layers_stay_exact_and_no_other() -> None:
    planted = Planted({layer: 1.0 if layer in LAYERS[2:4] else 0.01 for layer in LAYERS}, allowed=0.1)
    search = search_of(planted)
    kept, judged = search.find(search.plain())
    assert {part.layers[0] for part in kept} == set(LAYERS[2:4])
    assert judged.holds
    facts = search.facts(kept, judged)
    assert {one["layer"] for one in facts["sensitivity"][:2]} == set(LAYERS[2:4])
    assert facts["parts_exact"] == 2


def test_when_all_must_stay_exact_there_is_no_form() -> None:
    search = search_of(Planted(dict.fromkeys(LAYERS, 1.0), allowed=0.5))
    with pytest.raises(NoChange, match=r"Every layer would have to stay in f32\."):
        search.find(search.plain())


def test_time_that_ends_first_is_said_and_not_taken_for_an_answer() -> None:
    search = search_of(Planted({layer: 1.0 if layer == LAYERS[0] else 0.01 for layer in LAYERS}, allowed=0.5), seconds=-1.0)
    with pytest.raises(NoChange, match="The time ended"):
        search.find(search.plain())


def test_what_no_exact_layer_mends_is_a_failure() -> None:
    search = search_of(Planted(dict.fromkeys(LAYERS, 1.0), allowed=-1.0))
    with pytest.raises(PassFailed, match="Even with all 8 layers"):
        search.find(search.plain())


def test_forms_are_profiled_in_turns_and_the_least_time_of_a_node_counts() -> None:
    """A burst on the host while one form had its first turn does not make it the slower one."""
    visits: list[str] = []

    class Bursting(Planted):
        def nodes(self, entry: Path, settings: BackendSettings) -> tuple[ExecutedNode, ...]:
            visits.append(entry.name)
            time_us = 50.0 if len(visits) == 1 else {"int8": 4.0, "plain": 9.0}[entry.name]
            return (ExecutedNode(name="a", kind="Convolution", precision="f32", layers=("a",), time_us=time_us),)

    settings = BackendSettings(threads=1)
    found = profiles(Bursting({}, allowed=0.0), [(Path("int8"), settings), (Path("plain"), settings)])
    assert [nodes[0].time_us for nodes in found] == [4.0, 9.0]
    assert visits[:4] == ["int8", "plain", "int8", "plain"]


def test_parts_are_nodes_of_the_reduced_precision_with_what_they_save() -> None:
    def node(layer: str, precision: str, time_us: float) -> ExecutedNode:
        return ExecutedNode(name=layer, kind="Convolution", precision=precision, layers=(layer,), time_us=time_us)

    reduced = [node("a", "i8", 2.0), node("b", "f32", 5.0), node("c", "u8", 3.0)]
    exact = [node("a", "f32", 7.0), node("b", "f32", 5.0), node("c", "f32", 2.0)]
    found = parts_of(reduced, exact, precisions=("i8", "u8"), switchable={"a", "b", "c"})
    assert [(part.layers, part.saved_us) for part in found] == [(("a",), 5.0), (("c",), 0.0)]


def test_neighbours_are_joined_into_parts_of_equal_saving() -> None:
    savings = (5.0, 5.0, 0.0, 10.0, 2.0, 3.0, 5.0)
    parts = [
        Part(kind="Convolution" if index else "MatMul", layers=(f"layer{index}",), saved_us=saved) for index, saved in enumerate(savings)
    ]
    joined = segments(parts, count=3)
    assert [layer for part in joined for layer in part.layers] == [layer for part in parts for layer in part.layers]
    assert [part.saved_us for part in joined] == [10.0, 10.0, 10.0]
    assert joined[0].kind == "MatMul, Convolution"
    assert len(segments(parts, count=100)) == len(parts)

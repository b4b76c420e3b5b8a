"""Fidelity of models with state: each model feeds its own state back, and streams are the evidence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from optimizer.formats import inspect_model
from optimizer.measure.fidelity import FidelityResult, compare_outputs
from optimizer.measure.fidelity_outputs import StoredOutputs
from optimizer.measure.inputs import InputSet, load_feeds, prepare_inputs, split
from optimizer.measure.streams import StreamOutputs, Streams, fed_back, stream_steps
from optimizer.pipeline import Build, Subject, Verifier
from optimizer.pipeline.builds import digest_folder
from optimizer.sandbox import Level, Sandbox
from optimizer.search.estimate import sealed_needed
from optimizer.specs import BackendSettings, Budget, ModelCard, Recipe, SearchSpec, TaskKind, TensorSpec, Verdict
from tests import samples
from tests.engine.passes.models import HOST

Array = np.ndarray[Any, Any]
WIDTH, STEPS = 4, 32


def accumulator(path: Path, *, slip: float = 0.0) -> Path:
    """``x``, ``state`` f32 [1, 4] -> ``y``, ``stateN``: a running sum, to which every step adds ``slip``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nodes = [
        helper.make_node("Add", ["x", "state"], ["sum"]),
        helper.make_node("Add", ["sum", "slip"], ["stateN"]),
        helper.make_node("Identity", ["stateN"], ["y"]),
    ]
    shape = [1, WIDTH]
    tensors = [numpy_helper.from_array(np.full(shape, slip, np.float32), "slip")]
    inputs, outputs = ([samples.value(name, shape) for name in names] for names in (("x", "state"), ("y", "stateN")))
    return samples.save(helper.make_graph(nodes, "accumulator", inputs, outputs, tensors), path)


@dataclass(frozen=True)
class Bench:
    """An original, its inputs and a way to compare another model with it."""

    root: Path
    card: ModelCard
    inputs: InputSet
    verifier: Verifier

    def compared(self, slip: float, *, steps: int | None = None) -> FidelityResult:
        examples = self.inputs if steps is None else replace(self.inputs, stream_steps=steps)
        build = built(accumulator(self.root / f"slip-{slip}" / "model.onnx", slip=slip))
        return self.verifier.compare(build, RECIPE, examples=examples, accuracy_invariant=False)


RECIPE = Recipe(backend="onnxruntime", settings=BackendSettings(threads=1))


def built(model: Path) -> Build:
    sha256, size_bytes = digest_folder(model.parent)
    return Build(key=sha256, folder=model.parent, entry=model.name, card=inspect_model(model), sha256=sha256, size_bytes=size_bytes)


def inputs_of(card: ModelCard, folder: Path, *, n: int, spec: SearchSpec | None = None) -> InputSet:
    values = np.random.default_rng(0).normal(size=(n, 1, WIDTH)).astype(np.float32)
    values[:, 0, 0] = np.arange(n)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "data.npz", x=values)
    return prepare_inputs(card, spec=spec or SearchSpec(), dataset=folder / "data.npz", folder=folder / "inputs")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    original = built(accumulator(tmp_path / "original" / "model.onnx"))
    inputs = inputs_of(original.card, tmp_path / "data", n=4 * STEPS)
    subject = Subject(
        model_dir=original.folder, entry=original.entry, card=original.card, hardware=HOST, inputs=inputs, timing=inputs,
        workspace=tmp_path / "work",
    )  # fmt: skip
    sandbox = Sandbox(root=tmp_path / "jobs", level=Level.C)
    verifier = Verifier(subject=subject, sandbox=sandbox, baseline=(original, RECIPE), task=original.card.task)
    yield Bench(root=tmp_path, card=original.card, inputs=inputs, verifier=verifier)
    sandbox.close()


def test_each_model_carries_its_own_state_from_step_to_step_and_starts_anew_with_every_stream(bench: Bench) -> None:
    bench.verifier.prepare(bench.inputs)
    (stored,) = (bench.root / "work" / "reference").iterdir()
    inputs = np.stack([load_feeds(bench.inputs.folder / "inputs.npz", index)["x"] for index in range(bench.inputs.n)])
    expected = np.cumsum(inputs.reshape(4, STEPS, 1, WIDTH), axis=1).reshape(inputs.shape)
    np.testing.assert_allclose(np.stack([one[0] for one in StoredOutputs(stored)]), expected, rtol=1e-4, atol=1e-3)


def test_an_error_that_gathers_in_the_state_is_seen_only_over_streams(bench: Bench) -> None:
    alone, streamed = bench.compared(0.5, steps=1), bench.compared(0.5)
    assert (alone.stream_steps, streamed.stream_steps) == (1, STEPS)
    largest = [{one.kpi: one.value for one in result.measurements}["fidelity_max_abs_error"] for result in (alone, streamed)]
    assert largest == pytest.approx([0.5, 0.5 * STEPS], rel=1e-2)
    assert "in streams of 32 with the state fed back" in streamed.reason


def test_the_same_model_agrees_to_rounding_over_streams(bench: Bench) -> None:
    result = bench.compared(0.0)
    assert result.invariant
    assert {one.n for one in result.measurements} == {4 * STEPS}
    assert {one.n_eff for one in result.measurements if one.ci_low is not None} == {4}
    assert (result.verdict, result.needed) == (Verdict.UNPROVEN, 368 * STEPS)


def scores(*, n: int, wrong: int = 0, width: int = 5) -> list[list[Array]]:
    """Per step a score and a state; the first ``wrong`` steps fall into another class."""
    rng = np.random.default_rng(2)
    made = [np.eye(width, dtype=np.float32)[rng.integers(width)][None] for _ in range(n)]
    return [[np.roll(one, 1, axis=-1) if i < wrong else one, np.ones((1, 8), np.float32)] for i, one in enumerate(made)]


def test_classes_of_one_stream_stand_or_fall_together() -> None:
    streams = Streams(steps=10, states=frozenset({1}))
    result = compare_outputs(TaskKind.CLASSIFICATION, scores(n=400), scores(n=400), streams=streams)
    (share,) = (one for one in result.measurements if one.kpi.startswith("fidelity_top1"))
    assert (share.value, share.n, share.n_eff) == (1.0, 400, 40)
    assert (result.verdict, result.needed) == (Verdict.UNPROVEN, 3810)
    assert "needs at least 3,810 sealed inputs" in result.reason
    assert compare_outputs(TaskKind.CLASSIFICATION, scores(n=3810), scores(n=3810), streams=streams).verdict is Verdict.PASS
    assert compare_outputs(TaskKind.CLASSIFICATION, scores(n=400), scores(n=400, wrong=200), streams=streams).verdict is Verdict.FAIL


def test_labels_of_steps_do_not_decide_over_streams() -> None:
    labels = np.zeros(400)
    result = compare_outputs(
        TaskKind.CLASSIFICATION, scores(n=400), scores(n=400), labels=labels, streams=Streams(steps=10, states=frozenset({1}))
    )
    assert "accuracy_delta_pp" not in result.limits


def test_the_state_itself_gates_only_where_there_is_nothing_else() -> None:
    reference = scores(n=1200)
    drifted = [[one[0], -one[1]] for one in reference]
    beside = compare_outputs(TaskKind.GENERIC, reference, drifted, streams=Streams(steps=3, states=frozenset({1})))
    assert beside.verdict is Verdict.PASS
    assert beside.others[1]["cosine_p01"] == pytest.approx(-1)
    alone = compare_outputs(
        TaskKind.GENERIC, [one[1:] for one in reference], [one[1:] for one in drifted], streams=Streams(steps=3, states=frozenset({0}))
    )
    assert alone.verdict is Verdict.FAIL


def test_single_scores_have_a_direction_only_over_a_stream() -> None:
    rng = np.random.default_rng(3)
    reference = [[rng.uniform(0.1, 1, (1, 1)).astype(np.float32)] for _ in range(400)]
    candidate = [[rng.uniform(0.1, 1, (1, 1)).astype(np.float32)] for _ in range(400)]
    for streams, least in ((None, 1.0), (Streams(steps=10, states=frozenset()), 0.0)):
        result = compare_outputs(TaskKind.GENERIC, reference, candidate, streams=streams)
        cosine = next(one.value for one in result.measurements if "cosine" in one.kpi)
        assert cosine == pytest.approx(1.0) if least else cosine is not None and cosine < 0.95


def test_random_streams_ask_for_as_many_real_inputs_as_streams_need() -> None:
    from optimizer.specs import InputSource

    noise = np.random.default_rng(4)
    reference = [[noise.normal(size=(1, 8)).astype(np.float32)] for _ in range(4000)]
    close = [[one[0] + np.float32(0.01)] for one in reference]
    streams = Streams(steps=10, states=frozenset())
    result = compare_outputs(TaskKind.GENERIC, reference, close, source=InputSource.SYNTHETIC, streams=streams)
    assert (result.verdict, result.needed) == (Verdict.UNPROVEN, 3680)
    assert "add 3680 real inputs" in result.reason


def test_outputs_of_changing_shape_are_joined_and_a_changed_shape_fails() -> None:
    ragged: list[list[Array]] = [[np.ones(1 + index % 3, np.float32)] for index in range(9)]
    joined = StreamOutputs(ragged, 4)
    assert [one[0].shape for one in joined] == [(7,), (8,), (1, 3)]
    cut = [[one[0][:1]] for one in ragged]
    result = compare_outputs(TaskKind.GENERIC, ragged, cut, streams=Streams(steps=4, states=frozenset()))
    assert (result.verdict, result.code) == (Verdict.FAIL, "fidelity.shape_changed")


def card_with(state: tuple[int | str, ...], next_state: tuple[int | str | None, ...]) -> ModelCard:
    return ModelCard(
        format="onnx", entry="m.onnx", sha256="0" * 64, size_bytes=1, state_pairs=(("past", "present"),),
        inputs=(TensorSpec(name="past", dtype="float32", shape=state),),
        outputs=(TensorSpec(name="present", dtype="float32", shape=next_state),),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("state", "next_state", "is_fed"),
    [
        ((2, "batch", 128), (None, None, None), True),
        ((2, "batch", 128), ("Concat_dim_0", "batch", 128), True),
        ((1, "past", 64), (1, "past + 1", 64), False),
        ((1, "past_length", 64), (1, "total_length", 64), False),
    ],
)
def test_a_cache_that_grows_is_not_fed_back(
    state: tuple[int | str, ...], next_state: tuple[int | str | None, ...], *, is_fed: bool
) -> None:
    assert bool(fed_back(card_with(state, next_state))) is is_fed


def test_streams_are_as_long_as_the_examples_allow_and_a_stateless_model_has_none(tmp_path: Path) -> None:
    stateful = inspect_model(accumulator(tmp_path / "a" / "model.onnx"))
    assert [stream_steps(stateful, n) for n in (2, 8, 95, 96, 5000)] == [1, 2, 31, 32, 32]
    stateless = inspect_model(samples.mlp(tmp_path / "m.onnx"))
    assert stream_steps(stateless, 5000) == 1
    assert sealed_needed(stateful, SearchSpec()) == STEPS * sealed_needed(replace(stateful, state_pairs=()), SearchSpec())


def test_the_split_keeps_streams_whole_and_in_order(tmp_path: Path) -> None:
    card = inspect_model(accumulator(tmp_path / "a" / "model.onnx"))
    parts = split(inputs_of(card, tmp_path, n=40 * STEPS + 7), sealed_at_most=500)
    everything = [*parts.calibration, *parts.search, *parts.sealed]
    assert len(set(everything)) == len(everything)
    assert len(parts.sealed) == 500 // STEPS * STEPS
    for part in (parts.calibration, parts.search, parts.sealed):
        assert part
        for first in range(0, len(part), STEPS):
            assert list(part[first : first + STEPS]) == list(range(part[first], part[first] + STEPS))
            assert part[first] % STEPS == 0


def test_rows_chosen_from_a_large_dataset_keep_streams_together(tmp_path: Path) -> None:
    card = inspect_model(accumulator(tmp_path / "a" / "model.onnx"))
    inputs = inputs_of(card, tmp_path, n=3000, spec=SearchSpec(budget=Budget(accuracy_examples=100)))
    chosen = [int(load_feeds(inputs.folder / "inputs.npz", index)["x"][0, 0]) for index in range(inputs.n)]
    assert inputs.n == 660 // STEPS * STEPS
    for first in range(0, inputs.n, STEPS):
        assert chosen[first : first + STEPS] == list(range(chosen[first], chosen[first] + STEPS))
    assert chosen != list(range(inputs.n))

"""Passes that train: they learn, end in time, repeat themselves by the seed, go on from a checkpoint, and refuse with a sentence."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from optimizer.conformance.test_passes import MODELS
from optimizer.errors import InputError
from optimizer.passes import PASSES, No, Yes
from optimizer.passes.base import PassContext
from optimizer.passes.training.data import training_material
from optimizer.specs import PassNeeds, TaskKind
from tests.engine.passes import models
from tests.engine.torch import networks

WITHOUT_TORCH = replace(models.HOST, runtimes={})
TRAINING = {name: one for name, one in PASSES.items() if one.needs is PassNeeds.TRAINING}
SMALL = {"structured_pruning": {"kept": 0.5}, "distillation": {"width": 0.5}, "qat_int8": {"activation": "uint8", "per_channel": True}}
every_training_pass = pytest.mark.parametrize("name", TRAINING)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return networks.residual(tmp_path / "source" / "model.onnx")


@pytest.fixture
def context(model: Path, tmp_path: Path) -> PassContext:
    return networks.context_for(model, tmp_path / "data")


def apply(name: str, model: Path, target: Path, context: PassContext, **params: object):  # type: ignore[no-untyped-def]
    return TRAINING[name].apply(model, target, {**SMALL[name], "seconds": 60, "steps": 8, **params}, context)


def agreement(model: Path, other: Path) -> float:
    fresh = networks.pictures(200, seed=77)
    return float((networks.answers(model, fresh) == networks.answers(other, fresh)).mean())


def test_the_three_are_there() -> None:
    assert set(TRAINING) == set(SMALL)


@every_training_pass
@pytest.mark.parametrize("labels", [True, False])
def test_a_student_learns_what_its_teacher_answers(model: Path, tmp_path: Path, name: str, labels: bool) -> None:
    context = networks.context_for(model, tmp_path / "data", labels=labels)
    result = apply(name, model, tmp_path / "out", context, steps=60)
    onnx.checker.check_model(str(result.entry))
    facts = result.facts
    assert facts["labels"] is labels
    assert facts["validation_right_share"]["best"] >= facts["validation_right_share"]["before"]
    assert facts["validation_loss"]["best"] <= facts["validation_loss"]["before"] or name == "qat_int8"
    assert agreement(model, result.entry) > 0.8
    assert facts["steps"] == 60


@every_training_pass
def test_without_a_class_the_outputs_themselves_are_learned(model: Path, tmp_path: Path, name: str) -> None:
    context = networks.context_for(model, tmp_path / "data", task=TaskKind.GENERIC)
    facts = apply(name, model, tmp_path / "out", context, steps=20).facts
    assert facts["labels"] is False
    assert "validation_right_share" not in facts
    assert facts["validation_loss"]["best"] <= facts["validation_loss"]["before"]


@every_training_pass
def test_the_same_seed_and_steps_give_the_same_bytes(model: Path, context: PassContext, tmp_path: Path, name: str) -> None:
    one, same, other = (
        apply(name, model, tmp_path / str(index), replace(context, checkpoints=None, seed=seed, work_dir=tmp_path / f"work{index}"))
        for index, seed in enumerate((1, 1, 2))
    )
    assert one.entry.read_bytes() == same.entry.read_bytes()
    assert one.entry.read_bytes() != other.entry.read_bytes()


@every_training_pass
def test_the_time_is_kept_and_the_best_so_far_returned(model: Path, context: PassContext, tmp_path: Path, name: str) -> None:
    apply(name, model, tmp_path / "warm", context, steps=1)
    said: list[str] = []
    begin = time.monotonic()
    listening = replace(context, say=said.append, checkpoints=None, work_dir=tmp_path / "again")
    facts = apply(name, model, tmp_path / "out", listening, seconds=6, steps=10**6).facts
    assert time.monotonic() - begin < 30
    assert 0 < facts["steps"] < facts["steps_planned"] == 10**6
    assert facts["validation_loss"]["best"] < facts["validation_loss"]["before"] or name == "qat_int8"
    assert said


@every_training_pass
def test_steps_are_planned_by_the_time_and_too_little_time_is_said(model: Path, context: PassContext, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="training steps fit into") as caught:
        apply(name, model, tmp_path / "out", context, seconds=0.01, steps=0)
    assert caught.value.code == "pass.no_change"


@every_training_pass
def test_progress_is_told_and_a_checkpoint_goes_on(model: Path, context: PassContext, tmp_path: Path, name: str) -> None:
    said: list[str] = []
    first = apply(name, model, tmp_path / "one", replace(context, say=said.append), steps=20)
    assert "training 20 of 20 steps" in said[-1]
    assert "right at best" in said[-1]
    assert first.facts["resumed"] is False
    kept = context.checkpoints / f"{name}.onnx" if context.checkpoints else Path()
    if first.facts["best_step"] == 0:
        kept.write_bytes(first.entry.read_bytes())
    onnx.checker.check_model(str(kept))
    second = apply(name, model, tmp_path / "two", replace(context, work_dir=tmp_path / "again"), steps=1)
    assert second.facts["resumed"] is True
    assert second.facts["validation_right_share"]["before"] >= first.facts["validation_right_share"]["best"] - 0.05


@every_training_pass
def test_without_examples_or_torch_it_says_what_it_needs(model: Path, context: PassContext, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="training examples") as caught:
        apply(name, model, tmp_path / "out", replace(context, training=None))
    assert caught.value.code == "pass.failed"
    assert isinstance(TRAINING[name].applicable(context.card, context.hardware), Yes)
    answer = TRAINING[name].applicable(context.card, WITHOUT_TORCH)
    assert isinstance(answer, No)
    assert "parka[torch]" in answer.reason


@every_training_pass
@pytest.mark.parametrize("kind", MODELS)
def test_it_applies_to_each_small_graph_or_refuses_and_leaves_the_source_alone(tmp_path: Path, name: str, kind: str) -> None:
    build, feeds = MODELS[kind]
    (tmp_path / "source").mkdir()
    model = build(tmp_path / "source" / "model.onnx")
    plain = models.context_for(model, feeds, tmp_path / "work", hardware=networks.HOST)
    if isinstance(answer := TRAINING[name].applicable(plain.card, plain.hardware), No):
        assert answer.reason
        return
    training = models.examples_folder(tmp_path / "training", feeds * (1 + 240 // len(feeds)))
    before = models.folder_digest(tmp_path / "source")
    try:
        result = apply(name, model, tmp_path / "out", replace(plain, training=training), steps=2)
    except InputError as refusal:
        assert refusal.code in {"pass.no_change", "pass.failed"}  # noqa: PT017 - both endings are right here
    else:
        onnx.checker.check_model(str(result.entry))
        ours, theirs = models.outputs_of(model, feeds), models.outputs_of(result.entry, feeds)
        assert [one.shape for one in ours[0]] == [one.shape for one in theirs[0]]
        assert all(np.isfinite(one).all() for one in theirs[0] if one.dtype.kind == "f")
    assert models.folder_digest(tmp_path / "source") == before


def test_pruning_leaves_about_the_asked_share_of_operations(model: Path, context: PassContext, tmp_path: Path) -> None:
    few, many = (
        apply("structured_pruning", model, tmp_path / str(kept), replace(context, checkpoints=None), kept=kept).facts for kept in (0.3, 0.7)
    )
    assert few["operations_left_share"] <= 0.3
    assert few["operations_left_share"] < many["operations_left_share"] <= 0.7
    assert few["parameters_after"] < many["parameters_after"] < many["parameters_before"]


def test_a_shallower_student_has_fewer_blocks(model: Path, context: PassContext, tmp_path: Path) -> None:
    result = apply("distillation", model, tmp_path / "out", context, width=1.0, depth=0.5)
    kinds = [node.op_type for node in onnx.load(result.entry).graph.node]
    assert kinds.count("Add") == 1


def test_a_student_of_probabilities_learns_them(tmp_path: Path) -> None:
    model = networks.residual(tmp_path / "m.onnx", softmax=True)
    facts = apply("distillation", model, tmp_path / "out", networks.context_for(model, tmp_path / "data"), steps=40).facts
    assert facts["validation_loss"]["best"] < facts["validation_loss"]["before"]


def test_training_through_the_rounding_keeps_the_form_of_static_int8(model: Path, context: PassContext, tmp_path: Path) -> None:
    static = PASSES["static_int8"].apply(model, tmp_path / "static", dict(SMALL["qat_int8"]), context)
    trained = apply("qat_int8", model, tmp_path / "out", context, steps=40)
    forms = [[(node.op_type, *node.input) for node in onnx.load(entry).graph.node] for entry in (static.entry, trained.entry)]
    assert forms[0] == forms[1]
    weights = [
        {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(entry).graph.initializer} for entry in (static.entry, trained.entry)
    ]
    assert any(not np.array_equal(weights[0][name], weights[1][name]) for name in weights[0] if name.endswith("_quantized"))
    assert all(weights[0][name].dtype == weights[1][name].dtype for name in weights[0])


def test_reduced_range_weights_stay_within_seven_bits(model: Path, context: PassContext, tmp_path: Path) -> None:
    trained = apply("qat_int8", model, tmp_path / "out", context, reduce_range=True, steps=20)
    stored = [onnx.numpy_helper.to_array(one) for one in onnx.load(trained.entry).graph.initializer]
    assert all(np.abs(one.astype(np.int32)).max() <= 64 for one in stored if one.dtype == np.int8 and one.size > 1)


def test_labels_that_are_no_classes_are_left_out(model: Path, context: PassContext, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    np.savez(folder / "inputs.npz", x=networks.pictures(240), label=np.full(240, networks.CLASSES))
    assert apply("distillation", model, tmp_path / "out", replace(context, training=folder)).facts["labels"] is False


@pytest.mark.parametrize("part", ["training", "validation"])
@pytest.mark.parametrize("stray", [-1, networks.CLASSES])
def test_one_label_that_is_no_class_leaves_out_all(model: Path, context: PassContext, tmp_path: Path, part: str, stray: int) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    np.savez(folder / "inputs.npz", x=networks.pictures(240), label=np.arange(240))
    odd = replace(context, training=folder)
    spoilt = getattr(training_material(odd), part).labels[0]
    np.savez(folder / "inputs.npz", x=networks.pictures(240), label=np.where(np.arange(240) == spoilt, stray, 0))
    assert apply("distillation", model, tmp_path / "out", odd).facts["labels"] is False

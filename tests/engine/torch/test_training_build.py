"""A student built in a real child: gated by labels, its training shared by what follows it, its checkpoint kept when it is cut off."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from optimizer.formats import inspect_model
from optimizer.measure.inputs import InputSet, prepare_inputs
from optimizer.pipeline import BuildCache, StepFailed, Subject, Verifier, Yardstick, as_uploaded, limits_for, materialise, portion
from optimizer.pipeline.materialise import key_of
from optimizer.sandbox import Sandbox
from optimizer.specs import BackendSettings, PassStep, Recipe, SearchSpec, TaskKind, Verdict
from tests.engine.torch import networks

SETTINGS = BackendSettings(threads=1)
REFERENCE = Recipe(backend="onnxruntime", settings=SETTINGS)


def student(*more: PassStep, **params: object) -> Recipe:
    step = PassStep(name="distillation", params={"width": 0.5, "seconds": 60, "steps": 150, **params})
    return Recipe(backend="onnxruntime", passes=(step, *more), settings=SETTINGS)


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    made = Sandbox(root=tmp_path / "children")
    yield made
    made.close()


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    (tmp_path / "model").mkdir()
    model = networks.residual(tmp_path / "model" / "model.onnx")
    card, x = inspect_model(model), networks.pictures(1_400)
    np.savez(tmp_path / "data.npz", x=x, label=networks.answers(model, x))
    inputs = prepare_inputs(card, spec=SearchSpec(), dataset=tmp_path / "data.npz", folder=tmp_path / "all")
    root = tmp_path / "parts"
    return Subject(
        model_dir=model.parent,
        entry=model.name,
        card=card,
        hardware=networks.HOST,
        inputs=inputs,
        timing=portion(inputs, (0, 1), root=root),
        calibration=portion(inputs, tuple(range(20)), root=root),
        training=portion(inputs, tuple(range(400, 1_400)), root=root),
        yardstick=Yardstick(reference=REFERENCE, task=TaskKind.CLASSIFICATION),
        workspace=tmp_path / "workspace",
        limits=limits_for(networks.HOST, wall_s=120),
    )


def judged(subject: Subject, sandbox: Sandbox, recipe: Recipe, tmp_path: Path) -> Verdict:
    build = materialise(recipe, subject=subject, cache=BuildCache(tmp_path / "cache"), sandbox=sandbox)
    judging: InputSet = portion(subject.inputs, tuple(range(20, 400)), root=tmp_path / "parts")
    verifier = Verifier(subject=subject, sandbox=sandbox, baseline=(as_uploaded(subject), REFERENCE), task=TaskKind.CLASSIFICATION)
    return verifier.compare(build, recipe, examples=judging, accuracy_invariant=False).verdict


def test_a_student_that_lost_its_accuracy_is_refused_by_the_gate(subject: Subject, sandbox: Sandbox, tmp_path: Path) -> None:
    assert judged(subject, sandbox, student(width=0.25, steps=1), tmp_path) is Verdict.FAIL


def test_what_follows_a_training_does_not_train_again(subject: Subject, sandbox: Sandbox, tmp_path: Path) -> None:
    said: list[str] = []
    listening, cache = replace(subject, heard=said.append), BuildCache(tmp_path / "cache")
    recipe = student(PassStep(name="static_int8", params={"activation": "uint8"}), steps=30)
    whole = materialise(recipe, subject=listening, cache=cache, sandbox=sandbox)
    assert [sheet["pass"] for sheet in whole.facts] == ["distillation", "static_int8"]
    assert whole.card.quantized
    assert any("training 30 of 30 steps" in words for words in said)
    said.clear()
    alone = materialise(student(steps=30), subject=listening, cache=cache, sandbox=sandbox)
    assert not said
    assert alone.facts == whole.facts[:1]


def test_an_interrupted_training_goes_on_from_its_best_state(subject: Subject, sandbox: Sandbox, tmp_path: Path) -> None:
    cache, recipe = BuildCache(tmp_path / "cache"), student(seconds=15, steps=1_000_000)
    said: list[str] = []
    impatient = replace(subject, heard=said.append, cancelled=lambda: len(said) > 0)
    kept = subject.workspace / "checkpoints" / key_of(recipe, subject)
    with pytest.raises(StepFailed) as cut_off:
        materialise(recipe, subject=impatient, cache=cache, sandbox=sandbox)
    assert cut_off.value.failure.code == "child.cancelled"
    assert (kept / "distillation.onnx").is_file()
    build = materialise(recipe, subject=subject, cache=cache, sandbox=sandbox)
    assert build.facts[0]["resumed"] is True
    assert 0 < build.facts[0]["steps"] < 1_000_000
    assert not kept.exists()


def test_the_key_of_a_student_holds_what_it_learned_from(subject: Subject) -> None:
    recipe = student()
    others = [
        replace(subject, training=portion(subject.inputs, tuple(range(500, 1_000)), root=subject.workspace / "parts")),
        replace(subject, seed=2),
        replace(subject, yardstick=Yardstick(reference=REFERENCE, task=TaskKind.GENERIC)),
        replace(subject, hardware=replace(networks.HOST, instruction_sets=("other",))),
    ]
    assert len({key_of(recipe, one) for one in (subject, *others)}) == 5
    exact = replace(recipe, passes=(PassStep(name="simplify"),))
    assert len({key_of(exact, one) for one in (subject, *others)}) == 1

"""A pass that tries forms of the model gets its examples and its yardstick inside the build child."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from optimizer.formats import inspect_model
from optimizer.hardware import probe
from optimizer.measure.inputs import prepare_inputs
from optimizer.pipeline import BuildCache, StepFailed, Subject, Verifier, Yardstick, as_uploaded, limits_for, materialise, portion
from optimizer.pipeline.materialise import key_of
from optimizer.sandbox import Sandbox
from optimizer.specs import BackendSettings, KpiTarget, PassStep, Precision, Recipe, SearchSpec, TaskKind, Verdict
from tests.engine.passes.test_partial_precision import SHAPE, delicate

HOST = probe(benchmark=False)
REFERENCE = Recipe(backend="onnxruntime", settings=BackendSettings(threads=1))
REDUCED = BackendSettings(threads=1, precision=Precision.BF16)
PARTIAL = Recipe(backend="openvino", passes=(PassStep(name="partial_bf16"),), settings=REDUCED)
needs_bf16 = pytest.mark.skipif(not HOST.matrix_bf16, reason="this host has no bf16 matrix units")


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    made = Sandbox(root=tmp_path / "children")
    yield made
    made.close()


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    (tmp_path / "model").mkdir()
    model = delicate(tmp_path / "model" / "model.onnx")
    card = inspect_model(model)
    values = np.random.default_rng(3).normal(size=(120, *SHAPE)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=values)
    inputs = prepare_inputs(card, spec=SearchSpec(), dataset=tmp_path / "data.npz", folder=tmp_path / "all")
    root = tmp_path / "parts"
    return Subject(
        model_dir=model.parent,
        entry=model.name,
        card=card,
        hardware=HOST,
        inputs=inputs,
        timing=portion(inputs, (0, 1), root=root),
        choosing=portion(inputs, tuple(range(40)), root=root),
        yardstick=Yardstick(reference=REFERENCE, task=TaskKind.GENERIC, sealed_examples=400),
        workspace=tmp_path / "workspace",
        limits=limits_for(HOST, wall_s=120),
    )


@needs_bf16
def test_partial_bf16_is_built_in_a_child_and_passes_where_plain_bf16_fails(subject: Subject, sandbox: Sandbox, tmp_path: Path) -> None:
    build = materialise(PARTIAL, subject=subject, cache=BuildCache(tmp_path / "cache"), sandbox=sandbox)
    assert build.entry == "model.xml"
    assert build.card.format == "openvino_ir"
    assert {path.name for path in build.folder.iterdir()} == {"model.xml", "model.bin"}
    examples = portion(subject.inputs, tuple(range(40, 120)), root=tmp_path / "parts")
    uploaded = as_uploaded(subject)
    verifier = Verifier(subject=subject, sandbox=sandbox, baseline=(uploaded, REFERENCE), task=TaskKind.GENERIC)
    partial = verifier.compare(build, PARTIAL, examples=examples, accuracy_invariant=False)
    plain = verifier.compare(uploaded, replace(PARTIAL, passes=()), examples=examples, accuracy_invariant=False)
    assert plain.verdict is Verdict.FAIL
    assert partial.verdict is not Verdict.FAIL
    assert partial.others[0]["snr_db"] > plain.others[0]["snr_db"] + 6


@needs_bf16
def test_without_a_yardstick_the_build_says_what_it_needs(subject: Subject, sandbox: Sandbox, tmp_path: Path) -> None:
    bare = replace(subject, yardstick=None, choosing=None)
    with pytest.raises(StepFailed) as failed:
        materialise(PARTIAL, subject=bare, cache=BuildCache(tmp_path / "cache"), sandbox=sandbox)
    assert failed.value.failure.code == "pass.failed"
    assert "add real inputs" in failed.value.failure.detail


def test_less_time_left_keeps_what_was_built(subject: Subject) -> None:
    recipe = Recipe(backend="openvino", passes=(PassStep(name="partial_bf16"),))
    assert subject.yardstick is not None
    shorter = replace(subject, yardstick=replace(subject.yardstick, sealed_examples=3))
    assert key_of(recipe, shorter) == key_of(recipe, subject)


def test_the_key_holds_what_the_layers_were_chosen_by(subject: Subject) -> None:
    yardstick = subject.yardstick
    assert yardstick is not None
    stricter = replace(yardstick, targets=(KpiTarget(kpi="fidelity_snr_db", value=40.0),))
    others = [
        replace(subject, yardstick=stricter),
        replace(subject, choosing=portion(subject.inputs, (5, 6), root=subject.workspace / "parts")),
        replace(subject, hardware=replace(HOST, instruction_sets=("other",))),
    ]
    keys = {key_of(PARTIAL, one) for one in (subject, *others)}
    assert len(keys) == 4
    exact = Recipe(backend="openvino", passes=(PassStep(name="simplify"),), settings=REDUCED)
    assert len({key_of(exact, one) for one in (subject, *others)}) == 1

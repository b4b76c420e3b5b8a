"""Plans for an upload that other runtimes read only after a conversion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from optimizer.errors import InputError
from optimizer.formats import inspect_model
from optimizer.search import planner
from optimizer.specs import HardwareProfile, ModelCard, SearchSpec
from tests import folders, samples
from tests.engine.search.test_planner import HOST

WITH_TORCH = replace(HOST, runtimes={**HOST.runtimes, "torch": "2.13.0", "transformers": "5.24.0"})
PUBLISH = replace(SearchSpec().budget, preset="publish")


@pytest.fixture
def folder(tmp_path: Path) -> ModelCard:
    return inspect_model(folders.encoder(tmp_path / "net") / "config.json")


def plan_for(card: ModelCard, host: HardwareProfile = WITH_TORCH, **changes: object) -> planner.Plan:
    return planner.plan(card, replace(SearchSpec(), **changes), host, planner.installed_backends(host))  # type: ignore[arg-type]


def test_trial_0_of_a_folder_is_the_upload_in_pytorch(folder: ModelCard) -> None:
    reference = plan_for(folder).reference
    assert (reference.backend, reference.passes, reference.settings.threads) == ("pytorch", (), 4)


def test_other_runtimes_follow_the_export_and_only_it(folder: ModelCard) -> None:
    recipes = [one.recipe for one in plan_for(folder, budget=PUBLISH).candidates]
    assert {recipe.backend for recipe in recipes} == {"pytorch", "torch_compile", "onnxruntime", "openvino"}
    for recipe in recipes:
        names = [step.name for step in recipe.passes]
        assert names.count("onnx_export") == (recipe.backend in ("onnxruntime", "openvino"))
        assert "onnx_export" not in names[1:]
    assert any(len(recipe.passes) > 1 for recipe in recipes)


def test_passes_of_the_new_format_are_planned_behind_the_export(folder: ModelCard) -> None:
    tried = {step.name for one in plan_for(folder, budget=PUBLISH).candidates for step in one.recipe.passes}
    assert tried >= {"onnx_export", "transformer_fusion", "dynamic_int8", "shape_specialisation"}


def test_nothing_is_said_to_be_unreadable_that_is_tried(folder: ModelCard) -> None:
    told = [note for note in plan_for(folder).not_tried if "does not" in note.reason]
    assert not told
    assert len(plan_for(folder).not_tried) == len(set(plan_for(folder).not_tried))


def test_without_the_export_the_runtimes_of_other_formats_are_left_out(folder: ModelCard) -> None:
    plan = plan_for(folder, passes=())
    assert {one.recipe.backend for one in plan.candidates} == {"pytorch", "torch_compile"}
    reasons = {note.label: note.reason for note in plan.not_tried}
    assert reasons["Export to ONNX"] == "Left out by request."
    assert reasons["openvino"] == "It does not read huggingface models."


def test_a_host_without_torch_is_told_what_to_install(folder: ModelCard) -> None:
    with pytest.raises(InputError) as refusal:
        plan_for(folder, HOST)
    assert refusal.value.code == "backend.no_reference"
    assert "pip install torch transformers" in refusal.value.message


def test_a_plan_for_onnx_does_not_advise_to_install_what_could_not_read_it(tmp_path: Path) -> None:
    plan = plan_for(inspect_model(samples.mlp(tmp_path / "m.onnx")), HOST)
    assert not any("torch" in note.reason for note in plan.not_tried)
    assert all(step.name != "onnx_export" for one in plan.candidates for step in one.recipe.passes)

"""What cleaning makes of a network that an old exporter wrote the clumsy way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from optimizer.errors import EngineError
from optimizer.formats import inspect_model
from optimizer.passes import PASSES, No, Yes
from optimizer.passes.child import Rewritten, rewrite
from optimizer.passes.onnx_files import operators, opset
from optimizer.passes.opset_upgrade import MODERN_OPSET, OLD_BELOW
from optimizer.rounding import all_agree
from optimizer.search.candidates import installed_backends, plan
from optimizer.specs import PassStep, SearchSpec
from tests import samples
from tests.engine.passes import models

FEEDS = models.normal_feeds("image", (1, 32, 32, 3), count=3)
UPGRADE = PASSES["opset_upgrade"]


def clumsy(folder: Path) -> Path:
    (folder / "source").mkdir()
    return samples.clumsy(folder / "source" / "model.onnx")


def cleaned(model: Path, *names: str) -> Rewritten:
    context = models.context_for(model, FEEDS, model.parent.parent / "work")
    return rewrite(model, [PassStep(name=name) for name in names], context=context)


@pytest.mark.parametrize("chain", [("ort_basic",), ("simplify",), ("ort_basic", "simplify"), ("ort_basic", "simplify", "opset_upgrade")])
def test_cleaning_removes_most_nodes_and_keeps_the_outputs(tmp_path: Path, chain: tuple[str, ...]) -> None:
    model = clumsy(tmp_path)
    result = cleaned(model, *chain)
    before, after = operators(onnx.load(model)), operators(onnx.load(result.entry))
    assert before.total() > 300
    assert before["Cast"] + before["Transpose"] > 90
    assert after.total() < before.total() / 3
    assert not {"BatchNormalization", "Cast", "Reshape", "Shape", "Identity"} & set(after)
    assert after["Conv"] == before["Conv"] == 24
    for ours, theirs in zip(models.outputs_of(model, FEEDS), models.outputs_of(result.entry, FEEDS), strict=True):
        assert np.abs(ours[0]).max() > 1
        assert all_agree(ours, theirs)


def test_a_newer_operator_set_computes_the_same(tmp_path: Path) -> None:
    model = clumsy(tmp_path)
    result = cleaned(model, "opset_upgrade")
    assert (opset(onnx.load(model)), opset(onnx.load(result.entry))) == (11, MODERN_OPSET)
    assert result.facts[0]["verified"]
    for ours, theirs in zip(models.outputs_of(model, FEEDS), models.outputs_of(result.entry, FEEDS), strict=True):
        assert all_agree(ours, theirs)


def test_an_old_model_with_its_weights_beside_it_is_raised_too(tmp_path: Path) -> None:
    entry = samples.external(tmp_path / "source", build=models.old_conv)
    feeds = models.normal_feeds("image", (1, 3, 32, 32))
    context = models.context_for(entry, feeds, tmp_path / "work")
    result = UPGRADE.apply(entry, tmp_path / "out", {}, context)
    assert opset(onnx.load(result.entry)) == MODERN_OPSET
    assert all_agree(models.outputs_of(entry, feeds)[0], models.outputs_of(result.entry, feeds)[0])


def test_only_old_models_of_standard_operators_are_raised(tmp_path: Path) -> None:
    card = inspect_model(models.old_conv(tmp_path / "old.onnx"))
    assert isinstance(UPGRADE.applicable(card, models.HOST), Yes)
    assert UPGRADE.applicable(inspect_model(samples.conv(tmp_path / "new.onnx")), models.HOST) == No("its operator set 17 is new enough")
    node = helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")
    graph = helper.make_graph([node], "foreign", [samples.value("x", [4])], [samples.value("y", [4])])
    foreign = inspect_model(samples.save(graph, tmp_path / "foreign.onnx", opset=OLD_BELOW - 1, domains=["com.microsoft"]))
    answer = UPGRADE.applicable(foreign, models.HOST)
    assert isinstance(answer, No)
    assert "com.microsoft" in answer.reason


def test_an_operator_that_the_converter_cannot_raise_is_a_coded_failure(tmp_path: Path) -> None:
    node = helper.make_node("FrobnicateTensor", ["x"], ["y"])
    graph = helper.make_graph([node], "unknown", [samples.value("x", [4])], [samples.value("y", [4])])
    model = samples.save(graph, tmp_path / "unknown.onnx", opset=11)
    with pytest.raises(EngineError) as refused:
        UPGRADE.apply(model, tmp_path / "out", {}, models.context_for(model, models.normal_feeds("x", (4,)), tmp_path / "work"))
    assert refused.value.code == "pass.failed"


def test_the_planner_tries_the_cleaners_on_it_alone_and_together(tmp_path: Path) -> None:
    card = inspect_model(clumsy(tmp_path))
    host = models.HOST
    found = plan(card, SearchSpec(), host, {**installed_backends(host), "onnxruntime": models.AVAILABLE, "openvino": models.AVAILABLE})
    chains = {tuple(step.name for step in one.recipe.passes) for one in found.candidates}
    assert {("ort_basic",), ("simplify",), ("ort_basic", "simplify", "opset_upgrade")} <= chains

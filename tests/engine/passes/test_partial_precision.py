"""Partial bf16 on a network of which two layers cannot bear bf16: those stay exact, the rest does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from optimizer.backends import backend
from optimizer.errors import EngineError
from optimizer.hardware import probe
from optimizer.passes import PASSES, No, PassContext, Yes
from optimizer.passes.evaluator import Judged
from optimizer.passes.openvino_ir import layer_names, write_ir, write_marked
from optimizer.pipeline.evaluating import ModelEvaluator, Yardstick
from optimizer.specs import BackendSettings, ExecutedNode, KpiTarget, Precision, Recipe, TaskKind
from tests import samples
from tests.engine.passes import models

HOST = probe(benchmark=False)
PASS = PASSES["partial_bf16"]
SHAPE = (1, 8, 16, 16)
needs_bf16 = pytest.mark.skipif(not HOST.matrix_bf16, reason="this host has no bf16 matrix units")


def delicate(path: Path, *, sturdy: int = 6) -> Path:
    """``x`` [1, 8, 16, 16] -> convolutions -> a layer that adds 300 and one that takes differences of channels -> ``y``.

    bf16 keeps eight bits: after the offset nearly nothing of the signal is left.
    """
    nodes, tensors, current = [], [], "x"
    for index in range(sturdy):
        tensors.append(samples.weights(f"w{index}", [8, 8, 3, 3], seed=index, scale=0.15))
        nodes.append(helper.make_node("Conv", [current, f"w{index}"], [f"c{index}"], name=f"sturdy{index}", pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"]))
        current = f"r{index}"
    difference = np.eye(8, dtype=np.float32) - np.roll(np.eye(8, dtype=np.float32), 1, axis=1)
    tensors += [
        samples.weights("wo", [8, 8, 1, 1], seed=91, scale=0.5),
        numpy_helper.from_array(np.full(8, 300, np.float32), "offset"),
        numpy_helper.from_array(difference.reshape(8, 8, 1, 1), "wd"),
    ]
    nodes += [
        helper.make_node("Conv", [current, "wo", "offset"], ["o"], name="offset_layer"),
        helper.make_node("Conv", ["o", "wd"], ["y"], name="difference_layer"),
    ]
    graph = helper.make_graph(nodes, "delicate", [samples.value("x", SHAPE)], [samples.value("y", SHAPE)], tensors)
    return samples.save(graph, path)


def product(path: Path) -> Path:
    """Two biased matrix products: ``x`` [1, 4, 64] -> ``y`` [1, 4, 64]."""
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["m"], name="first"),
        helper.make_node("Add", ["m", "ab"], ["h"], name="first_bias"),
        helper.make_node("MatMul", ["h", "b"], ["n"], name="second"),
        helper.make_node("Add", ["n", "bb"], ["y"], name="second_bias"),
    ]
    tensors = [
        samples.weights("a", [64, 64], seed=1), samples.weights("ab", [64], seed=2),
        samples.weights("b", [64, 64], seed=3), samples.weights("bb", [64], seed=4),
    ]  # fmt: skip
    shape = (1, 4, 64)
    return samples.save(helper.make_graph(nodes, "product", [samples.value("x", shape)], [samples.value("y", shape)], tensors), path)


def executed(entry: Path) -> dict[str, str]:
    """Precision by layer, as the runtime runs the model under the bf16 hint."""
    session = backend("openvino").open(entry, BackendSettings(threads=1, precision=Precision.BF16))
    found = {layer: node.precision for node in session.nodes() for layer in node.layers}  # type: ignore[attr-defined]
    session.close()
    return found


def context_of(model: Path, tmp_path: Path, *, targets: tuple[KpiTarget, ...] = (), examples: int = 40) -> PassContext:
    feeds = models.normal_feeds("x", SHAPE, count=examples)
    yardstick = Yardstick(
        reference=Recipe(backend="onnxruntime", settings=BackendSettings(threads=1)), task=TaskKind.GENERIC, targets=targets,
        sealed_examples=400,
    )  # fmt: skip
    shapes = {"x": SHAPE}
    evaluator = ModelEvaluator(
        source=model, runtime="openvino", yardstick=yardstick, feeds=feeds, shapes=shapes, work_dir=tmp_path / "evaluations"
    )
    return replace(models.context_for(model, feeds, tmp_path / "work", hardware=HOST), evaluator=evaluator)


@needs_bf16
def test_the_layers_that_cannot_bear_bf16_stay_exact_and_the_others_do_not(tmp_path: Path) -> None:
    model = delicate(tmp_path / "model.onnx")
    context = context_of(model, tmp_path)
    result = PASS.apply(model, tmp_path / "out", {}, context)
    precisions = executed(result.entry)
    kept = set(result.facts["layers_exact"])
    assert {precisions[layer] for layer in kept} == {"f32"}
    assert "bf16" in precisions.values()
    assert result.facts["parts_exact"] <= 4
    most_sensitive = result.facts["sensitivity"][0]
    assert most_sensitive["layer"] in kept
    assert most_sensitive["noise_share"] > 2 / result.facts["parts"]
    assert context.evaluator is not None
    reduced = BackendSettings(threads=1, precision=Precision.BF16)
    assert context.evaluator.judge(result.entry, reduced).holds
    assert not context.evaluator.judge(model, reduced).holds


@needs_bf16
def test_a_network_that_bears_bf16_everywhere_is_left_as_it_is(tmp_path: Path) -> None:
    model = samples.conv(tmp_path / "model.onnx", size=16)
    feeds = models.normal_feeds("image", (1, 3, 16, 16), count=40)
    yardstick = Yardstick(reference=Recipe(backend="onnxruntime", settings=BackendSettings(threads=1)), task=TaskKind.GENERIC)
    shapes = {"image": (1, 3, 16, 16)}
    evaluator = ModelEvaluator(
        source=model, runtime="openvino", yardstick=yardstick, feeds=feeds, shapes=shapes, work_dir=tmp_path / "evaluations"
    )
    context = replace(models.context_for(model, feeds, tmp_path / "work", hardware=HOST), evaluator=evaluator)
    with pytest.raises(EngineError) as refusal:
        PASS.apply(model, tmp_path / "out", {}, context)
    assert refusal.value.code == "pass.no_change"


@needs_bf16
def test_what_even_all_exact_layers_cannot_reach_is_said(tmp_path: Path) -> None:
    model = delicate(tmp_path / "model.onnx")
    context = context_of(model, tmp_path, targets=(KpiTarget(kpi="fidelity_snr_db", value=300.0),))
    with pytest.raises(EngineError) as refusal:
        PASS.apply(model, tmp_path / "out", {}, context)
    assert refusal.value.code == "pass.failed"
    assert "layers that can be kept in f32" in refusal.value.message


@needs_bf16
def test_a_marked_product_stays_exact_although_the_compiler_would_fuse_its_bias(tmp_path: Path) -> None:
    plain = write_ir(product(tmp_path / "model.onnx"), tmp_path / "exact", shapes={"x": (1, 4, 64)})
    name = next(one for one in layer_names(plain) if one.startswith("first_bias") or one == "h")
    marked = write_marked(plain, tmp_path / "marked", exact=[name])
    assert executed(plain)[name] == "bf16"
    precisions = executed(marked)
    assert precisions[name] == "f32"
    assert "bf16" in precisions.values()


def test_marks_change_no_number(tmp_path: Path) -> None:
    model = product(tmp_path / "model.onnx")
    plain = write_ir(model, tmp_path / "exact", shapes={"x": (1, 4, 64)})
    marked = write_marked(plain, tmp_path / "marked", exact=layer_names(plain))
    feed = models.normal_feeds("x", (1, 4, 64), count=1)[0]
    sessions = [backend("openvino").open(entry, BackendSettings(threads=1)) for entry in (model, plain, marked)]
    first, *others = [session.run(feed)[0] for session in sessions]
    for other in others:
        np.testing.assert_allclose(other, first, rtol=1e-5, atol=1e-5)


def test_the_pass_is_for_hosts_whose_bf16_saves_time(tmp_path: Path) -> None:
    card = models.context_for(delicate(tmp_path / "model.onnx"), models.normal_feeds("x", SHAPE), tmp_path / "work").card
    assert isinstance(PASS.applicable(card, replace(HOST, matrix_bf16=True)), Yes)
    assert isinstance(PASS.applicable(card, replace(HOST, matrix_bf16=False)), No)
    assert isinstance(PASS.applicable(replace(card, control_flow=True), replace(HOST, matrix_bf16=True)), No)


def test_without_examples_the_pass_asks_for_them(tmp_path: Path) -> None:
    model = delicate(tmp_path / "model.onnx")
    context = models.context_for(model, models.normal_feeds("x", SHAPE), tmp_path / "work", hardware=HOST)
    with pytest.raises(EngineError, match="needs examples"):
        PASS.apply(model, tmp_path / "out", {}, context)


class OneBadLayer:
    """An evaluator whose runtime has forty layers, of which layer 7 alone breaks the fidelity."""

    examples = 10

    def __init__(self, entry: Path) -> None:
        self.layers = [name for name in layer_names(entry) if name.startswith("sturdy")]
        self.bad = self.layers[7]
        self.judged = 0

    def _exact(self, entry: Path) -> set[str]:
        text = entry.read_text()
        return {
            name for name in self.layers if f'name="{name}"' in text and "precise" in text.split(f'name="{name}"')[1].split("</layer>")[0]
        }

    def nodes(self, entry: Path, settings: BackendSettings) -> tuple[ExecutedNode, ...]:
        time_us = 10.0 if settings.precision is Precision.BF16 else 20.0
        precision = str(settings.precision)
        return tuple(ExecutedNode(name=one, kind="Convolution", precision=precision, layers=(one,), time_us=time_us) for one in self.layers)

    def noise(self, entry: Path, settings: BackendSettings, *, examples: int) -> float:
        return 1e-6 if self.bad in self._exact(entry) else 1e-2

    def judge(self, entry: Path, settings: BackendSettings) -> Judged:
        self.judged += 1
        return Judged(holds=self.bad in self._exact(entry), reason="Outputs differ.", values={})


def test_one_bad_layer_of_many_is_found_without_trying_each(tmp_path: Path) -> None:
    model = delicate(tmp_path / "model.onnx", sturdy=40)
    exact = write_ir(model, tmp_path / "exact", shapes={"x": SHAPE})
    evaluator = OneBadLayer(exact)
    assert len(evaluator.layers) >= 40
    context = replace(models.context_for(model, models.normal_feeds("x", SHAPE), tmp_path / "work", hardware=HOST), evaluator=evaluator)
    result = PASS.apply(model, tmp_path / "out", {}, context)
    assert evaluator.bad in result.facts["layers_exact"]
    assert result.facts["parts_exact"] <= 2
    assert evaluator.judged <= 9


def test_the_source_stays_as_it_was(tmp_path: Path) -> None:
    model = delicate(tmp_path / "model.onnx")
    before = model.read_bytes()
    write_ir(model, tmp_path / "exact", shapes={"x": SHAPE})
    assert model.read_bytes() == before
    onnx.checker.check_model(str(model))

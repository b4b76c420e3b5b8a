"""Static int8 with accuracy control, on a network of which one layer cannot bear int8: that one stays as it was."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from optimizer.backends import backend
from optimizer.errors import EngineError
from optimizer.hardware import probe
from optimizer.passes import PASSES, No, PassContext, Yes
from optimizer.passes.evaluator import Judged
from optimizer.passes.openvino_ir import write_ir
from optimizer.passes.openvino_quantizer import quantize, quantized_layers, write_partly
from optimizer.pipeline.evaluating import ModelEvaluator, Yardstick
from optimizer.rounding import all_agree
from optimizer.specs import BackendSettings, ExecutedNode, KpiTarget, Precision, Recipe, TaskKind
from tests import samples
from tests.engine.passes import models

HOST = probe(benchmark=False)
PASS = PASSES["openvino_int8"]
SHAPE = (1, 8, 16, 16)
F32 = BackendSettings(threads=1, precision=Precision.F32)
needs_int8 = pytest.mark.skipif(not (HOST.dot_int8 or HOST.matrix_int8), reason="this host has no int8 dot products")


def outlying(path: Path, *, sturdy: int = 5) -> Path:
    """``x`` [1, 8, 16, 16] -> convolutions; the last but one makes its first channel a thousand times the others, the last all but ignores it."""
    nodes, tensors, current = [], [], "x"
    for index in range(sturdy):
        tensors += [samples.weights(f"w{index}", [8, 8, 3, 3], seed=index, scale=0.15), samples.weights(f"b{index}", [8], seed=50 + index)]
        nodes.append(helper.make_node("Conv", [current, f"w{index}", f"b{index}"], [f"c{index}"], name=f"sturdy{index}", pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"]))
        current = f"r{index}"
    rng = np.random.default_rng(9)
    loud, deaf = (rng.normal(size=(8, 8, 1, 1)).astype(np.float32) for _ in range(2))
    loud[0] *= 1000
    deaf[:, 0] = 1e-4
    tensors += [numpy_helper.from_array(loud, "loud"), numpy_helper.from_array(deaf, "deaf")]
    nodes += [
        helper.make_node("Conv", [current, "loud"], ["l"], name="loud_layer"),
        helper.make_node("Relu", ["l"], ["lr"]),
        helper.make_node("Conv", ["lr", "deaf"], ["y"], name="delicate_layer"),
    ]
    graph = helper.make_graph(nodes, "outlying", [samples.value("x", SHAPE)], [samples.value("y", SHAPE)], tensors)
    return samples.save(graph, path)


@dataclass(slots=True, kw_only=True)
class Timed(ModelEvaluator):
    """Real outputs and precisions; the nodes' times are planted, for tiny layers have no honest ones. ``int8_us`` per int8 node."""

    int8_us: float = 1.0

    def nodes(self, entry: Path, settings: BackendSettings) -> tuple[ExecutedNode, ...]:
        real = ModelEvaluator.nodes(self, entry, settings)
        return tuple(replace(one, time_us=self.int8_us if one.precision in ("i8", "u8") else 10.0) for one in real)

    def seconds(self, forms: Sequence[tuple[Path, BackendSettings]]) -> list[float]:
        assert len(ModelEvaluator.seconds(self, forms)) == len(forms)
        return [self.int8_us, 10.0]


def context_of(model: Path, folder: Path, *, int8_us: float = 1.0, targets: tuple[KpiTarget, ...] = ()) -> PassContext:
    feeds = models.normal_feeds("x", SHAPE, count=40)
    yardstick = Yardstick(
        reference=Recipe(backend="onnxruntime", settings=BackendSettings(threads=1)), task=TaskKind.GENERIC, targets=targets,
        sealed_examples=400,
    )  # fmt: skip
    evaluator = Timed(
        source=model, runtime="openvino", yardstick=yardstick, feeds=feeds, shapes={"x": SHAPE}, work_dir=folder / "evaluations",
        int8_us=int8_us,
    )  # fmt: skip
    return replace(models.context_for(model, feeds, folder / "work", hardware=HOST), evaluator=evaluator)


def precisions(entry: Path) -> dict[str, str]:
    session = backend("openvino").open(entry, F32)
    found = {layer: node.precision for node in session.nodes() for layer in node.layers}  # type: ignore[attr-defined]
    session.close()
    return found


def judge(context: PassContext, entry: Path) -> Judged:
    assert context.evaluator is not None
    return context.evaluator.judge(entry, F32)


@needs_int8
def test_the_layer_that_cannot_bear_int8_is_given_back_and_the_others_are_not(tmp_path: Path) -> None:
    model = outlying(tmp_path / "model.onnx")
    context = context_of(model, tmp_path)
    result = PASS.apply(model, tmp_path / "out", {"fallback": "f32"}, context)
    run = precisions(result.entry)
    assert any("delicate" in name or name == "y" for name in result.facts["layers_exact"])
    assert {run[layer] for layer in result.facts["layers_exact"]} == {"f32"}
    assert sum(precision in ("i8", "u8") for precision in run.values()) >= 3
    assert 1 <= result.facts["parts_exact"] <= 2
    assert judge(context, result.entry).holds
    assert not judge(context, tmp_path / "work" / "whole" / "model.xml").holds


@needs_int8
def test_where_int8_holds_everywhere_no_layer_is_given_back(tmp_path: Path) -> None:
    model = outlying(tmp_path / "model.onnx")
    context = context_of(
        model, tmp_path, targets=(KpiTarget(kpi="fidelity_cosine_p01_ratio", value=0.1), KpiTarget(kpi="fidelity_snr_db", value=0.1))
    )
    result = PASS.apply(model, tmp_path / "out", {"fallback": "f32"}, context)
    assert (result.facts["parts_exact"], result.facts["runs"]) == (0, 1)
    assert quantized_layers(result.entry) == quantized_layers(tmp_path / "work" / "whole" / "model.xml")


@needs_int8
def test_int8_that_saves_no_time_is_not_tried_on_examples(tmp_path: Path) -> None:
    model = outlying(tmp_path / "model.onnx")
    with pytest.raises(EngineError) as refusal:
        PASS.apply(model, tmp_path / "out", {"fallback": "f32"}, context_of(model, tmp_path, int8_us=10.0))
    assert refusal.value.code == "pass.no_change"
    assert "not worth its errors" in refusal.value.message


@needs_int8
def test_where_int8_saves_next_to_nothing_no_layers_are_given_back_but_a_form_that_holds_is_taken(tmp_path: Path) -> None:
    model = outlying(tmp_path / "model.onnx")
    with pytest.raises(EngineError, match="too little to give layers back") as refusal:
        PASS.apply(model, tmp_path / "out", {"fallback": "f32"}, context_of(model, tmp_path, int8_us=9.8))
    assert refusal.value.code == "pass.no_change"
    lenient = (KpiTarget(kpi="fidelity_cosine_p01_ratio", value=0.1), KpiTarget(kpi="fidelity_snr_db", value=0.1))
    result = PASS.apply(model, tmp_path / "out", {"fallback": "f32"}, context_of(model, tmp_path / "again", int8_us=9.8, targets=lenient))
    assert (result.facts["parts_exact"], result.facts["saved_fraction"]) == (0, 0.02)


def test_all_layers_given_back_compute_what_the_original_does(tmp_path: Path) -> None:
    model = outlying(tmp_path / "model.onnx")
    feeds = models.normal_feeds("x", SHAPE, count=20)
    exact = write_ir(model, tmp_path / "exact", shapes={"x": SHAPE})
    whole = quantize(exact, tmp_path / "whole", feeds=feeds, preset="mixed")
    layers = quantized_layers(whole)
    back = write_partly(whole, tmp_path / "back", exact=exact, layers=layers)
    assert len(layers) >= 6
    assert not quantized_layers(back)

    def outputs(entry: Path) -> list[np.ndarray]:
        session = backend("openvino").open(entry, F32)
        found = [session.run(feed)[0] for feed in feeds[:4]]
        session.close()
        return found

    assert all_agree(outputs(exact), outputs(back))
    assert not all_agree(outputs(exact), outputs(whole))


def test_the_tool_sends_no_telemetry() -> None:
    """In a process of its own: the tool is silent inside pytest anyway."""
    code = "from optimizer.passes.openvino_quantizer import load_tool; load_tool(); from nncf.telemetry import wrapper as w; print(type(w.telemetry))"
    kind = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120).stdout
    assert "MagicMock" in kind


def test_it_is_offered_where_int8_helps_and_the_tool_is_there(tmp_path: Path) -> None:
    card = models.context_for(outlying(tmp_path / "model.onnx"), models.normal_feeds("x", SHAPE, count=1), tmp_path / "w").card
    able = replace(HOST, dot_int8=True, runtimes={**HOST.runtimes, "nncf": "3.4.0"})
    assert isinstance(PASS.applicable(card, able), Yes)
    for refused in (replace(able, dot_int8=False, matrix_int8=False), replace(able, runtimes={})):
        assert isinstance(PASS.applicable(card, refused), No)
    assert isinstance(PASS.applicable(replace(card, quantized=True), able), No)
    fallback = PASS.variants(card, replace(able, matrix_bf16=False))[0].params["fallback"]
    assert fallback == "f32"

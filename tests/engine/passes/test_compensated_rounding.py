"""Compensated rounding: on the grid, never worse on the examples, much better where inputs go together, and so in whole networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
from onnx import helper

from optimizer.errors import EngineError
from optimizer.hardware import probe
from optimizer.passes import PASSES, Yes, openvino_rounding
from optimizer.passes.compensated_rounding import output_errors, round_compensated
from optimizer.passes.openvino_ir import write_ir, write_marked
from optimizer.passes.openvino_rounding import bf16, write_rounded
from optimizer.units import MIB
from tests import samples
from tests.engine.passes import models

HOST = probe(benchmark=False)
SHAPE = (1, 8, 20, 16)
Feeds = dict[str, np.ndarray]  # type: ignore[type-arg]


def correlated(width: int, *, rows: int) -> np.ndarray:  # type: ignore[type-arg]
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, 3)) @ rng.normal(size=(3, width)) + 0.1 * rng.normal(size=(rows, width))


def test_rounding_errors_are_made_up_for_where_inputs_go_together() -> None:
    seen, fresh = np.split(correlated(150, rows=2_600), [600])
    weights = np.random.default_rng(1).normal(size=(1, 20, 150)).astype(np.float32)
    gram = (seen.T @ seen)[None]
    found = round_compensated(weights, gram, bf16)
    assert np.array_equal(found.weights, bf16(found.weights))
    assert found.error == pytest.approx(output_errors(weights, found.weights, gram).sum())
    assert found.plain_error == pytest.approx(output_errors(weights, bf16(weights), gram).sum())
    assert found.error < 0.1 * found.plain_error
    unseen = [float((((weights - one)[0] @ fresh.T) ** 2).sum()) for one in (found.weights, bf16(weights))]
    assert unseen[0] < 0.2 * unseen[1]


def test_groups_are_rounded_apart_and_no_output_gets_worse() -> None:
    rng = np.random.default_rng(3)
    weights = rng.normal(size=(4, 5, 9)).astype(np.float32)
    rows = rng.normal(size=(4, 40, 9))
    grams = rows.swapaxes(1, 2) @ rows
    together = round_compensated(weights, grams, bf16)
    for index in range(4):
        alone = round_compensated(weights[index : index + 1], grams[index : index + 1], bf16)
        assert np.array_equal(alone.weights[0], together.weights[index])
    assert (output_errors(weights, together.weights, grams) <= output_errors(weights, bf16(weights), grams)).all()


def test_inputs_that_never_came_keep_the_nearest_values() -> None:
    weights = np.random.default_rng(5).normal(size=(2, 3, 6)).astype(np.float32)
    assert np.array_equal(round_compensated(weights, np.zeros((2, 6, 6)), bf16).weights, bf16(weights))
    unknown = round_compensated(weights, np.full((2, 6, 6), np.nan), bf16)
    assert np.array_equal(unknown.weights, bf16(weights))
    assert (unknown.error, unknown.plain_error) == (0.0, 0.0)


def test_a_group_that_never_saw_anything_leaves_the_others_their_gain() -> None:
    rows = correlated(40, rows=600)
    weights = np.random.default_rng(7).normal(size=(2, 6, 40)).astype(np.float32)
    found = round_compensated(weights, np.stack([rows.T @ rows, np.zeros((40, 40))]), bf16)
    assert found.error < 0.5 * found.plain_error
    assert np.array_equal(found.weights[1], bf16(weights[1]))


def every_kind(path: Path) -> Path:
    """``x`` [1, 8, 20, 16] through convolutions (strided and padded, dilated, by groups, depthwise) and matrix products -> ``y``."""
    shapes = {"plain": [12, 8, 3, 3], "wide": [12, 12, 3, 3], "grouped": [12, 6, 3, 3], "depthwise": [12, 1, 5, 5]}
    how = {
        "plain": {"strides": [2, 1], "pads": [1, 0, 1, 2]},
        "wide": {"dilations": [2, 2], "pads": [2, 2, 2, 2]},
        "grouped": {"group": 2, "pads": [1, 1, 1, 1]},
        "depthwise": {"group": 12, "pads": [2, 2, 2, 2]},
    }
    nodes, tensors, current = [], [], "x"
    for seed, (name, shape) in enumerate(shapes.items()):
        tensors.append(samples.weights(f"w_{name}", shape, seed=seed, scale=0.3))
        nodes.append(helper.make_node("Conv", [current, f"w_{name}"], [f"{name}_out"], name=name, **how[name]))
        nodes.append(helper.make_node("Relu", [f"{name}_out"], [f"{name}_on"]))
        current = f"{name}_on"
    tensors += [samples.weights("first", [16, 24], seed=8, scale=0.3), samples.weights("second", [24, 10], seed=9, scale=0.3)]
    nodes += [
        helper.make_node("MatMul", [current, "first"], ["m"], name="product"),
        helper.make_node("Gemm", ["row", "second"], ["y"], name="gemm"),
        helper.make_node("ReduceMean", ["m"], ["row"], axes=[1, 2], keepdims=0),
    ]
    nodes = [*nodes[:-2], nodes[-1], nodes[-2]]
    graph = helper.make_graph(nodes, "kinds", [samples.value("x", (1, 8, 20, 16))], [samples.value("y", (1, 10))], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def smooth_pictures(count: int, *, seed: int) -> list[Feeds]:
    """Neighbours go together, as in real pictures."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        coarse = rng.normal(size=(1, 8, 5, 4)) + 1.0
        found.append(
            {"x": np.kron(coarse, np.ones((1, 1, 4, 4))).astype(np.float32) + 0.1 * rng.normal(size=(1, 8, 20, 16)).astype(np.float32)}
        )
    return found


def outputs(model: openvino.Model, feeds: list[Feeds]) -> np.ndarray:  # type: ignore[type-arg]
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.stack([compiled(feed)[0] for feed in feeds])


def plainly_rounded(exact: Path) -> openvino.Model:
    model = openvino.Core().read_model(str(exact))
    for node in model.get_ordered_ops():
        if node.get_type_name() in ("Convolution", "GroupConvolution", "MatMul"):
            constant = openvino.opset13.constant(bf16(node.input_value(1).get_node().data))
            node.input(1).replace_source_output(constant.output(0))
    return model


def test_every_kind_of_layer_is_rounded_on_what_it_reads(tmp_path: Path) -> None:
    exact = write_ir(every_kind(tmp_path / "model.onnx"), tmp_path / "exact", shapes={"x": (1, 8, 20, 16)})
    entry, facts = write_rounded(exact, tmp_path / "rounded", feeds=smooth_pictures(12, seed=0))
    assert facts["layers_rounded"] == 6
    assert facts["rounding_error_left"] < 0.5
    core, unseen = openvino.Core(), smooth_pictures(30, seed=1)
    truth = outputs(core.read_model(str(exact)), unseen)
    errors = [float(((outputs(model, unseen) - truth) ** 2).sum()) for model in (core.read_model(str(entry)), plainly_rounded(exact))]
    assert 0 < errors[0] < 0.4 * errors[1]


def forked(path: Path) -> Path:
    """``x`` read by a convolution, by a shortcut and by two equal products: ``y`` [1, 8, 20, 16]."""
    names = {"wide": [8, 8, 3, 3], "short": [8, 8, 1, 1], "left": [16, 16], "right": [16, 16]}
    tensors = [samples.weights(name, shape, seed=seed, scale=0.3) for seed, (name, shape) in enumerate(names.items())]
    nodes = [
        helper.make_node("Conv", ["x", "wide"], ["a"], name="a", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["x", "short"], ["b"], name="b"),
        helper.make_node("MatMul", ["x", "left"], ["c"], name="c"),
        helper.make_node("MatMul", ["x", "right"], ["d"], name="d"),
        helper.make_node("Sum", ["a", "b", "c", "d"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "forked", [samples.value("x", SHAPE)], [samples.value("y", SHAPE)], tensors)
    return samples.save(graph, path)


@pytest.mark.parametrize("room", [512 * MIB, 1])
def test_layers_that_read_the_same_share_its_moments_and_little_room_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    looks: list[int] = []
    rows = openvino_rounding._rows
    monkeypatch.setattr(openvino_rounding, "_rows", lambda *given: looks.append(1) or rows(*given))
    monkeypatch.setattr(openvino_rounding, "MOMENTS_BYTES", room)
    exact = write_ir(forked(tmp_path / "model.onnx"), tmp_path / "exact", shapes={"x": SHAPE})
    entry, facts = write_rounded(exact, tmp_path / "rounded", feeds=smooth_pictures(6, seed=0))
    assert facts["layers_rounded"] == 4
    assert len(looks) == 6 * 3
    core, unseen = openvino.Core(), smooth_pictures(20, seed=1)
    truth = outputs(core.read_model(str(exact)), unseen)
    errors = [float(((outputs(model, unseen) - truth) ** 2).sum()) for model in (core.read_model(str(entry)), plainly_rounded(exact))]
    assert errors[0] < 0.6 * errors[1]


def test_layers_too_wide_to_be_made_up_for_keep_their_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs by layer: 72, 108, 54, 25, 12, 24."""
    monkeypatch.setattr(openvino_rounding, "WIDEST", 54)
    exact = write_ir(every_kind(tmp_path / "model.onnx"), tmp_path / "exact", shapes={"x": (1, 8, 20, 16)})
    _, facts = write_rounded(exact, tmp_path / "rounded", feeds=smooth_pictures(2, seed=0))
    assert facts["layers_rounded"] == 4


def test_layers_that_stay_exact_take_back_their_own_weights(tmp_path: Path) -> None:
    exact = write_ir(every_kind(tmp_path / "model.onnx"), tmp_path / "exact", shapes={"x": (1, 8, 20, 16)})
    rounded, _ = write_rounded(exact, tmp_path / "rounded", feeds=smooth_pictures(4, seed=0))
    partly = write_marked(rounded, tmp_path / "partly", exact=["wide"], original=exact)
    core = openvino.Core()

    def weights(entry: Path) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
        nodes = core.read_model(str(entry)).get_ordered_ops()
        return {one.get_friendly_name(): np.array(one.input_value(1).get_node().data) for one in nodes if "Conv" in one.get_type_name()}

    before, after, mixed = weights(exact), weights(rounded), weights(partly)
    name = next(one for one in before if one.startswith("wide"))
    assert np.array_equal(mixed[name], before[name])
    others = [one for one in before if one != name]
    assert all(np.array_equal(mixed[one], after[one]) and not np.array_equal(mixed[one], before[one]) for one in others)


@pytest.mark.skipif(not HOST.matrix_bf16, reason="this host has no bf16 matrix units")
def test_what_is_already_on_the_grid_is_left_as_it_is(tmp_path: Path) -> None:
    tensor = onnx.numpy_helper.from_array(np.full((4, 3, 3, 3), 0.5, np.float32), "w")
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], name="conv")]
    graph = helper.make_graph(nodes, "grid", [samples.value("x", (1, 3, 8, 8))], [samples.value("y", (1, 4, 6, 6))], [tensor])
    model = samples.save(graph, tmp_path / "model.onnx")
    context = models.context_for(model, models.normal_feeds("x", (1, 3, 8, 8), count=8), tmp_path / "work", hardware=HOST)
    one = PASSES["bf16_rounding"]
    assert isinstance(one.applicable(context.card, HOST), Yes)
    with pytest.raises(EngineError) as refusal:
        one.apply(model, tmp_path / "out", {}, context)
    assert refusal.value.code == "pass.no_change"

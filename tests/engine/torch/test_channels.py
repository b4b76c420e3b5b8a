"""Which channels hang together, and that a graph without some of them does what the whole one does when nothing reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from optimizer.passes.training.blocks import residual_blocks, without_blocks
from optimizer.passes.training.budgeting import by_worth, evenly, operations
from optimizer.passes.training.channels import Group, channel_groups, prepared, silenced, without_channels
from optimizer.passes.verify import plain_session
from optimizer.rounding import agrees_to_rounding
from tests import samples
from tests.engine.torch import networks

Shapes = dict[str, tuple[int, ...]]


def run(model: onnx.ModelProto, *inputs: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    from optimizer.passes.training.module import GraphModule, as_tensors

    return [one.detach().numpy() for one in GraphModule(model)(*as_tensors(inputs))]


def seen_shapes(model: onnx.ModelProto, *inputs: np.ndarray[Any, Any]) -> Shapes:
    from optimizer.passes.training.module import GraphModule, as_tensors

    return {name: tuple(value.shape) for name, value in GraphModule(model).values(*as_tensors(inputs)).items()}


def groups_by_weight(groups: list[Group]) -> dict[str, Group]:
    return {name: group for group in groups for name, axis in group.members if name.endswith("_w") and axis == 0}


@pytest.fixture
def network(tmp_path: Path) -> tuple[onnx.ModelProto, Shapes]:
    model = prepared(onnx.load(networks.residual(tmp_path / "m.onnx")))
    return model, seen_shapes(model, networks.pictures(1)[0])


def test_additions_tie_channels_and_inner_layers_stand_alone(network: tuple[onnx.ModelProto, Shapes]) -> None:
    groups = channel_groups(*network)
    held = groups_by_weight(groups)
    assert held["stem_w"] is held["b1_w"] is held["b2_w"] is held["deep_w"]
    assert held["a1_w"] is not held["a2_w"]
    assert held["a1_w"] is not held["stem_w"]
    assert sorted(group.count for group in groups) == [16, 16, 16, 24]


def test_a_flattened_channel_is_its_block_of_features(network: tuple[onnx.ModelProto, Shapes]) -> None:
    group = groups_by_weight(channel_groups(*network))["stem_w"]
    features = group.members["g1", 1]
    assert [list(indices) for indices in features[:2]] == [list(range(16)), list(range(16, 32))]


def test_inputs_and_outputs_keep_their_channels(network: tuple[onnx.ModelProto, Shapes]) -> None:
    groups = channel_groups(*network)
    touched = {name for group in groups for name, _ in group.members}
    assert not touched & {"x", "scores"}
    assert ("g2", 1) not in {axis for group in groups for axis in group.members}


def test_without_channels_the_graph_agrees_with_the_one_that_ignores_them(network: tuple[onnx.ModelProto, Shapes]) -> None:
    model, shapes = network
    groups = channel_groups(model, shapes)
    removed = [list(range(1, group.count, 3)) for group in groups]
    smaller = without_channels(model, shapes, groups, removed)
    onnx.checker.check_model(smaller)
    x = networks.pictures(1, seed=4)[0]
    assert agrees_to_rounding(run(silenced(model, groups, removed), x)[0], run(smaller, x)[0])
    assert not agrees_to_rounding(run(model, x)[0], run(smaller, x)[0])
    assert smaller.ByteSize() < model.ByteSize()


def reshaped(target: list[int], *, classes: int = 4) -> onnx.ModelProto:
    """Convolution, mean over space, a Reshape with this target, concatenation with itself, product."""
    stored = {
        "w": np.random.default_rng(0).normal(size=(6, 1, 3, 3)).astype(np.float32),
        "to": np.array(target, np.int64),
        "g": np.random.default_rng(1).normal(size=(12, classes)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Reshape", ["p", "to"], ["f"]),
        helper.make_node("Concat", ["f", "f"], ["t"], axis=1),
        helper.make_node("MatMul", ["t", "g"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [samples.value("x", (1, 1, 8, 8))], [samples.value("y", [1, classes])],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("target", [[1, 6], [1, -1], [-1, 6], [0, -1]])
def test_sizes_written_into_a_reshape_follow(target: list[int]) -> None:
    model, x = prepared(reshaped(target)), networks.pictures(1)[0]
    shapes = seen_shapes(model, x)
    groups = channel_groups(model, shapes)
    assert [group.count for group in groups] == [6]
    assert [len(indices) for indices in groups[0].members["t", 1]] == [2] * 6
    smaller = without_channels(model, shapes, groups, [[0, 4]])
    assert agrees_to_rounding(run(silenced(model, groups, [[0, 4]]), x)[0], run(smaller, x)[0])


def last_stage(*nodes: onnx.NodeProto, opset: int, **stored: np.ndarray[Any, Any]) -> onnx.ModelProto:
    """Convolution of ``x`` to ``c`` [1, 6, 6, 6], these nodes from there to ``p`` [1, 6, 1, 1], flattening, product."""
    weights = {
        "w": np.random.default_rng(0).normal(size=(6, 1, 3, 3)).astype(np.float32),
        "g": np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32),
    }
    whole = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        *nodes,
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "g"], ["y"]),
    ]
    graph = helper.make_graph(
        whole, "g", [samples.value("x", (1, 1, 8, 8))], [samples.value("y", [1, 4])],
        [numpy_helper.from_array(array, name) for name, array in {**weights, **stored}.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def check_pruning(model: onnx.ModelProto, path: Path) -> None:
    """Its six channels hang together; without two of them ONNX Runtime gives what the graph gives that ignores them."""
    x = networks.pictures(1)[0]
    shapes = seen_shapes(model, x)
    groups = channel_groups(model, shapes)
    assert [group.count for group in groups] == [6]
    smaller = without_channels(model, shapes, groups, [[0, 4]])
    onnx.save(smaller, path)
    assert agrees_to_rounding(run(silenced(model, groups, [[0, 4]]), x)[0], plain_session(path).run(None, {"x": x})[0])


@pytest.mark.parametrize("opset", [17, 18])
def test_a_mean_over_space_keeps_its_channels_apart(tmp_path: Path, opset: int) -> None:
    space = np.array([2, 3], np.int64)
    if opset == 17:
        model = last_stage(helper.make_node("ReduceMean", ["c"], ["p"], axes=space), opset=opset)
    else:
        model = last_stage(helper.make_node("ReduceMean", ["c", "space"], ["p"]), opset=opset, space=space)
    check_pruning(model, tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("axes", "over", "features"),
    [([1, 2], "axes", 6), ([], "axes", 1), ([2, 3], "computed", 6)],
    ids=["over channels", "over all", "computed"],
)
def test_a_mean_that_may_be_over_channels_holds_them(axes: list[int], over: str, features: int) -> None:
    model = last_stage(
        helper.make_node("Identity", ["axes"], ["computed"]),
        helper.make_node("ReduceMean", ["c", over], ["p"]),
        opset=18, axes=np.array(axes, np.int64), g=np.ones((features, 4), np.float32),
    )  # fmt: skip
    assert channel_groups(model, seen_shapes(model, networks.pictures(1)[0])) == []


def test_space_that_is_unfolded_after_the_channels_keeps_its_sizes(tmp_path: Path) -> None:
    model = last_stage(
        helper.make_node("Reshape", ["c", "row"], ["r"]),
        helper.make_node("Reshape", ["r", "square"], ["s"]),
        helper.make_node("GlobalAveragePool", ["s"], ["p"]),
        opset=17, row=np.array([1, 6, 36], np.int64), square=np.array([1, 6, 6, 6], np.int64),
    )  # fmt: skip
    check_pruning(model, tmp_path / "m.onnx")


def test_channels_that_are_divided_into_heads_stay() -> None:
    model, x = prepared(reshaped([1, 2, 3])), networks.pictures(1)[0]
    model.graph.initializer[2].CopyFrom(numpy_helper.from_array(np.ones((3, 4), np.float32), "g"))
    assert channel_groups(model, seen_shapes(model, x)) == []


def test_the_least_worth_go_until_the_share_of_operations_is_left(network: tuple[onnx.ModelProto, Shapes]) -> None:
    model, shapes = network
    groups = channel_groups(model, shapes)
    worth = [np.arange(group.count, dtype=np.float64) + 1 for group in groups]
    removed = by_worth(model, shapes, groups, worth, share=0.5)
    smaller = without_channels(model, shapes, groups, removed)
    left = operations(smaller, seen_shapes(smaller, networks.pictures(1)[0]), {}) / operations(model, shapes, {})
    assert 0.2 < left <= 0.5
    assert all(channels == list(range(len(channels))) for channels in removed)


def test_an_even_student_keeps_the_most_valuable_of_every_group(network: tuple[onnx.ModelProto, Shapes]) -> None:
    groups = channel_groups(*network)
    worth = [np.arange(group.count, dtype=np.float64)[::-1] for group in groups]
    removed = evenly(groups, worth, share=0.5)
    assert {group.count: channels for group, channels in zip(groups, removed, strict=True)} == {
        16: list(range(8, 16)),
        24: list(range(16, 24)),
    }


def test_a_block_without_its_branch_hands_its_source_on(network: tuple[onnx.ModelProto, Shapes]) -> None:
    model, shapes = network
    blocks = residual_blocks(model, shapes)
    assert [(block.source, block.output) for block in blocks] == [("s0", "s1"), ("s1", "s2")]
    shallower = without_blocks(model, blocks[:1])
    onnx.checker.check_model(shallower)
    assert {node.name for node in model.graph.node} - {node.name for node in shallower.graph.node} >= {"a1", "b1"}
    assert run(shallower, networks.pictures(1)[0])[0].shape == (1, networks.CLASSES)


def test_an_addition_whose_branch_is_read_elsewhere_is_no_block(network: tuple[onnx.ModelProto, Shapes]) -> None:
    model, shapes = network
    model.graph.output.append(samples.value("r1", (1, networks.WIDTH, 8, 8)))
    assert [block.output for block in residual_blocks(model, shapes)] == ["s2"]

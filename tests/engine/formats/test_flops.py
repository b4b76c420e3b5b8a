"""FLOPs of single operators against their formulas, written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from optimizer.formats import inspect_model
from tests import samples


def flops_of(
    path: Path, node: NodeProto, inputs: dict[str, list[int]], weights: dict[str, Any], *, domains: tuple[str, ...] = ()
) -> int | None:
    """FLOPs of a graph of one node; ``weights`` are float shapes or whole arrays."""
    tensors = [
        numpy_helper.from_array(value, name) if isinstance(value, np.ndarray) else samples.weights(name, value)
        for name, value in weights.items()
    ]
    ports = [samples.value(name, shape) for name, shape in inputs.items()]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in node.output]
    return inspect_model(samples.save(helper.make_graph([node], "g", ports, outputs, tensors), path, domains=domains)).flops


CASES: list[tuple[NodeProto, dict[str, list[int]], dict[str, Any], int]] = [
    (helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1]), {"x": [2, 4, 8, 8]}, {"w": [6, 4, 3, 3]}, 2 * (2 * 6 * 64) * 4 * 9),
    (
        helper.make_node("Conv", ["x", "w", "b"], ["y"], strides=[2, 2]),
        {"x": [1, 4, 9, 9]},
        {"w": [6, 4, 3, 3], "b": [6]},
        6 * 16 * (2 * 36 + 1),
    ),
    (helper.make_node("Conv", ["x", "w"], ["y"], group=4), {"x": [1, 4, 8, 8]}, {"w": [4, 1, 3, 3]}, 2 * 4 * 36 * 9),
    (helper.make_node("Conv", ["x", "w"], ["y"]), {"x": [1, 2, 10]}, {"w": [3, 2, 5]}, 2 * 3 * 6 * 10),
    (helper.make_node("ConvTranspose", ["x", "w"], ["y"]), {"x": [1, 4, 5, 5]}, {"w": [4, 3, 2, 2]}, 2 * 4 * 25 * 3 * 4),
    (helper.make_node("MatMul", ["x", "w"], ["y"]), {"x": [2, 7, 5]}, {"w": [5, 3]}, 2 * 2 * 7 * 5 * 3),
    (helper.make_node("MatMul", ["x", "z"], ["y"]), {"x": [2, 4, 7, 5], "z": [2, 4, 5, 7]}, {}, 2 * 8 * 7 * 5 * 7),
    (helper.make_node("Gemm", ["x", "w"], ["y"], transA=1, transB=1), {"x": [5, 2]}, {"w": [3, 5]}, 2 * 2 * 5 * 3),
    (
        helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=6),
        {"x": [10, 2, 4]},
        {"w": [1, 24, 4], "r": [1, 24, 6]},
        20 * (2 * 24 * 10 + 60),
    ),
    (
        helper.make_node("GRU", ["x", "w", "r"], ["y"], hidden_size=6),
        {"x": [10, 2, 4]},
        {"w": [1, 18, 4], "r": [1, 18, 6]},
        20 * (2 * 18 * 10 + 60),
    ),
    (helper.make_node("Einsum", ["x", "z"], ["y"], equation="bij,bjk->bik"), {"x": [2, 3, 4], "z": [2, 4, 5]}, {}, 2 * 2 * 3 * 4 * 5),
    (helper.make_node("Softmax", ["x"], ["y"]), {"x": [2, 9]}, {}, 5 * 18),
    (helper.make_node("ReduceMean", ["x"], ["y"], axes=[1]), {"x": [2, 9]}, {}, 18),
    (helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2]), {"x": [1, 1, 4, 4]}, {}, 9 * 4),
    (helper.make_node("Transpose", ["x"], ["y"]), {"x": [2, 9]}, {}, 0),
    (helper.make_node("Sigmoid", ["x"], ["y"]), {"x": [2, 9]}, {}, 18),
]


@pytest.mark.parametrize(
    ("node", "inputs", "weights", "flops"), CASES, ids=[f"{case[0].op_type}-{number}" for number, case in enumerate(CASES)]
)
def test_an_operator_counts_by_its_formula(
    tmp_path: Path, node: NodeProto, inputs: dict[str, list[int]], weights: dict[str, Any], flops: int
) -> None:
    assert flops_of(tmp_path / "m.onnx", node, inputs, weights) == flops


def test_the_runtime_s_own_operators_count_too(tmp_path: Path) -> None:
    attention = helper.make_node("Attention", ["x", "w", "b"], ["y"], domain="com.microsoft", num_heads=2)
    found = flops_of(tmp_path / "m.onnx", attention, {"x": [1, 10, 8]}, {"w": [8, 24], "b": [24]}, domains=("com.microsoft",))
    assert found == 2 * 10 * 8 * 24 + 4 * 100 * 8
    nbits = helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", K=32, N=16, bits=4, block_size=32)
    weights = {"w": np.zeros((16, 1, 16), np.uint8), "s": [16]}
    assert flops_of(tmp_path / "n.onnx", nbits, {"x": [2, 5, 32]}, weights, domains=("com.microsoft",)) == 2 * 10 * 32 * 16


def test_a_shape_that_depends_on_data_leaves_flops_unknown(tmp_path: Path) -> None:
    assert flops_of(tmp_path / "m.onnx", helper.make_node("NonZero", ["x"], ["y"]), {"x": [4]}, {}) is None


def test_shapes_computed_by_exporters_are_followed(tmp_path: Path) -> None:
    """Flatten by Shape, Gather, Concat and Reshape, as old PyTorch exporters write it."""
    constants = {"zero": np.array(0), "minus": np.array([-1]), "axes": np.array([0])}
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["batch"]),
        helper.make_node("Unsqueeze", ["batch", "axes"], ["batch1"]),
        helper.make_node("Concat", ["batch1", "minus"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    tensors = [*(numpy_helper.from_array(value, name) for name, value in constants.items()), samples.weights("w", [12, 5])]
    graph = helper.make_graph(nodes, "g", [samples.value("x", ["n", 3, 4])], [samples.value("y", ["n", 5])], tensors)
    card = inspect_model(samples.save(graph, tmp_path / "m.onnx"), bindings={"n": 7})
    assert card.flops is not None
    assert card.flops >= 2 * 7 * 12 * 5
    assert card.flops < 2 * 7 * 12 * 5 + 20

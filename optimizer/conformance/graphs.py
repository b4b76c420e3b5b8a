"""Tiny graphs that exercise one trait each: names, types, shapes, control flow. Expected outputs come from ONNX's reference evaluator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from optimizer.conformance import tiny_models

Feeds = dict[str, np.ndarray[Any, Any]]
RNG = np.random.default_rng(3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A builder, feeds, and the backends that refuse it."""

    name: str
    build: Callable[[Path], Path]
    feeds: Feeds
    refused_by: frozenset[str] = field(default_factory=frozenset)

    def expected(self, model: Path) -> list[np.ndarray[Any, Any]]:
        return [np.asarray(array) for array in ReferenceEvaluator(str(model)).run(None, self.feeds)]


def _floats(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.normal(size=shape).astype(np.float32)


def _elementwise(dtype: int) -> Callable[[Path], Path]:
    def build(path: Path) -> Path:
        node = helper.make_node("Add", ["x", "x"], ["y"])
        inputs, outputs = [tiny_models.value("x", [2, 3], dtype=dtype)], [tiny_models.value("y", [2, 3], dtype=dtype)]
        return tiny_models.save(helper.make_graph([node], "typed", inputs, outputs), path)

    return build


def odd_names(path: Path) -> Path:
    """Names with colons, slashes, spaces, dots, digits first and letters of other alphabets."""
    nodes = [helper.make_node("Relu", ["serving default:0"], ["a/b:0"]), helper.make_node("Neg", ["serving default:0"], ["463"])]
    nodes.append(helper.make_node("Add", ["a/b:0", "вес.1"], ["onnx::Shape_422"]))
    inputs = [tiny_models.value("serving default:0", [1, 3]), tiny_models.value("вес.1", [1, 3])]
    outputs = [tiny_models.value(name, [1, 3]) for name in ("onnx::Shape_422", "463", "a/b:0")]
    return tiny_models.save(helper.make_graph(nodes, "odd", inputs, outputs), path)


def shared_output(path: Path) -> Path:
    """An output that is also an inner value, one that is an input passed through, and one listed first that is computed last."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Exp", ["r"], ["e"]),
        helper.make_node("Identity", ["x"], ["same"]),
    ]
    outputs = [tiny_models.value(name, [2, 2]) for name in ("e", "r", "same")]
    return tiny_models.save(helper.make_graph(nodes, "shared", [tiny_models.value("x", [2, 2])], outputs), path)


def passed_through(path: Path) -> Path:
    """An input that becomes an output as it is, beside one that is computed on: the runtime must still be fed by its own name."""
    nodes = [helper.make_node("Dropout", ["x"], ["same"]), helper.make_node("Relu", ["z"], ["y"])]
    inputs, outputs = (
        [tiny_models.value("x", ["n"]), tiny_models.value("z", ["n"])],
        [tiny_models.value("same", ["n"]), tiny_models.value("y", ["n"])],
    )
    return tiny_models.save(helper.make_graph(nodes, "passed", inputs, outputs), path)


def unused_input(path: Path) -> Path:
    """An input that no node reads."""
    node = helper.make_node("Relu", ["x"], ["y"])
    inputs = [tiny_models.value("unused", [3]), tiny_models.value("x", [2])]
    return tiny_models.save(helper.make_graph([node], "unused", inputs, [tiny_models.value("y", [2])]), path)


def without_initializers(path: Path) -> Path:
    """Weights as Constant nodes, as some exporters write them."""
    weight = helper.make_node("Constant", [], ["w"], value=tiny_models.weights("w", [4, 3]))
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([weight, node], "constants", [tiny_models.value("x", [2, 4])], [tiny_models.value("y", [2, 3])])
    return tiny_models.save(graph, path)


def old_opset(path: Path) -> Path:
    """Opset 11 with float attributes that later became inputs."""
    node = helper.make_node("Unsqueeze", ["x"], ["y"], axes=[0])
    return tiny_models.save(
        helper.make_graph([node], "old", [tiny_models.value("x", [3])], [tiny_models.value("y", [1, 3])]), path, opset=11
    )


def big_integers(path: Path) -> Path:
    """Integers beyond 32 bits must not be cut silently."""
    node = helper.make_node("Identity", ["x"], ["y"])
    inputs, outputs = [tiny_models.value("x", [2], dtype=TensorProto.INT64)], [tiny_models.value("y", [2], dtype=TensorProto.INT64)]
    return tiny_models.save(helper.make_graph([node], "big", inputs, outputs), path)


def nonzero(path: Path) -> Path:
    """An output whose shape depends on the data."""
    node = helper.make_node("NonZero", ["x"], ["y"])
    outputs = [tiny_models.value("y", [1, None], dtype=TensorProto.INT64)]
    return tiny_models.save(helper.make_graph([node], "nonzero", [tiny_models.value("x", [4])], outputs), path)


def logical(path: Path) -> Path:
    """Bool in, bool out."""
    node = helper.make_node("Not", ["x"], ["y"])
    inputs, outputs = [tiny_models.value("x", [3], dtype=TensorProto.BOOL)], [tiny_models.value("y", [3], dtype=TensorProto.BOOL)]
    return tiny_models.save(helper.make_graph([node], "logical", inputs, outputs), path)


def text(path: Path) -> Path:
    """Strings pass through."""
    node = helper.make_node("Identity", ["x"], ["y"])
    inputs, outputs = [tiny_models.value("x", [2], dtype=TensorProto.STRING)], [tiny_models.value("y", [2], dtype=TensorProto.STRING)]
    return tiny_models.save(helper.make_graph([node], "text", inputs, outputs), path)


def sequence_output(path: Path) -> Path:
    """An output that is no tensor."""
    node = helper.make_node("SequenceConstruct", ["x", "x"], ["s"])
    output = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, [2])
    return tiny_models.save(helper.make_graph([node], "sequence", [tiny_models.value("x", [2])], [output]), path)


OPENVINO = frozenset({"openvino"})

CASES: tuple[Case, ...] = (
    Case(name="mlp", build=tiny_models.mlp, feeds={"x": _floats(1, 16)}),
    Case(name="dynamic batch", build=tiny_models.dynamic_batch, feeds={"x": _floats(5, 16)}),
    Case(name="conv", build=tiny_models.conv, feeds={"image": _floats(1, 3, 32, 32)}),
    Case(
        name="token ids and mask in int64",
        build=tiny_models.encoder,
        feeds={"input_ids": RNG.integers(0, 64, (2, 7)), "attention_mask": np.ones((2, 7), np.int64)},
    ),
    Case(
        name="scalar int64 and state",
        build=tiny_models.recurrent,
        feeds={"input": _floats(1, 8), "state": _floats(1, 8), "sr": np.array(16000, np.int64)},
    ),
    Case(name="loop", build=tiny_models.loop, feeds={"x": _floats(1)}),
    Case(name="if taken", build=tiny_models.branch, feeds={"flag": np.array(True), "x": _floats(2)}),
    Case(name="if not taken", build=tiny_models.branch, feeds={"flag": np.array(False), "x": _floats(2)}),
    Case(name="odd names", build=odd_names, feeds={"serving default:0": _floats(1, 3), "вес.1": _floats(1, 3)}),
    Case(name="shared outputs", build=shared_output, feeds={"x": _floats(2, 2)}),
    Case(name="input passed through", build=passed_through, feeds={"x": _floats(3), "z": _floats(3)}),
    Case(name="unused input", build=unused_input, feeds={"unused": _floats(3), "x": _floats(2)}),
    Case(name="zero initializers", build=without_initializers, feeds={"x": _floats(2, 4)}),
    Case(name="old opset", build=old_opset, feeds={"x": _floats(3)}),
    Case(name="function body", build=tiny_models.with_function, feeds={"x": _floats(1)}, refused_by=OPENVINO),
    Case(name="float64", build=_elementwise(TensorProto.DOUBLE), feeds={"x": RNG.normal(size=(2, 3))}),
    Case(
        name="float16",
        build=_elementwise(TensorProto.FLOAT16),
        feeds={"x": _floats(2, 3).astype(np.float16)},
    ),
    Case(name="int32", build=_elementwise(TensorProto.INT32), feeds={"x": RNG.integers(-9, 9, (2, 3)).astype(np.int32)}),
    Case(name="int64", build=_elementwise(TensorProto.INT64), feeds={"x": RNG.integers(-9, 9, (2, 3))}),
    Case(name="uint8", build=_elementwise(TensorProto.UINT8), feeds={"x": RNG.integers(0, 9, (2, 3)).astype(np.uint8)}),
    Case(name="int8", build=_elementwise(TensorProto.INT8), feeds={"x": RNG.integers(-9, 9, (2, 3)).astype(np.int8)}),
    Case(name="bool", build=logical, feeds={"x": np.array([True, False, True])}),
    Case(name="text", build=text, feeds={"x": np.array(["a", "bc"], object)}, refused_by=OPENVINO),
    Case(name="data-dependent shape", build=nonzero, feeds={"x": np.array([0, 1, 0, 2], np.float32)}),
)

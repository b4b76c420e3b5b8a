"""The runtime's own model form keeps the names that callers know, whatever the rewrites drop beside the ports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from optimizer.backends import backend
from optimizer.passes.openvino_ir import write_ir
from optimizer.specs import BackendSettings
from tests import samples

SHAPE = (1, 3, 8, 8)


def wrapped(path: Path) -> Path:
    """``x`` passes a Cast to its own type, ``y`` an Identity: both are dropped. ``same`` is ``x`` itself."""
    nodes = [
        helper.make_node("Cast", ["x"], ["a_cast"], to=TensorProto.FLOAT),
        helper.make_node("Relu", ["a_cast"], ["a_result"]),
        helper.make_node("Identity", ["a_result"], ["y"]),
    ]
    return samples.save(helper.make_graph(nodes, "wrapped", [samples.value("x", SHAPE)], [samples.value("y", SHAPE)]), path)


def through(path: Path) -> Path:
    """``x`` -> ``y``, and ``x`` passed on as ``same``."""
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Identity", ["x"], ["same"])]
    outputs = [samples.value("y", SHAPE), samples.value("same", SHAPE)]
    return samples.save(helper.make_graph(nodes, "through", [samples.value("x", SHAPE)], outputs), path)


def test_ports_beside_dropped_nodes_keep_their_names(tmp_path: Path) -> None:
    entry = write_ir(wrapped(tmp_path / "model.onnx"), tmp_path / "ir", shapes={})
    session = backend("openvino").open(entry, BackendSettings())
    assert [one.name for one in session.inputs] == ["x"]
    assert [one.name for one in session.outputs] == ["y"]
    x = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    np.testing.assert_array_equal(session.run({"x": x})[0], np.maximum(x, 0))


def test_a_port_that_is_input_and_output_at_once_can_still_be_fed(tmp_path: Path) -> None:
    entry = write_ir(through(tmp_path / "model.onnx"), tmp_path / "ir", shapes={})
    session = backend("openvino").open(entry, BackendSettings())
    assert session.outputs[0].name == "y"
    x = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    found = session.run({session.inputs[0].name: x})
    np.testing.assert_array_equal(found[0], np.maximum(x, 0))
    np.testing.assert_array_equal(found[1], x)

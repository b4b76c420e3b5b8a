"""Tiny ONNX models, one trait each. Every builder writes one file and returns its path."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

IR_VERSION = 10
OPSET = 17


def save(graph: onnx.GraphProto, path: Path, *, opset: int = OPSET, domains: Sequence[str] = (), ir_version: int = IR_VERSION) -> Path:
    """Write the graph as a model file."""
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = helper.make_model(graph, opset_imports=imports, producer_name="parka-tests")
    model.ir_version = ir_version
    onnx.save(model, path)
    return path


def value(name: str, shape: Sequence[int | str | None], *, dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    """A float (by default) graph input or output."""
    return helper.make_tensor_value_info(name, dtype, list(shape))


def weights(name: str, shape: Sequence[int], *, seed: int = 0, scale: float = 0.1) -> onnx.TensorProto:
    """A seeded normal float32 initializer."""
    return numpy_helper.from_array((np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32), name)


def mlp(path: Path, *, batch: int | str = 1, width: int = 16, hidden: int = 32, classes: int = 4, layers: int = 1) -> Path:
    """Gemm + Relu blocks and a Softmax head: ``x`` f32 [batch, width] -> ``y`` f32 [batch, classes]."""
    sizes = [width, *[hidden] * layers, classes]
    nodes, initializers, current = [], [], "x"
    for index, (rows, columns) in enumerate(itertools.pairwise(sizes)):
        initializers += [weights(f"w{index}", [rows, columns], seed=index), weights(f"b{index}", [columns], seed=100 + index)]
        nodes.append(helper.make_node("Gemm", [current, f"w{index}", f"b{index}"], [f"h{index}"], name=f"gemm{index}"))
        current = f"h{index}"
        if index < len(sizes) - 2:
            nodes.append(helper.make_node("Relu", [current], [f"r{index}"], name=f"relu{index}"))
            current = f"r{index}"
    nodes.append(helper.make_node("Softmax", [current], ["y"], name="softmax", axis=-1))
    return save(helper.make_graph(nodes, "mlp", [value("x", [batch, width])], [value("y", [batch, classes])], initializers), path)


def conv(path: Path, *, batch: int | str = 1, size: int | str = 32, channels: int = 8, classes: int = 10) -> Path:
    """Conv, Relu, pooling and a linear head: ``image`` f32 [batch, 3, size, size] -> ``scores`` f32 [batch, classes]."""
    nodes = [
        helper.make_node("Conv", ["image", "k", "kb"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["scores"]),
    ]
    tensors = [weights("k", [channels, 3, 3, 3]), weights("kb", [channels]), weights("w", [channels, classes]), weights("b", [classes])]
    return save(
        helper.make_graph(nodes, "conv", [value("image", [batch, 3, size, size])], [value("scores", [batch, classes])], tensors), path
    )


def dynamic_batch(path: Path) -> Path:
    """The MLP with a symbolic batch named ``batch``."""
    return mlp(path, batch="batch")


def encoder(path: Path, *, vocabulary: int = 64, width: int = 16) -> Path:
    """Token embedding, masked mean pooling: ``input_ids``, ``attention_mask`` i64 [batch, sequence] -> ``embedding`` f32 [batch, width]."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["tokens"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),
        helper.make_node("Mul", ["tokens", "mask3"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "one"], ["total"], keepdims=0),
        helper.make_node("ReduceSum", ["mask3", "one"], ["count"], keepdims=0),
        helper.make_node("Div", ["total", "count"], ["embedding"]),
    ]
    tensors = [
        weights("table", [vocabulary, width], scale=1.0),
        numpy_helper.from_array(np.array([-1]), "last"),
        numpy_helper.from_array(np.array([1]), "one"),
    ]
    shape = ["batch", "sequence"]
    inputs = [value("input_ids", shape, dtype=TensorProto.INT64), value("attention_mask", shape, dtype=TensorProto.INT64)]
    return save(helper.make_graph(nodes, "encoder", inputs, [value("embedding", ["batch", width])], tensors), path)


def recurrent(path: Path, *, width: int = 8) -> Path:
    """A step with state and a sample rate: ``input`` f32 [1, width], ``state`` f32 [1, width], ``sr`` i64 -> ``output``, ``stateN``."""
    nodes = [
        helper.make_node("Add", ["input", "state"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["stateN"]),
        helper.make_node("Cast", ["sr"], ["rate"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["stateN", "rate"], ["output"]),
    ]
    inputs = [value("input", [1, width]), value("state", [1, width]), value("sr", [], dtype=TensorProto.INT64)]
    return save(helper.make_graph(nodes, "recurrent", inputs, [value("output", [1, width]), value("stateN", [1, width])]), path)


def identity(path: Path, *, size: int = 4) -> Path:
    """``x`` f32 [size] -> ``y`` unchanged: the floor of a harness."""
    return save(
        helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", [value("x", [size])], [value("y", [size])]), path
    )


def loop(path: Path, *, trips: int = 10) -> Path:
    """A Loop that adds one ``trips`` times; 2**62 trips never end."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Add", ["total", "one"], ["sum"])],
        "body",
        [value("i", [], dtype=TensorProto.INT64), value("go", [], dtype=TensorProto.BOOL), value("total", [1])],
        [value("go_on", [], dtype=TensorProto.BOOL), value("sum", [1])],
        [numpy_helper.from_array(np.ones(1, np.float32), "one")],
    )
    tensors = [numpy_helper.from_array(np.array(trips, np.int64), "trips"), numpy_helper.from_array(np.array(True), "start")]
    node = helper.make_node("Loop", ["trips", "start", "x"], ["y"], body=body)
    return save(helper.make_graph([node], "loop", [value("x", [1])], [value("y", [1])], tensors), path)


def branch(path: Path) -> Path:
    """An If on a boolean input: ``flag`` bool [], ``x`` f32 [2] -> ``y``."""
    yes = helper.make_graph([helper.make_node("Relu", ["x"], ["a"])], "yes", [], [value("a", [2])])
    no = helper.make_graph([helper.make_node("Neg", ["x"], ["b"])], "no", [], [value("b", [2])])
    node = helper.make_node("If", ["flag"], ["y"], then_branch=yes, else_branch=no)
    inputs = [value("flag", [], dtype=TensorProto.BOOL), value("x", [2])]
    return save(helper.make_graph([node], "branch", inputs, [value("y", [2])]), path)


def unsupported_op(path: Path) -> Path:
    """An operator that no opset knows, in the standard domain: intake accepts it with a warning, backends refuse it."""
    node = helper.make_node("FrobnicateTensor", ["x"], ["y"])
    return save(helper.make_graph([node], "unsupported", [value("x", [1])], [value("y", [1])]), path)


def custom_domain(path: Path, *, domain: str = "acme.ops", op: str = "Fancy") -> Path:
    """A custom operator without a function body."""
    node = helper.make_node(op, ["x"], ["y"], domain=domain)
    return save(helper.make_graph([node], "custom", [value("x", [1])], [value("y", [1])]), path, domains=[domain])


def with_function(path: Path) -> Path:
    """The same custom operator, defined as a function in the model."""
    custom_domain(path)
    model = onnx.load(path)
    body = [helper.make_node("Relu", ["a"], ["b"])]
    model.functions.append(helper.make_function("acme.ops", "Fancy", ["a"], ["b"], body, [helper.make_opsetid("", OPSET)]))
    onnx.save(model, path)
    return path


def external(folder: Path, *, build: Callable[[Path], Path] = mlp, data: str = "weights.bin") -> Path:
    """A model in ``folder`` whose weights all lie in the file ``data`` beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    model = onnx.load(build(folder / "model.onnx"))
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, all_tensors_to_one_file=True, location=data, size_threshold=0)
    return folder / "model.onnx"

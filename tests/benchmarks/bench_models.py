"""Models for the benchmarks: a convolution and a chain of matrix products, long enough for a wanted duration."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from time import perf_counter_ns

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from optimizer.backends import backend
from optimizer.specs import BackendSettings

ENTRY = "model.onnx"
INPUT = "x"
SHAPE = (1, 4, 16, 16)
WIDTH = 512
INPUTS = 16


def chain(path: Path, *, layers: int) -> Path:
    """``x`` [1, 4, 16, 16] -> Conv 4→8 -> rows [4, 512] -> ``layers`` × (MatMul 512x512, Tanh) -> ``y``."""
    rng = np.random.default_rng(5)
    kernel = numpy_helper.from_array((rng.normal(size=(8, 4, 3, 3)) / 6).astype(np.float32), "kernel")
    shape = numpy_helper.from_array(np.array([4, WIDTH], np.int64), "shape")
    weight = numpy_helper.from_array((rng.normal(size=(WIDTH, WIDTH)) / 20).astype(np.float32), "weight")
    nodes = [
        helper.make_node("Conv", [INPUT, "kernel"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", ["c", "shape"], ["t0"]),
    ]
    for layer in range(layers):
        nodes.append(helper.make_node("MatMul", [f"t{layer}", "weight"], [f"m{layer}"]))
        nodes.append(helper.make_node("Tanh", [f"m{layer}"], [f"t{layer + 1}"]))
    ends = [
        helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, SHAPE),
        helper.make_tensor_value_info(f"t{layers}", TensorProto.FLOAT, [4, WIDTH]),
    ]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], initializer=[kernel, shape, weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def feeds() -> list[dict[str, np.ndarray]]:
    """Sixteen distinct inputs."""
    return [{INPUT: np.random.default_rng(number).normal(size=SHAPE).astype(np.float32)} for number in range(INPUTS)]


def typical_ns(path: Path, *, calls: int = 30) -> float:
    """Median duration of a call in ONNX Runtime on one thread."""
    session = backend("onnxruntime").open(path, BackendSettings(threads=1))
    durations = []
    for number in range(calls):
        begin = perf_counter_ns()
        session.run(feeds()[number % INPUTS])
        durations.append(perf_counter_ns() - begin)
    session.close()
    return median(durations)


def model_of_about(target_ns: float, *, folder: Path) -> Path:
    """A chain whose call takes about ``target_ns`` on this machine; its folder holds the inputs too."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ENTRY
    few, many = (typical_ns(chain(path, layers=layers)) for layers in (1, 21))
    layers = max(1, round(1 + (target_ns - few) / max(1.0, (many - few) / 20)))
    np.savez(folder / "inputs.npz", **{INPUT: np.stack([feed[INPUT] for feed in feeds()])})
    return chain(path, layers=layers)

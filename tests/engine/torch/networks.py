"""A small residual network with everything that ties channels together, and examples for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from optimizer.formats import inspect_model
from optimizer.passes.base import PassContext
from optimizer.passes.verify import plain_session
from optimizer.specs import HardwareProfile, TaskKind
from tests import samples
from tests.engine.passes import models

SIDE, WIDTH, CLASSES = 8, 16, 4
SHAPE = (1, 1, SIDE, SIDE)
HOST = HardwareProfile(
    os="linux", os_version="12", architecture="x86_64", kernel="6", cpu_model="test", cores=1, memory_bytes=1 << 33, dot_int8=True,
    runtimes={"torch": "2.13.0", "onnxruntime": "1.32.0"},
)  # fmt: skip


def residual(path: Path, *, width: int = WIDTH, softmax: bool = False) -> Path:
    """Convolution, normalisation, two residual blocks, a depthwise convolution, flattening, two products; seeded weights."""
    rng = np.random.default_rng(2)
    stored: dict[str, np.ndarray[Any, Any]] = {}

    def weight(name: str, *shape: int) -> str:
        stored[name] = (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]) or 1)).astype(np.float32)
        return name

    def conv(name: str, source: str, *, groups: int = 1, inputs: int = width) -> onnx.NodeProto:
        names = [source, weight(f"{name}_w", width, inputs // groups, 3, 3), weight(f"{name}_b", width)]
        return helper.make_node("Conv", names, [name], name=name, pads=[1, 1, 1, 1], group=groups)

    stored.update({f"n{index}": rng.uniform(0.5, 1.5, width).astype(np.float32) for index in range(4)})
    nodes = [
        conv("stem", "x", inputs=1),
        helper.make_node("BatchNormalization", ["stem", "n0", "n1", "n2", "n3"], ["normal"]),
        helper.make_node("Relu", ["normal"], ["s0"]),
    ]
    for block in (1, 2):
        nodes += [
            conv(f"a{block}", f"s{block - 1}"),
            helper.make_node("Sigmoid", [f"a{block}"], [f"r{block}"]),
            conv(f"b{block}", f"r{block}"),
            helper.make_node("Add", [f"s{block - 1}", f"b{block}"], [f"s{block}"]),
        ]
    nodes += [
        conv("deep", "s2", groups=width),
        helper.make_node("MaxPool", ["deep"], ["pool"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["pool"], ["flat"]),
        helper.make_node("Gemm", ["flat", weight("g1", 24, width * SIDE * SIDE // 4), weight("g1_b", 24)], ["h"], transB=1),
        helper.make_node("LeakyRelu", ["h"], ["hr"]),
        helper.make_node("MatMul", ["hr", weight("g2", 24, CLASSES)], ["scores"]),
    ]
    output = "shares" if softmax else "scores"
    nodes += [helper.make_node("Softmax", ["scores"], ["shares"])] if softmax else []
    graph = helper.make_graph(
        nodes, "residual", [samples.value("x", SHAPE)], [samples.value(output, [1, CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )  # fmt: skip
    return samples.save(graph, path)


def pictures(count: int, *, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=(count, *SHAPE)).astype(np.float32)


def answers(model: Path, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Class of each example."""
    session = plain_session(model)
    return np.array([int(session.run(None, {"x": one})[0].argmax()) for one in x])


def examples(folder: Path, model: Path, *, count: int = 240, labels: bool = True) -> Path:
    """An input set's arrays; the labels are the model's own answers."""
    folder.mkdir(parents=True)
    x = pictures(count)
    np.savez(folder / "inputs.npz", x=x, **({"label": answers(model, x)} if labels else {}))
    return folder


def context_for(model: Path, folder: Path, *, labels: bool = True, task: TaskKind = TaskKind.CLASSIFICATION, seed: int = 1) -> PassContext:
    training = examples(folder / "training", model, labels=labels)
    return PassContext(
        card=inspect_model(model), hardware=HOST, work_dir=folder / "work", shapes={"x": SHAPE}, training=training, task=task, seed=seed,
        calibration=models.examples_folder(folder / "calibration", [{"x": one} for one in pictures(16, seed=9)]),
        checkpoints=folder / "checkpoints",
    )  # fmt: skip

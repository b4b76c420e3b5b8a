"""Forms that a pass weighs against each other are timed in turns, so that what the host does meets all alike."""

from __future__ import annotations

from pathlib import Path

from onnx import helper

from optimizer.pipeline.evaluating import ModelEvaluator, Yardstick
from optimizer.specs import BackendSettings, Recipe, TaskKind
from tests import samples
from tests.engine.passes import models


def stacked(path: Path, layers: int) -> Path:
    """``x`` [1, 32, 32, 32] -> so many equal convolutions -> ``y``."""
    tensors = [samples.weights(f"w{index}", [32, 32, 3, 3], seed=index, scale=0.05) for index in range(layers)]
    names = ["x", *(f"c{index}" for index in range(layers - 1)), "y"]
    nodes = [helper.make_node("Conv", [names[index], f"w{index}"], [names[index + 1]], pads=[1, 1, 1, 1]) for index in range(layers)]
    graph = helper.make_graph(nodes, "stacked", [samples.value("x", (1, 32, 32, 32))], [samples.value("y", (1, 32, 32, 32))], tensors)
    return samples.save(graph, path)


def test_forms_are_timed_side_by_side_and_the_larger_one_takes_longer(tmp_path: Path) -> None:
    """Twenty times the work, whichever comes first."""
    settings = BackendSettings(threads=1)
    small, large = stacked(tmp_path / "small.onnx", 1), stacked(tmp_path / "large.onnx", 20)
    evaluator = ModelEvaluator(
        source=small, runtime="onnxruntime", yardstick=Yardstick(reference=Recipe(backend="onnxruntime"), task=TaskKind.GENERIC),
        feeds=models.normal_feeds("x", (1, 32, 32, 32), count=3), shapes={}, work_dir=tmp_path / "work",
    )  # fmt: skip
    first, second = evaluator.seconds([(small, settings), (large, settings)])
    assert first < second / 2
    second, first = evaluator.seconds([(large, settings), (small, settings)])
    assert first < second / 2

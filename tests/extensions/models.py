"""A network with something for the example package's pass."""

from __future__ import annotations

from pathlib import Path

from onnx import helper

from tests import samples


def biased(path: Path, *, width: int = 64, layers: int = 3) -> Path:
    """``x`` f32 [1, width] -> ``layers`` x (MatMul, Add, Relu) -> ``y`` f32 [1, width]."""
    nodes, tensors, current = [], [], "x"
    for layer in range(layers):
        tensors += [samples.weights(f"w{layer}", [width, width], seed=layer), samples.weights(f"b{layer}", [width], seed=100 + layer)]
        nodes += [
            helper.make_node("MatMul", [current, f"w{layer}"], [f"m{layer}"], name=f"product{layer}"),
            helper.make_node("Add", [f"b{layer}", f"m{layer}"], [f"s{layer}"], name=f"bias{layer}"),
            helper.make_node("Relu", [f"s{layer}"], [f"r{layer}"]),
        ]
        current = f"r{layer}"
    graph = helper.make_graph(nodes, "biased", [samples.value("x", [1, width])], [samples.value(current, [1, width])], tensors)
    return samples.save(graph, path)

"""Reading and writing ONNX files inside a pass: external data, Constant nodes, counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx

from optimizer.passes.errors import PassFailed

ENTRY = "model.onnx"
WEIGHTS = "model.onnx.data"
STANDARD_DOMAINS = ("", "ai.onnx")
LARGEST_FILE_BYTES = 1_900_000_000
"""Protobuf ends at 2 GiB; above this, weights go beside the graph."""


def load(path: Path) -> onnx.ModelProto:
    """The model with its external data in memory. Raises ``pass.failed``."""
    try:
        return onnx.load(str(path))
    except Exception as error:  # protobuf, the checker and the file system each raise their own
        raise PassFailed(f"The model file cannot be read: {error}.") from error


def save(model: onnx.ModelProto, folder: Path) -> Path:
    """Write the model as the entry file of ``folder``; weights beside it when one file cannot hold them."""
    folder.mkdir(parents=True, exist_ok=True)
    entry = folder / ENTRY
    if model.ByteSize() > LARGEST_FILE_BYTES:
        onnx.save(model, str(entry), save_as_external_data=True, all_tensors_to_one_file=True, location=WEIGHTS)
    else:
        onnx.save(model, str(entry))
    return entry


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model of its own with the same content."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and every graph inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            inner = [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else list(attribute.graphs)
            for child in inner:
                yield from graphs(child)


def operators(model: onnx.ModelProto) -> Counter[str]:
    """How often each operator occurs, subgraphs included; Constant nodes are data and do not count."""
    return Counter(node.op_type for graph in graphs(model.graph) for node in graph.node if node.op_type != "Constant")


def constants_to_initializers(model: onnx.ModelProto) -> int:
    """Turn the main graph's tensor Constants into initializers, which is where quantizers look for weights; returns how many."""
    moved = [node for node in model.graph.node if node.op_type == "Constant" and any(a.name == "value" for a in node.attribute)]
    for node in moved:
        tensor = onnx.TensorProto()
        tensor.CopyFrom(next(a.t for a in node.attribute if a.name == "value"))
        tensor.name = node.output[0]
        model.graph.initializer.append(tensor)
    kept = [node for node in model.graph.node if not any(node is gone for gone in moved)]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return len(moved)


def opset(model: onnx.ModelProto) -> int:
    """Version of the standard operator set; 0 when the model imports none."""
    return next((entry.version for entry in model.opset_import if entry.domain in STANDARD_DOMAINS), 0)


def real_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Graph inputs that a caller feeds; old exporters list initializers among the inputs."""
    stored = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in stored]


def size_facts(before: onnx.ModelProto, after: onnx.ModelProto) -> dict[str, Any]:
    """Nodes and bytes before and after, for the report."""
    return {
        "nodes_before": operators(before).total(),
        "nodes_after": operators(after).total(),
        "bytes_before": before.ByteSize(),
        "bytes_after": after.ByteSize(),
    }

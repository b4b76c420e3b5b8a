"""Operations and bytes moved of an OpenVINO IR, counted by the formulas of the ONNX operators that its layers correspond to.

Shapes are those of the file: where it leaves a dim open, nothing is estimated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx import helper

from optimizer.formats.flops import PICKS, VIEWS, Dims, node_flops
from optimizer.formats.openvino_facts import ELEMENT_TYPES, PORT_PRECISIONS, IrFacts, IrGraph, IrLayer, IrPort

ONNX_NAMES = {
    "Convolution": "Conv", "GroupConvolution": "Conv", "ConvolutionBackpropData": "ConvTranspose", "AvgPool": "AveragePool",
    "SoftMax": "Softmax", "LogSoftmax": "LogSoftmax", "Convert": "Cast", "Broadcast": "Expand", "StridedSlice": "Slice", "MVN": "LayerNormalization",
    "GroupConvolutionBackpropData": "ConvTranspose", "VariadicSplit": "Split", "Select": "Where", "LSTMSequence": "LSTM", "GRUSequence": "GRU",
    "RNNSequence": "RNN", "ScaledDotProductAttention": "MultiHeadAttention", "ShapeOf": "Shape", "ReLU": "Relu",
}  # fmt: skip
"""Layers whose operator goes by another name in ONNX."""
RECURRENT_INPUTS = {"LSTMSequence": (0, 4, 5), "GRUSequence": (0, 3, 4), "RNNSequence": (0, 3, 4)}
"""Places of the data, the weights and the recurrent weights."""
GROUPED = frozenset({"GroupConvolution", "GroupConvolutionBackpropData"})
WITHOUT_WORK = frozenset({"Parameter", "Result", "Const"})
NESTED = frozenset({"If", "Loop", "TensorIterator"})
PASSING = frozenset({"Convert", "Reshape", "Squeeze", "Unsqueeze", "Clamp"})


def work(facts: IrFacts) -> tuple[int | None, int | None, str]:
    """FLOPs and bytes moved of one call, or None with the reason."""
    flops, traffic = 0, 0.0
    folded = _folded(facts.main)
    for layer in facts.main.layers:
        if layer.kind in WITHOUT_WORK or layer.id in folded:
            continue
        counted = _layer_flops(layer)
        if counted is None:
            return (
                None,
                None,
                f"FLOPs are not estimated: the shapes at the {layer.kind[:60]} layer {layer.name[:80]!r} are not fixed in the file.",
            )
        flops += counted
        traffic += _traffic(layer)
    return flops, round(traffic), ""


def _folded(graph: IrGraph) -> set[str]:
    """Layers that compute on constants alone: a compiler does them once. Layers stand in the order of execution."""
    makers: dict[str, list[str]] = {}
    for (target, _), (source, _) in graph.sources.items():
        makers.setdefault(target, []).append(source)
    folded: set[str] = set()
    for layer in graph.layers:
        if layer.kind == "Const" or (layer.id in makers and folded.issuperset(makers[layer.id])):
            folded.add(layer.id)
    return folded


def _layer_flops(layer: IrLayer) -> int | None:
    if layer.kind in NESTED or not all(port.is_static for port in (*layer.inputs, *layer.outputs)):
        return None
    node = helper.make_node(ONNX_NAMES.get(layer.kind, layer.kind), [port.id for port in layer.inputs], ["y"], **_attributes(layer.data))
    return node_flops(node, _input_dims(layer), [port.dims for port in layer.outputs])


def _attributes(data: Mapping[str, str]) -> dict[str, Any]:
    """The attributes that the formulas read."""
    found: dict[str, Any] = {"transA": 1} if data.get("transpose_a") == "true" else {}
    kernel = data.get("kernel", "")
    if kernel and all(part.strip().isdecimal() for part in kernel.split(",")):
        found["kernel_shape"] = [int(part) for part in kernel.split(",")]
    return found


def _input_dims(layer: IrLayer) -> list[Dims]:
    """Shapes of the inputs as ONNX has them: groups are no dim of their own, and recurrent layers have their weights second."""
    dims = [port.dims for port in layer.inputs]
    if layer.kind in GROUPED and len(dims) > 1 and len(dims[1]) > 2:
        groups, first, *rest = dims[1]
        dims[1] = (groups * first, *rest)
    places = RECURRENT_INPUTS.get(layer.kind)
    if places and len(dims) > places[-1]:
        return [dims[place] for place in places]
    return dims[:1] if layer.kind == "ConvolutionBackpropData" and len(dims) < 2 else dims


def _traffic(layer: IrLayer) -> float:
    kind = ONNX_NAMES.get(layer.kind, layer.kind)
    if kind in VIEWS:
        return 0.0
    written = sum(_bytes(port) for port in layer.outputs)
    return 2 * written if kind in PICKS else written + sum(_bytes(port) for port in layer.inputs)


def _bytes(port: IrPort) -> float:
    size = ELEMENT_TYPES.get(PORT_PRECISIONS.get(port.precision, port.precision.lower()), ("", 0))[1] / 8
    for dim in port.dims:
        size *= dim
    return size


def vocabularies(graph: IrGraph) -> dict[str, int]:
    """Rows of the constant table that each integer input indexes (the smallest, if several), by the input's tensor name."""
    folded = _folded(graph)
    source = {layer.id: min(layer.outputs[0].names, default=layer.name) for layer in graph.layers if _is_index(layer)}
    rows: dict[str, int] = {}
    for layer in graph.layers:
        feeds = [graph.sources.get((layer.id, port.id), ("", ""))[0] for port in layer.inputs]
        if layer.kind in PASSING and feeds and feeds[0] in source:
            source[layer.id] = source[feeds[0]]
        if layer.kind == "Gather" and len(feeds) > 1 and feeds[0] in folded and feeds[1] in source and layer.inputs[0].dims:
            count = layer.inputs[0].dims[0]
            name = source[feeds[1]]
            rows[name] = min(rows.get(name, count), count)
    return rows


def _is_index(layer: IrLayer) -> bool:
    return layer.kind == "Parameter" and bool(layer.outputs) and layer.data.get("element_type") in ("i32", "i64")

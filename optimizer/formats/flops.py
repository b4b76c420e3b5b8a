"""Floating-point (or integer) operations of one node; a multiply-add counts two.

Convolutions, matrix products, attention and recurrent cells are counted by their formulas; other arithmetic counts one
operation per output element (a softmax five, a normalisation eight, reductions and pooling one per element read), moving data
none. Formulas: the operators' definitions at https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import onnx
from onnx import helper

Dims = tuple[int, ...]
Known = Sequence[Dims | None]
Formula = Callable[[Known, Known, Mapping[str, Any]], int]

MOVES = frozenset({
    "Constant", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Shape", "Size", "Transpose", "Concat", "Split", "Slice", "Gather",
    "GatherElements", "GatherND", "ScatterElements", "ScatterND", "Scatter", "Expand", "Tile", "Pad", "Cast", "CastLike", "ConstantOfShape",
    "Range", "Where", "DepthToSpace", "SpaceToDepth", "Dropout", "OneHot", "EyeLike", "Trilu", "ReverseSequence", "NonZero", "Compress",
})  # fmt: skip
VIEWS = frozenset({"Constant", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Shape", "Size", "Dropout"})
PICKS = frozenset({"Gather", "GatherElements", "GatherND", "Slice"})
PER_ELEMENT = {
    "Softmax": 5, "LogSoftmax": 5, "LayerNormalization": 8, "RMSNormalization": 6, "BatchNormalization": 2, "InstanceNormalization": 8,
    "GroupNormalization": 8, "SkipLayerNormalization": 9, "SimplifiedLayerNormalization": 6, "Gelu": 8, "FastGelu": 8, "BiasGelu": 9,
    "LRN": 8, "HardSwish": 4, "HardSigmoid": 4, "Mish": 8,
}  # fmt: skip


def node_flops(node: onnx.NodeProto, inputs: Known, outputs: Known) -> int | None:
    """Operations of the node at these shapes; None when a shape that matters is unknown."""
    if node.op_type in MOVES:
        return 0
    formula = FORMULAS.get(node.op_type)
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute if not attribute.HasField("t")}
    try:
        if formula is not None:
            return formula(inputs, outputs, attributes)
        if node.op_type.startswith("Reduce") or node.op_type in (
            "ArgMax",
            "ArgMin",
            "GlobalAveragePool",
            "GlobalMaxPool",
            "CumSum",
            "TopK",
        ):
            return prod(_known(inputs, 0))
        return PER_ELEMENT.get(node.op_type, 1) * prod(_known(outputs, 0))
    except (LookupError, TypeError, ValueError):
        return None


def _known(shapes: Known, place: int) -> Dims:
    dims = shapes[place]
    if dims is None:
        raise LookupError(place)
    return dims


def _conv(weight: int, bias: int) -> Formula:
    def formula(inputs: Known, outputs: Known, attributes: Mapping[str, Any]) -> int:
        out = prod(_known(outputs, 0))
        return out * (2 * prod(_known(inputs, weight)[1:]) + (len(inputs) > bias and inputs[bias] is not None))

    return formula


def _conv_transpose(inputs: Known, outputs: Known, attributes: Mapping[str, Any]) -> int:
    bias = prod(_known(outputs, 0)) if len(inputs) > 2 else 0
    return 2 * prod(_known(inputs, 0)) * prod(_known(inputs, 1)[1:]) + bias


def _matmul(left: int = 0) -> Formula:
    def formula(inputs: Known, outputs: Known, attributes: Mapping[str, Any]) -> int:
        dims = _known(inputs, left)
        return 2 * prod(_known(outputs, 0)) * dims[-2 if attributes.get("transA") else -1]

    return formula


def _gemm(inputs: Known, outputs: Known, attributes: Mapping[str, Any]) -> int:
    out, left = prod(_known(outputs, 0)), _known(inputs, 0)
    return out * (2 * left[0 if attributes.get("transA") else 1] + (len(inputs) > 2 and inputs[2] is not None))


def _matmul_nbits(inputs: Known, outputs: Known, attributes: Mapping[str, Any]) -> int:
    return 2 * prod(_known(inputs, 0)[:-1]) * int(attributes["K"]) * int(attributes["N"])


def _pool(inputs: Known, outputs: Known, attributes: Mapping[str, Any]) -> int:
    window: Sequence[int] = attributes["kernel_shape"]
    return prod(_known(outputs, 0)) * prod(window)


def _recurrent(gates: int) -> Formula:
    """X [steps, batch, width], W [directions, gates*hidden, width], R [directions, gates*hidden, hidden]."""

    def formula(inputs: Known, outputs: Known, attributes: Mapping[str, Any]) -> int:
        steps_and_batch, weights, recurrence = prod(_known(inputs, 0)[:2]), _known(inputs, 1), _known(inputs, 2)
        per_step = 2 * (prod(weights) + prod(recurrence)) + 10 * weights[0] * recurrence[2]
        return steps_and_batch * per_step

    return formula


def _scores(batch: int, queries: int, keys: int, width: int) -> int:
    """Both products of attention over all heads."""
    return 4 * batch * queries * keys * width


def _fused_attention(inputs: Known, outputs: Known, attributes: Mapping[str, Any]) -> int:
    """com.microsoft.Attention: input [batch, sequence, width], weights [width, 3*hidden]; or onnx Attention on Q, K, V."""
    first = _known(inputs, 0)
    if "num_heads" in attributes and "q_num_heads" not in attributes:
        batch, sequence, width = first
        hidden = _known(inputs, 1)[1]
        return 2 * batch * sequence * width * hidden + _scores(batch, sequence, sequence, hidden // 3)
    return _query_attention(inputs, outputs, attributes)


def _query_attention(inputs: Known, outputs: Known, attributes: Mapping[str, Any]) -> int:
    """Q, K, V of rank 3 [batch, sequence, width] or rank 4 [batch, heads, sequence, size]."""
    query, key = _known(inputs, 0), _known(inputs, 1)
    if len(query) == 4:
        return _scores(query[0] * query[1], query[2], key[2], query[3])
    return _scores(query[0], query[1], key[1], query[2])


def _einsum(inputs: Known, outputs: Known, attributes: Mapping[str, Any]) -> int:
    equation = attributes["equation"].decode().replace(" ", "")
    terms = equation.split("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, place in zip(terms, range(len(inputs)), strict=True):
        dims = _known(inputs, place)
        if "." in term or len(term) != len(dims):
            raise LookupError(equation)
        sizes.update(zip(term, dims, strict=True))
    return 2 * prod(sizes.values())


FORMULAS: dict[str, Formula] = {
    "Conv": _conv(1, 2),
    "FusedConv": _conv(1, 2),
    "NhwcFusedConv": _conv(1, 2),
    "ConvInteger": _conv(1, 9),
    "QLinearConv": _conv(3, 8),
    "ConvTranspose": _conv_transpose,
    "MatMul": _matmul(),
    "FusedMatMul": _matmul(),
    "MatMulInteger": _matmul(),
    "QLinearMatMul": _matmul(),
    "DynamicQuantizeMatMul": _matmul(),
    "MatMulIntegerToFloat": _matmul(),
    "MatMulNBits": _matmul_nbits,
    "Gemm": _gemm,
    "QGemm": _matmul(),
    "Einsum": _einsum,
    "LSTM": _recurrent(4),
    "GRU": _recurrent(3),
    "RNN": _recurrent(1),
    "Attention": _fused_attention,
    "QAttention": _fused_attention,
    "MultiHeadAttention": _query_attention,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "LpPool": _pool,
}

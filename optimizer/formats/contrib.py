"""Output shapes of ONNX Runtime's own operators (domain com.microsoft), for which onnx has no rules.

Source: docs/ContribOperators.md of onnxruntime. What is not listed stays unknown.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import TensorProto, helper

SAME_AS_FIRST = frozenset({
    "Gelu", "FastGelu", "BiasGelu", "QuickGelu", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "QAttention",
    "SimplifiedLayerNormalization", "MultiHeadAttention", "BiasSoftmax", "RotaryEmbedding", "QLinearSigmoid", "QLinearAdd", "QLinearMul",
    "QLinearLeakyRelu", "QLinearSoftmax", "Inverse",
})  # fmt: skip


def contrib_types(node: onnx.NodeProto, types: Mapping[str, onnx.TypeProto]) -> dict[str, onnx.TypeProto]:
    """Types of the node's first output, as far as the table goes."""
    first = types.get(node.input[0]) if node.input else None
    if first is None or not node.output:
        return {}
    if node.op_type in SAME_AS_FIRST:
        return {node.output[0]: first}
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    dims = _dims(first)
    if node.op_type in ("FusedMatMul", "DynamicQuantizeMatMul", "MatMulIntegerToFloat") and len(node.input) > 1:
        return _product(node, dims, _dims(types.get(node.input[1])), attributes)
    if node.op_type == "MatMulNBits" and dims:
        return {node.output[0]: helper.make_tensor_type_proto(first.tensor_type.elem_type, [*dims[:-1], attributes["N"]])}
    if node.op_type == "Attention" and dims and len(node.input) > 1:
        hidden = attributes.get("qkv_hidden_sizes", [0, 0, dims[-1]])[2]
        return {node.output[0]: helper.make_tensor_type_proto(first.tensor_type.elem_type, [*dims[:2], hidden])}
    if node.op_type == "EmbedLayerNormalization" and dims and len(node.input) > 2:
        table = _dims(types.get(node.input[2]))
        return {node.output[0]: helper.make_tensor_type_proto(TensorProto.FLOAT, [*dims, table[-1]])} if table else {}
    return {}


def _product(
    node: onnx.NodeProto, left: tuple[int, ...] | None, right: tuple[int, ...] | None, attributes: Mapping[str, int]
) -> dict[str, onnx.TypeProto]:
    if not left or not right or len(left) < 2 or len(right) < 2:
        return {}
    rows = left[-1] if attributes.get("transA") else left[-2]
    columns = right[-2] if attributes.get("transB") else right[-1]
    batch = max(left[:-2], right[:-2], key=len)
    return {node.output[0]: helper.make_tensor_type_proto(TensorProto.FLOAT, [*batch, rows, columns])}


def _dims(found: onnx.TypeProto | None) -> tuple[int, ...] | None:
    if found is None or not found.tensor_type.HasField("shape"):
        return None
    dims = found.tensor_type.shape.dim
    return tuple(dim.dim_value for dim in dims) if all(dim.HasField("dim_value") for dim in dims) else None

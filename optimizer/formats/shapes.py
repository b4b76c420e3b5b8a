"""Concrete shapes of the main graph's values at bound input shapes.

onnx's own inference rule is asked for one node at a time, and the small integer tensors that carry shapes (Shape, Gather,
Concat, ...) are computed beside it, so exported Reshape chains resolve. Weights are never loaded; the result is bounded by the
walker's caps. Subgraphs and model functions are left unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import checker, helper, numpy_helper, shape_inference

from optimizer.formats.contrib import contrib_types
from optimizer.formats.onnx_facts import ModelFacts, NodeFact, TensorFact
from optimizer.formats.onnx_rules import plain_domain
from optimizer.formats.onnx_schema import DTYPES
from optimizer.formats.onnx_tensors import tensor_values
from optimizer.formats.protobuf import Reader
from optimizer.formats.small_values import MAX_VALUES, small_values

MAX_NODES = 100_000
MAX_NODE_BYTES = 1 << 20
DTYPE_CODES = {name: code for code, (name, _) in DTYPES.items()}
INFERENCE_ERRORS = (
    shape_inference.InferenceError,
    checker.ValidationError,
    RuntimeError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    DecodeError,
)

Dims = tuple[int, ...]


@dataclass(slots=True, kw_only=True)
class Inferred:
    """What is known of the main graph's values: dims by name, bytes of one element by name, and the names fixed by the file."""

    dims: dict[str, Dims] = field(default_factory=dict)
    item_bytes: dict[str, float] = field(default_factory=dict)
    constants: set[str] = field(default_factory=set)
    protos: dict[int, onnx.NodeProto] = field(default_factory=dict)


def infer(facts: ModelFacts, reader: Reader, shapes: Mapping[str, Dims]) -> Inferred:
    """Shapes at the given input shapes; values that stay unknown are missing."""
    return _Inference(facts, reader).run(shapes)


class _Inference:
    def __init__(self, facts: ModelFacts, reader: Reader) -> None:
        self.facts = facts
        self.reader = reader
        self.result = Inferred()
        self.types: dict[str, onnx.TypeProto] = {}
        self.values: dict[str, np.ndarray[Any, Any]] = {}
        self.opsets = {plain_domain(domain): version for domain, version in facts.opsets.items()}
        self.imports = [helper.make_opsetid(domain, version) for domain, version in self.opsets.items()]
        self.defined = {(function.domain, function.name) for function in facts.functions}

    def run(self, shapes: Mapping[str, Dims]) -> Inferred:
        for port in self.facts.main.inputs:
            if port.name in shapes and port.dtype:
                self._know(port.name, port.dtype, shapes[port.name])
        for tensor in self.facts.main.initializers:
            self._constant(tensor.name, tensor)
        for index, node in enumerate(self.facts.main.nodes):
            self._node(index, node)
        return self.result

    def _know(self, name: str, dtype: str, dims: Dims) -> None:
        code = DTYPE_CODES.get(dtype)
        if code is not None:
            self._learn(name, helper.make_tensor_type_proto(code, list(dims)))

    def _constant(self, name: str, tensor: TensorFact) -> None:
        self.result.constants.add(name)
        self._know(name, tensor.dtype, tensor.dims)
        values = tensor_values(self.reader, tensor, most=MAX_VALUES)
        if values is not None:
            self.values[name] = values

    def _learn(self, name: str, found: onnx.TypeProto) -> None:
        """Keep a type; only a fully known shape counts as known."""
        self.types[name] = found
        tensor = found.tensor_type
        if found.WhichOneof("value") != "tensor_type" or not tensor.HasField("shape"):
            return
        if all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in tensor.shape.dim):
            self.result.dims[name] = tuple(dim.dim_value for dim in tensor.shape.dim)
            self.result.item_bytes[name] = DTYPES[tensor.elem_type][1] / 8 if tensor.elem_type in DTYPES else 0.0

    def _node(self, index: int, node: NodeFact) -> None:
        domain = plain_domain(node.domain)
        if node.op_type == "Constant" and not domain and node.tensors:
            for output in node.outputs[:1]:
                self._constant(output, node.tensors[0][1])
            return
        if node.graphs or (node.domain, node.op_type) in self.defined or node.span[1] - node.span[0] > MAX_NODE_BYTES:
            return
        try:
            proto = onnx.NodeProto.FromString(self.reader.buffer[node.span[0] : node.span[1]])
            self.result.protos[index] = proto
            types = self._infer_types(proto, domain)
        except INFERENCE_ERRORS:
            return
        for name, found in types.items():
            self._learn(name, found)
        if all(name in self.result.constants for name in node.inputs if name):
            self.result.constants.update(node.outputs)
        self._propagate(proto, domain)

    def _infer_types(self, proto: onnx.NodeProto, domain: str) -> Mapping[str, onnx.TypeProto]:
        if not onnx.defs.has(proto.op_type, self.opsets.get(domain, 1), domain):
            return contrib_types(proto, self.types)
        schema = onnx.defs.get_schema(proto.op_type, self.opsets.get(domain, 1), domain)
        inputs = {name: self.types[name] for name in proto.input if name in self.types}
        data = {name: numpy_helper.from_array(self.values[name], name) for name in proto.input if name in self.values}
        found: dict[str, onnx.TypeProto] = shape_inference.infer_node_outputs(
            schema, proto, inputs, data, opset_imports=self.imports, ir_version=self.facts.ir_version
        )
        return found

    def _propagate(self, proto: onnx.NodeProto, domain: str) -> None:
        if domain or len(proto.output) != 1:
            return
        if proto.op_type == "Shape" and proto.input[0] in self.result.dims:
            values = small_values(proto, [np.array(self.result.dims[proto.input[0]], np.int64)])
        elif all(not name or name in self.values for name in proto.input):
            values = small_values(proto, [self.values[name] if name else None for name in proto.input])
        else:
            return
        if values is not None:
            self.values[proto.output[0]] = values
            self._know(proto.output[0], values.dtype.name, values.shape)

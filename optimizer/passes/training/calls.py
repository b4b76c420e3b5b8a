"""One node of an ONNX graph as plain Python values: what operators are carried out from, without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from optimizer.passes.errors import PassFailed
from optimizer.passes.onnx_files import STANDARD_DOMAINS, opset


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A node: operator, its name, attributes as Python values, names of inputs and outputs, version of the operator set."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    opset: int
    attributes: dict[str, Any] = field(default_factory=dict)

    def get(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)

    def refuse(self, why: str) -> PassFailed:
        """The refusal of this node, naming it."""
        return PassFailed(f"The operator {self.kind} (node {self.name!r}) cannot be trained here: {why}.")


Operator = Callable[[Call, Sequence[Any]], Any]
"""Carries out one node: the call and its inputs in order give its output, or all of them."""


def given(inputs: Sequence[Any], index: int) -> Any:
    """An input that may be left out; None when it is."""
    return inputs[index] if index < len(inputs) else None


def calls_of(model: onnx.ModelProto) -> list[Call]:
    """The nodes of the main graph in order. Raises ``pass.failed`` for operators outside the standard set."""
    version = opset(model)
    found = []
    for index, node in enumerate(model.graph.node):
        call = Call(
            kind=node.op_type,
            name=node.name or f"{node.op_type}_{index}",
            inputs=tuple(node.input),
            outputs=tuple(node.output),
            opset=version,
            attributes={one.name: _value(one) for one in node.attribute},
        )
        if node.domain not in STANDARD_DOMAINS:
            raise call.refuse(f"it belongs to the operator set {node.domain!r}, not to ONNX's own")
        found.append(call)
    return found


def _value(attribute: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return list(value) if attribute.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS) else value


def arrays_of(model: onnx.ModelProto) -> dict[str, np.ndarray[Any, Any]]:
    """The initializers by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}

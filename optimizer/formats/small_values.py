"""Evaluates the small integer tensors with which exporters compute shapes; anything large or unusual stays unknown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

MAX_VALUES = 1_024
Array = np.ndarray[Any, Any]
Attributes = dict[str, Any]
Rule = Callable[[list[Array | None], Attributes], Array | None]


def small_values(node: onnx.NodeProto, inputs: Sequence[Array | None]) -> Array | None:
    """The node's single output, when it is a known small computation; for Shape the input is the shape itself."""
    rule = RULES.get(node.op_type)
    if rule is None:
        return None
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute if not attribute.ref_attr_name}
    try:
        with np.errstate(all="ignore"):
            values = rule(list(inputs), attributes)
    except (ValueError, IndexError, TypeError, KeyError, ZeroDivisionError, OverflowError, MemoryError):
        return None
    return values if values is not None and values.size <= MAX_VALUES else None


def _first(inputs: list[Array | None]) -> Array:
    if inputs[0] is None:
        raise ValueError
    return inputs[0]


def _axes(inputs: list[Array | None], attributes: Attributes, place: int = 1) -> tuple[int, ...] | None:
    given = inputs[place] if len(inputs) > place and inputs[place] is not None else attributes.get("axes")
    return None if given is None else tuple(int(axis) for axis in given)


def _shape(inputs: list[Array | None], attributes: Attributes) -> Array:
    return _first(inputs)[attributes.get("start", 0) : attributes.get("end")]


def _constant(inputs: list[Array | None], attributes: Attributes) -> Array | None:
    for name, dtype in (("value_int", np.int64), ("value_ints", np.int64), ("value_float", np.float32), ("value_floats", np.float32)):
        if name in attributes and np.size(attributes[name]) <= MAX_VALUES:
            return np.array(attributes[name], dtype)
    return None


def _cast(inputs: list[Array | None], attributes: Attributes) -> Array | None:
    names = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_, 11: np.float64}
    kind = names.get(attributes["to"])
    return None if kind is None else _first(inputs).astype(kind)


def _unsqueeze(inputs: list[Array | None], attributes: Attributes) -> Array:
    return np.expand_dims(_first(inputs), _axes(inputs, attributes) or ())


def _squeeze(inputs: list[Array | None], attributes: Attributes) -> Array:
    return np.squeeze(_first(inputs), _axes(inputs, attributes))


def _slice(inputs: list[Array | None], attributes: Attributes) -> Array:
    data = _first(inputs)
    if "starts" in attributes:
        starts, ends, axes, steps = attributes["starts"], attributes["ends"], attributes.get("axes"), None
    else:
        starts, ends, axes, steps = (*inputs[1:], None, None)[:4]
    places = [slice(None)] * data.ndim
    for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = index if axes is None else int(axes[index])
        step = 1 if steps is None else int(steps[index])
        places[axis] = slice(int(start), None if step < 0 and end < -data.shape[axis] else int(end), step)
    return data[tuple(places)]


def _reshape(inputs: list[Array | None], attributes: Attributes) -> Array:
    data, wanted = _first(inputs), inputs[1]
    if wanted is None:
        raise ValueError
    return data.reshape([data.shape[axis] if size == 0 else int(size) for axis, size in enumerate(wanted)])


def _filled(inputs: list[Array | None], attributes: Attributes) -> Array | None:
    shape = [int(size) for size in _first(inputs)]
    if any(size < 0 for size in shape) or np.prod(shape, dtype=float) > MAX_VALUES:
        return None
    fill = onnx.numpy_helper.to_array(attributes["value"]) if "value" in attributes else np.zeros(1, np.float32)
    return np.full(shape, fill.reshape(-1)[0])


def _expand(inputs: list[Array | None], attributes: Attributes) -> Array | None:
    data, wanted = _first(inputs), inputs[1]
    if wanted is None or wanted.size > 16 or np.prod(wanted, dtype=float) * max(1, data.size) > MAX_VALUES:
        return None
    return data * np.ones([int(size) for size in wanted], data.dtype)


def _range(inputs: list[Array | None], attributes: Attributes) -> Array | None:
    start, limit, delta = (float(np.asarray(value)) for value in inputs)
    if delta == 0 or (limit - start) / delta > MAX_VALUES:
        return None
    return np.arange(start, limit, delta).astype(_first(inputs).dtype)


def _divided(inputs: list[Array | None], attributes: Attributes) -> Array:
    """Integer division truncates towards zero in ONNX."""
    left, right = _first(inputs), inputs[1]
    if right is None or not np.all(right):
        raise ValueError
    quotient = np.trunc(left / right)
    return quotient.astype(left.dtype) if left.dtype.kind in "iu" else (left / right).astype(left.dtype)


def _reduced(function: Callable[..., Any]) -> Rule:
    def rule(inputs: list[Array | None], attributes: Attributes) -> Array:
        return np.asarray(function(_first(inputs), axis=_axes(inputs, attributes), keepdims=bool(attributes.get("keepdims", 1))))

    return rule


def _pointwise(function: Callable[..., Any]) -> Rule:
    def rule(inputs: list[Array | None], attributes: Attributes) -> Array:
        return np.asarray(function(*inputs))

    return rule


RULES: dict[str, Rule] = {
    "Shape": _shape,
    "Size": lambda inputs, attributes: np.array(_first(inputs).size, np.int64),
    "Constant": _constant,
    "Identity": lambda inputs, attributes: _first(inputs),
    "Cast": _cast,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Slice": _slice,
    "Reshape": _reshape,
    "ConstantOfShape": _filled,
    "Expand": _expand,
    "Range": _range,
    "Gather": lambda inputs, attributes: np.take(_first(inputs), np.asarray(inputs[1]), axis=attributes.get("axis", 0)),
    "Concat": lambda inputs, attributes: np.concatenate([np.asarray(value) for value in inputs], axis=attributes["axis"]),
    "Transpose": lambda inputs, attributes: np.transpose(_first(inputs), attributes.get("perm")),
    "ReduceProd": _reduced(np.prod),
    "ReduceSum": _reduced(np.sum),
    "ReduceMax": _reduced(np.max),
    "ReduceMin": _reduced(np.min),
    "Add": _pointwise(np.add),
    "Sub": _pointwise(np.subtract),
    "Mul": _pointwise(np.multiply),
    "Div": _divided,
    "Mod": _pointwise(np.mod),
    "Neg": _pointwise(np.negative),
    "Abs": _pointwise(np.abs),
    "Floor": _pointwise(np.floor),
    "Ceil": _pointwise(np.ceil),
    "Max": lambda inputs, attributes: np.asarray(np.maximum.reduce([np.asarray(value) for value in inputs])),
    "Min": lambda inputs, attributes: np.asarray(np.minimum.reduce([np.asarray(value) for value in inputs])),
    "Equal": _pointwise(np.equal),
    "Greater": _pointwise(np.greater),
    "Less": _pointwise(np.less),
    "And": _pointwise(np.logical_and),
    "Or": _pointwise(np.logical_or),
    "Not": _pointwise(np.logical_not),
    "Where": _pointwise(np.where),
}

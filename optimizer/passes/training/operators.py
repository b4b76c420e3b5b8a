"""ONNX operators as PyTorch functions, differentiable where the operator is. Imports torch: import this where it is needed only.

Source of every meaning: the ONNX operator specification. What is not in the table is refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnx import TensorProto
from torch import Tensor
from torch.nn import functional

from optimizer.passes.training.calls import Call, Operator, given
from optimizer.passes.training.layer_operators import LAYERS, padded

DTYPES = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.INT8: torch.int8,
    TensorProto.UINT8: torch.uint8,
    TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.BOOL: torch.bool,
}
LIMITS = {torch.int8: (-128, 127), torch.uint8: (0, 255), torch.int32: (-(2**31), 2**31 - 1)}
SOFTMAX_AS_IS = 13


def _ints(value: Tensor) -> list[int]:
    return [int(one) for one in value.reshape(-1).tolist()]


def _axes(call: Call, inputs: Sequence[Any]) -> list[int] | None:
    """Newer operator sets state them in an input."""
    stated = given(inputs, 1)
    return _ints(stated) if stated is not None else call.get("axes")


# elements


def _unary(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda _call, inputs: function(inputs[0])


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda _call, inputs: function(inputs[0], inputs[1])


def _divided(one: Tensor, other: Tensor) -> Tensor:
    """Whole numbers are divided towards zero."""
    return one / other if one.is_floating_point() else torch.div(one, other, rounding_mode="trunc")


def _folded(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    def run(_call: Call, inputs: Sequence[Any]) -> Tensor:
        found: Tensor = inputs[0]
        for one in inputs[1:]:
            found = function(found, one)
        return found

    return run


def _clip(call: Call, inputs: Sequence[Any]) -> Tensor:
    low, high = given(inputs, 1), given(inputs, 2)
    low = call.get("min") if low is None else low
    high = call.get("max") if high is None else high
    found: Tensor = inputs[0]
    found = found if low is None else torch.maximum(found, torch.as_tensor(low, dtype=found.dtype))
    return found if high is None else torch.minimum(found, torch.as_tensor(high, dtype=found.dtype))


def _prelu(_call: Call, inputs: Sequence[Any]) -> Tensor:
    x, slope = inputs
    return torch.where(x < 0, x * slope, x)


def _gelu(call: Call, inputs: Sequence[Any]) -> Tensor:
    return functional.gelu(inputs[0], approximate=call.get("approximate", "none"))


def _hard_sigmoid(call: Call, inputs: Sequence[Any]) -> Tensor:
    found: Tensor = (inputs[0] * call.get("alpha", 0.2) + call.get("beta", 0.5)).clamp(0, 1)
    return found


def _cast(call: Call, inputs: Sequence[Any]) -> Tensor:
    if call.get("to") not in DTYPES:
        raise call.refuse("its target type has no counterpart")
    x: Tensor = inputs[0]
    return x.to(DTYPES[call.get("to")])


def _softmax(function: Callable[..., Tensor]) -> Operator:
    def run(call: Call, inputs: Sequence[Any]) -> Tensor:
        x: Tensor = inputs[0]
        if call.opset >= SOFTMAX_AS_IS:
            return function(x, dim=call.get("axis", -1))
        axis = call.get("axis", 1) % x.dim()
        return function(x.flatten(axis), dim=axis).reshape(x.shape)

    return run


# reductions


def _reduction(function: Callable[..., Tensor]) -> Operator:
    def run(call: Call, inputs: Sequence[Any]) -> Tensor:
        x: Tensor = inputs[0]
        axes = _axes(call, inputs)
        if not axes:
            if call.get("noop_with_empty_axes", 0):
                return x
            axes = list(range(x.dim()))
        return function(x, dim=tuple(axes), keepdim=bool(call.get("keepdims", 1)))

    return run


def _norm(x: Tensor, *, dim: tuple[int, ...], keepdim: bool) -> Tensor:
    found: Tensor = torch.linalg.vector_norm(x, dim=dim, keepdim=keepdim)
    return found


# shapes


def _flatten(call: Call, inputs: Sequence[Any]) -> Tensor:
    x: Tensor = inputs[0]
    axis = call.get("axis", 1)
    axis = axis + x.dim() if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), -1)


def _reshape(call: Call, inputs: Sequence[Any]) -> Tensor:
    x: Tensor = inputs[0]
    wanted = _ints(inputs[1])
    if not call.get("allowzero", 0):
        wanted = [x.shape[index] if size == 0 else size for index, size in enumerate(wanted)]
    return torch.reshape(x, wanted)


def _transpose(call: Call, inputs: Sequence[Any]) -> Tensor:
    x: Tensor = inputs[0]
    return x.permute(call.get("perm") or tuple(reversed(range(x.dim()))))


def _squeeze(call: Call, inputs: Sequence[Any]) -> Tensor:
    x: Tensor = inputs[0]
    axes = _axes(call, inputs)
    if axes is None:
        return torch.reshape(x, [size for size in x.shape if size != 1])
    gone = {axis % x.dim() for axis in axes}
    return torch.reshape(x, [size for axis, size in enumerate(x.shape) if axis not in gone])


def _unsqueeze(call: Call, inputs: Sequence[Any]) -> Tensor:
    x: Tensor = inputs[0]
    axes = _axes(call, inputs) or []
    dims = x.dim() + len(axes)
    for axis in sorted(axis % dims for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _slice(call: Call, inputs: Sequence[Any]) -> Tensor:
    x: Tensor = inputs[0]
    starts = _ints(inputs[1]) if len(inputs) > 1 else call.get("starts")
    ends = _ints(inputs[2]) if len(inputs) > 1 else call.get("ends")
    axes, steps = given(inputs, 3), given(inputs, 4)
    over = _ints(axes) if axes is not None else call.get("axes", list(range(len(starts))))
    by = _ints(steps) if steps is not None else [1] * len(starts)
    if min(by, default=1) < 1:
        raise call.refuse("it runs backwards")
    chosen = [slice(None)] * x.dim()
    for axis, start, end, step in zip(over, starts, ends, by, strict=True):
        chosen[axis % x.dim()] = slice(start, end, step)
    return x[tuple(chosen)]


def _split(call: Call, inputs: Sequence[Any]) -> tuple[Tensor, ...]:
    x: Tensor = inputs[0]
    axis = call.get("axis", 0)
    stated = given(inputs, 1)
    sizes = _ints(stated) if stated is not None else call.get("split")
    if not sizes:
        each = math.ceil(x.shape[axis] / len(call.outputs))
        return tuple(torch.split(x, each, dim=axis))
    return tuple(torch.split(x, sizes, dim=axis))


def _gather(call: Call, inputs: Sequence[Any]) -> Tensor:
    x, indices = inputs
    axis = call.get("axis", 0) % x.dim()
    positive = torch.where(indices < 0, indices + x.shape[axis], indices).long()
    found: Tensor = x.index_select(axis, positive.reshape(-1))
    return torch.reshape(found, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def _expand(_call: Call, inputs: Sequence[Any]) -> Tensor:
    x: Tensor = inputs[0]
    return x.expand(torch.broadcast_shapes(tuple(x.shape), tuple(_ints(inputs[1]))))


def _pad(call: Call, inputs: Sequence[Any]) -> Tensor:
    x: Tensor = inputs[0]
    pads = _ints(inputs[1]) if len(inputs) > 1 else call.get("pads")
    value, axes = given(inputs, 2), given(inputs, 3)
    if call.get("mode", "constant") != "constant" or axes is not None:
        raise call.refuse("it pads with other values than one constant")
    amount = float(value) if value is not None else call.get("value", 0.0)
    return padded(x, [(pads[dim], pads[dim + x.dim()]) for dim in range(x.dim())], value=amount)


def _constant_of_shape(call: Call, inputs: Sequence[Any]) -> Tensor:
    value = call.get("value")
    filled = torch.tensor(0.0) if value is None else torch.from_numpy(value.copy()).reshape(())
    return filled.expand(_ints(inputs[0])).clone()


def _constant(call: Call, _inputs: Sequence[Any]) -> Tensor:
    for name, dtype in (
        ("value_float", torch.float32),
        ("value_floats", torch.float32),
        ("value_int", torch.int64),
        ("value_ints", torch.int64),
    ):
        if name in call.attributes:
            return torch.tensor(call.get(name), dtype=dtype)
    if call.get("value") is None:
        raise call.refuse("it holds no numbers")
    return torch.from_numpy(call.get("value").copy())


# quantized numbers, as floats that carry a gradient


def straight_through(rounded: Tensor, exact: Tensor) -> Tensor:
    """The rounded value, with the gradient of the exact one (Bengio et al. 2013, arXiv 1308.3432)."""
    return exact + (rounded - exact).detach()


def along(call: Call, x: Tensor, values: Tensor) -> Tensor:
    """Scale or zero point, shaped to its axis of ``x``."""
    if values.numel() == 1:
        return values.reshape(())
    axis = call.get("axis", 1) % x.dim()
    return values.reshape([-1 if dim == axis else 1 for dim in range(x.dim())])


def _quantize(call: Call, inputs: Sequence[Any]) -> Tensor:
    x, scale = inputs[0], inputs[1]
    zero = given(inputs, 2)
    low, high = LIMITS[torch.uint8 if zero is None else zero.dtype]
    exact = x / along(call, x, scale)
    offset = 0.0 if zero is None else along(call, x, zero).to(x.dtype)
    return (straight_through(torch.round(exact), exact) + offset).clamp(low, high)


def _dequantize(call: Call, inputs: Sequence[Any]) -> Tensor:
    x, scale = inputs[0], inputs[1]
    zero = given(inputs, 2)
    offset = 0.0 if zero is None else along(call, x, zero).to(scale.dtype)
    found: Tensor = (x.to(scale.dtype) - offset) * along(call, x, scale)
    return found


OPERATORS: dict[str, Operator] = {
    **LAYERS,
    "Abs": _unary(torch.abs),
    "Add": _binary(torch.add),
    "And": _binary(torch.logical_and),
    "Cast": _cast,
    "Ceil": _unary(torch.ceil),
    "Clip": _clip,
    "Concat": lambda call, inputs: torch.cat(list(inputs), dim=call.get("axis")),
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "DequantizeLinear": _dequantize,
    "Div": _binary(_divided),
    "Dropout": lambda _call, inputs: inputs[0],
    "Elu": lambda call, inputs: functional.elu(inputs[0], alpha=call.get("alpha", 1.0)),
    "Equal": _binary(torch.eq),
    "Erf": _unary(torch.erf),
    "Exp": _unary(torch.exp),
    "Expand": _expand,
    "Flatten": _flatten,
    "Floor": _unary(torch.floor),
    "Gather": _gather,
    "Gelu": _gelu,
    "Greater": _binary(torch.gt),
    "GreaterOrEqual": _binary(torch.ge),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _unary(functional.hardswish),
    "Identity": lambda _call, inputs: inputs[0],
    "LeakyRelu": lambda call, inputs: functional.leaky_relu(inputs[0], call.get("alpha", 0.01)),
    "Less": _binary(torch.lt),
    "LessOrEqual": _binary(torch.le),
    "Log": _unary(torch.log),
    "LogSoftmax": _softmax(torch.log_softmax),
    "MatMul": _binary(torch.matmul),
    "Max": _folded(torch.maximum),
    "Min": _folded(torch.minimum),
    "Mul": _binary(torch.mul),
    "Neg": _unary(torch.neg),
    "Not": _unary(torch.logical_not),
    "Or": _binary(torch.logical_or),
    "PRelu": _prelu,
    "Pad": _pad,
    "Pow": _binary(torch.pow),
    "QuantizeLinear": _quantize,
    "Reciprocal": _unary(torch.reciprocal),
    "ReduceL2": _reduction(_norm),
    "ReduceMax": _reduction(torch.amax),
    "ReduceMean": _reduction(torch.mean),
    "ReduceMin": _reduction(torch.amin),
    "ReduceSum": _reduction(torch.sum),
    "Relu": _unary(functional.relu),
    "Reshape": _reshape,
    "Selu": _unary(functional.selu),
    "Shape": lambda call, inputs: torch.tensor(tuple(inputs[0].shape)[call.get("start", 0) : call.get("end")], dtype=torch.int64),
    "Sigmoid": _unary(torch.sigmoid),
    "Slice": _slice,
    "Softmax": _softmax(torch.softmax),
    "Softplus": _unary(functional.softplus),
    "Split": _split,
    "Sqrt": _unary(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _binary(torch.sub),
    "Sum": _folded(torch.add),
    "Tanh": _unary(torch.tanh),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": lambda _call, inputs: torch.where(inputs[0], inputs[1], inputs[2]),
}

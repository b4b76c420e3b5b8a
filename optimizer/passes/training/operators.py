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

from optimizer.passes.training.calls import Call

Operator = Callable[[Call, Sequence[Any]], Any]

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


def _given(inputs: Sequence[Any], index: int) -> Any:
    return inputs[index] if index < len(inputs) else None


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
    low, high = _given(inputs, 1), _given(inputs, 2)
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


# products and normalisations


def _pads(call: Call, size: Sequence[int], kernel: Sequence[int]) -> list[tuple[int, int]]:
    """(before, after) per spatial dim."""
    dims = len(size)
    strides, dilations = call.get("strides", [1] * dims), call.get("dilations", [1] * dims)
    auto = call.get("auto_pad", "NOTSET")
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        pads = [0] * (2 * dims) if auto == "VALID" else call.get("pads", [0] * (2 * dims))
        return [(pads[dim], pads[dim + dims]) for dim in range(dims)]
    found = []
    for n, k, stride, dilation in zip(size, kernel, strides, dilations, strict=True):
        total = max(0, (math.ceil(n / stride) - 1) * stride + (k - 1) * dilation + 1 - n)
        less, more = total // 2, total - total // 2
        found.append((less, more) if auto == "SAME_UPPER" else (more, less))
    return found


def _padded(x: Tensor, pads: Sequence[tuple[int, int]], *, value: float = 0.0) -> Tensor:
    flat = [one for pair in reversed(pads) for one in pair]
    return functional.pad(x, flat, value=value) if any(flat) else x


def _spatial(call: Call, x: Tensor, table: dict[int, Callable[..., Tensor]]) -> Callable[..., Tensor]:
    function = table.get(x.dim() - 2)
    if function is None:
        raise call.refuse(f"it works on {x.dim()} dims")
    return function


CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
TRANSPOSED: dict[int, Callable[..., Tensor]] = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d}
LARGEST: dict[int, Callable[..., Tensor]] = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
MEANS: dict[int, Callable[..., Tensor]] = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


def _conv(call: Call, inputs: Sequence[Any]) -> Tensor:
    x, weight = inputs[0], inputs[1]
    dims = x.dim() - 2
    pads = _pads(call, x.shape[2:], weight.shape[2:])
    same = all(before == after for before, after in pads)
    return _spatial(call, x, CONVOLUTIONS)(
        x if same else _padded(x, pads),
        weight,
        _given(inputs, 2),
        stride=tuple(call.get("strides", [1] * dims)),
        padding=tuple(before for before, _ in pads) if same else 0,
        dilation=tuple(call.get("dilations", [1] * dims)),
        groups=call.get("group", 1),
    )


def _conv_transpose(call: Call, inputs: Sequence[Any]) -> Tensor:
    x, weight = inputs[0], inputs[1]
    dims = x.dim() - 2
    pads = call.get("pads", [0] * (2 * dims))
    if call.get("auto_pad", "NOTSET") != "NOTSET" or call.get("output_shape") or pads[:dims] != pads[dims:]:
        raise call.refuse("its padding is not the same on both sides")
    return _spatial(call, x, TRANSPOSED)(
        x,
        weight,
        _given(inputs, 2),
        stride=tuple(call.get("strides", [1] * dims)),
        padding=tuple(pads[:dims]),
        output_padding=tuple(call.get("output_padding", [0] * dims)),
        groups=call.get("group", 1),
        dilation=tuple(call.get("dilations", [1] * dims)),
    )


def _gemm(call: Call, inputs: Sequence[Any]) -> Tensor:
    a = inputs[0].transpose(0, 1) if call.get("transA", 0) else inputs[0]
    b = inputs[1].transpose(0, 1) if call.get("transB", 0) else inputs[1]
    product: Tensor = call.get("alpha", 1.0) * (a @ b)
    bias = _given(inputs, 2)
    return product if bias is None else product + call.get("beta", 1.0) * bias


def _batch_norm(call: Call, inputs: Sequence[Any]) -> Tensor:
    """With the stored statistics: training keeps them."""
    if call.get("training_mode", 0):
        raise call.refuse("it computes statistics of the batch")
    x, scale, bias, mean, variance = inputs[:5]
    shape = (-1, *(1 for _ in range(x.dim() - 2)))
    factor = scale / torch.sqrt(variance + call.get("epsilon", 1e-5))
    found: Tensor = x * factor.reshape(shape) + (bias - mean * factor).reshape(shape)
    return found


def _instance_norm(call: Call, inputs: Sequence[Any]) -> Tensor:
    return functional.instance_norm(inputs[0], weight=inputs[1], bias=inputs[2], eps=call.get("epsilon", 1e-5))


def _layer_norm(call: Call, inputs: Sequence[Any]) -> Tensor:
    if len(call.outputs) > 1:
        raise call.refuse("its statistics are used elsewhere")
    x = inputs[0]
    axis = call.get("axis", -1) % x.dim()
    return functional.layer_norm(x, tuple(x.shape[axis:]), inputs[1], _given(inputs, 2), eps=call.get("epsilon", 1e-5))


# pooling and reductions


def _max_pool(call: Call, inputs: Sequence[Any]) -> Tensor:
    if len(call.outputs) > 1:
        raise call.refuse("its indices are used")
    x, kernel = inputs[0], call.get("kernel_shape")
    pads = _pads(call, x.shape[2:], kernel)
    same = all(before == after and 2 * before <= k for (before, after), k in zip(pads, kernel, strict=True))
    if not same and call.get("ceil_mode", 0):
        raise call.refuse("it rounds sizes up behind uneven padding")
    return _spatial(call, x, LARGEST)(
        x if same else _padded(x, pads, value=-math.inf),
        tuple(kernel),
        stride=tuple(call.get("strides", [1] * len(kernel))),
        padding=tuple(before for before, _ in pads) if same else 0,
        dilation=tuple(call.get("dilations", [1] * len(kernel))),
        ceil_mode=bool(call.get("ceil_mode", 0)),
    )


def _average_pool(call: Call, inputs: Sequence[Any]) -> Tensor:
    x, kernel = inputs[0], call.get("kernel_shape")
    if call.get("ceil_mode", 0) or any(one != 1 for one in call.get("dilations", [1])):
        raise call.refuse("it rounds sizes up or skips values")
    pads, function = _pads(call, x.shape[2:], kernel), _spatial(call, x, MEANS)
    stride = tuple(call.get("strides", [1] * len(kernel)))
    mean = function(_padded(x, pads), tuple(kernel), stride=stride)
    if call.get("count_include_pad", 0) or not any(one for pair in pads for one in pair):
        return mean
    return mean / function(_padded(torch.ones_like(x), pads), tuple(kernel), stride=stride)


def _over_space(function: Callable[..., Tensor]) -> Operator:
    return lambda _call, inputs: function(inputs[0], dim=tuple(range(2, inputs[0].dim())), keepdim=True)


def _reduction(function: Callable[..., Tensor]) -> Operator:
    def run(call: Call, inputs: Sequence[Any]) -> Tensor:
        x: Tensor = inputs[0]
        stated = _given(inputs, 1)
        axes = _ints(stated) if stated is not None else call.get("axes")
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


def _axes(call: Call, inputs: Sequence[Any]) -> list[int] | None:
    stated = _given(inputs, 1)
    return _ints(stated) if stated is not None else call.get("axes")


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
    axes, steps = _given(inputs, 3), _given(inputs, 4)
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
    stated = _given(inputs, 1)
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
    value, axes = _given(inputs, 2), _given(inputs, 3)
    if call.get("mode", "constant") != "constant" or axes is not None:
        raise call.refuse("it pads with other values than one constant")
    amount = float(value) if value is not None else call.get("value", 0.0)
    return _padded(x, [(pads[dim], pads[dim + x.dim()]) for dim in range(x.dim())], value=amount)


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


def _along(call: Call, x: Tensor, values: Tensor) -> Tensor:
    """Scale or zero point, shaped to its axis of ``x``."""
    if values.numel() == 1:
        return values.reshape(())
    axis = call.get("axis", 1) % x.dim()
    return values.reshape([-1 if dim == axis else 1 for dim in range(x.dim())])


def _quantize(call: Call, inputs: Sequence[Any]) -> Tensor:
    x, scale = inputs[0], inputs[1]
    zero = _given(inputs, 2)
    low, high = LIMITS[torch.uint8 if zero is None else zero.dtype]
    exact = x / _along(call, x, scale)
    offset = 0.0 if zero is None else _along(call, x, zero).to(x.dtype)
    return (straight_through(torch.round(exact), exact) + offset).clamp(low, high)


def _dequantize(call: Call, inputs: Sequence[Any]) -> Tensor:
    x, scale = inputs[0], inputs[1]
    zero = _given(inputs, 2)
    offset = 0.0 if zero is None else _along(call, x, zero).to(scale.dtype)
    found: Tensor = (x.to(scale.dtype) - offset) * _along(call, x, scale)
    return found


OPERATORS: dict[str, Operator] = {
    "Abs": _unary(torch.abs),
    "Add": _binary(torch.add),
    "And": _binary(torch.logical_and),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Ceil": _unary(torch.ceil),
    "Clip": _clip,
    "Concat": lambda call, inputs: torch.cat(list(inputs), dim=call.get("axis")),
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
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
    "Gemm": _gemm,
    "GlobalAveragePool": _over_space(torch.mean),
    "GlobalMaxPool": _over_space(torch.amax),
    "Greater": _binary(torch.gt),
    "GreaterOrEqual": _binary(torch.ge),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _unary(functional.hardswish),
    "Identity": lambda _call, inputs: inputs[0],
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda call, inputs: functional.leaky_relu(inputs[0], call.get("alpha", 0.01)),
    "Less": _binary(torch.lt),
    "LessOrEqual": _binary(torch.le),
    "Log": _unary(torch.log),
    "LogSoftmax": _softmax(torch.log_softmax),
    "MatMul": _binary(torch.matmul),
    "Max": _folded(torch.maximum),
    "MaxPool": _max_pool,
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

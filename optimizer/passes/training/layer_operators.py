"""ONNX's layers with weights, normalisations and pooling as PyTorch functions. Imports torch: import this where it is needed only."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from optimizer.passes.training.calls import Call, Operator, given


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


def padded(x: Tensor, pads: Sequence[tuple[int, int]], *, value: float = 0.0) -> Tensor:
    """``x`` with so many values before and after, per dim; the pads belong to the last dims."""
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
        x if same else padded(x, pads),
        weight,
        given(inputs, 2),
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
        given(inputs, 2),
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
    bias = given(inputs, 2)
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
    return functional.layer_norm(x, tuple(x.shape[axis:]), inputs[1], given(inputs, 2), eps=call.get("epsilon", 1e-5))


def _max_pool(call: Call, inputs: Sequence[Any]) -> Tensor:
    if len(call.outputs) > 1:
        raise call.refuse("its indices are used")
    x, kernel = inputs[0], call.get("kernel_shape")
    pads = _pads(call, x.shape[2:], kernel)
    same = all(before == after and 2 * before <= k for (before, after), k in zip(pads, kernel, strict=True))
    if not same and call.get("ceil_mode", 0):
        raise call.refuse("it rounds sizes up behind uneven padding")
    return _spatial(call, x, LARGEST)(
        x if same else padded(x, pads, value=-math.inf),
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
    mean = function(padded(x, pads), tuple(kernel), stride=stride)
    if call.get("count_include_pad", 0) or not any(one for pair in pads for one in pair):
        return mean
    return mean / function(padded(torch.ones_like(x), pads), tuple(kernel), stride=stride)


def _over_space(function: Callable[..., Tensor]) -> Operator:
    return lambda _call, inputs: function(inputs[0], dim=tuple(range(2, inputs[0].dim())), keepdim=True)


LAYERS: dict[str, Operator] = {
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "GlobalAveragePool": _over_space(torch.mean),
    "GlobalMaxPool": _over_space(torch.amax),
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "MaxPool": _max_pool,
}

"""Which channels to remove, given what each is worth: the least valuable first, down to a share of the operations. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from optimizer.passes.training.calls import arrays_of, calls_of
from optimizer.passes.training.channels import Axis, Group, Shapes, read_axis, written_axis

Floats = np.ndarray[Any, np.dtype[np.float64]]
LEAST_KEPT_SHARE, LEAST_KEPT = 0.1, 4
ROUND_TO = 8
"""Kernels work on this many channels at a time; a few more cost nothing."""


def operations(model: onnx.ModelProto, shapes: Shapes, counts: Mapping[Axis, int]) -> float:
    """Multiply-adds of the weighted operators of one call, with only ``counts`` of the channels along an axis (absent: all)."""
    arrays, total = arrays_of(model), 0.0
    for call in calls_of(model):
        written = written_axis(call)
        if written is None or written[0] not in arrays:
            continue
        weight = arrays[written[0]].shape
        each = math.prod(shapes[call.outputs[0]]) / max(1, weight[written[1]]) * math.prod(weight)
        for axis in (written, read_axis(call)):
            if axis is not None and axis in counts:
                each *= counts[axis] / weight[axis[1]]
        total += each
    return total


def _counted(model: onnx.ModelProto, shapes: Shapes, groups: Sequence[Group], kept: Sequence[int]) -> float:
    """Operations when so many channels of each group are kept; axes that hold several groups add them up."""
    counts: dict[Axis, int] = {}
    whole: dict[Axis, int] = {}
    for group, number in zip(groups, kept, strict=True):
        for axis, indices in group.members.items():
            each = len(indices[0])
            counts[axis] = counts.get(axis, 0) + number * each
            whole[axis] = whole.get(axis, 0) + group.count * each
    sizes = {(name, axis): size for name, shape in shapes.items() for axis, size in enumerate(shape)}
    return operations(model, shapes, {axis: sizes[axis] - whole[axis] + count for axis, count in counts.items()})


def evenly(groups: Sequence[Group], worth: Sequence[Floats], *, share: float) -> list[list[int]]:
    """Channels to remove so that each group keeps its most valuable ``share``."""
    return [_lowest(values, _rounded(share * group.count, group.count)) for group, values in zip(groups, worth, strict=True)]


def by_worth(model: onnx.ModelProto, shapes: Shapes, groups: Sequence[Group], worth: Sequence[Floats], *, share: float) -> list[list[int]]:
    """Channels to remove so that about ``share`` of the operations is left, least worth per operation first."""
    full = [group.count for group in groups]
    everything = _counted(model, shapes, groups, full)
    queue: list[tuple[float, int]] = []
    for index, values in enumerate(worth):
        fewer = [count - (number == index) for number, count in enumerate(full)]
        saved = max(1e-12, everything - _counted(model, shapes, groups, fewer))
        queue += [(float(value) / saved, index) for value in values]
    order = [index for _, index in sorted(queue)]
    low, high = 0, len(order)
    while low < high:
        middle = (low + high) // 2
        if _counted(model, shapes, groups, _kept(groups, order[:middle])) <= share * everything:
            high = middle
        else:
            low = middle + 1
    return [_lowest(values, count) for values, count in zip(worth, _kept(groups, order[:low]), strict=True)]


def _kept(groups: Sequence[Group], removed: Sequence[int]) -> list[int]:
    return [_rounded(group.count - removed.count(index), group.count) for index, group in enumerate(groups)]


def _rounded(wanted: float, count: int) -> int:
    """A number that kernels like: a multiple of 8 in large groups, never almost nothing."""
    least = max(LEAST_KEPT, math.ceil(LEAST_KEPT_SHARE * count))
    step = ROUND_TO if count >= 2 * ROUND_TO else 1
    return min(count, max(least, math.ceil(wanted / step) * step))


def _lowest(values: Floats, kept: int) -> list[int]:
    return sorted(int(index) for index in np.argsort(values, kind="stable")[: len(values) - kept])

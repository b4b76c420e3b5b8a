"""Which channels of a graph hang together, and the graph without some of them. No torch: shapes come in as they were seen.

Every index of every axis of every value is an element. Operators tie elements (a residual add ties both operands' channels, a
flattening ties each channel to its block of features), so a channel is a set of tied elements: removed together, or not at all.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from optimizer.passes.onnx_files import constants_to_initializers, copied, real_inputs
from optimizer.passes.training.calls import Call, arrays_of, calls_of, given

Array = np.ndarray[Any, Any]
Indices = np.ndarray[Any, np.dtype[np.int64]]
Shapes = Mapping[str, tuple[int, ...]]
Axis = tuple[str, int]

ALIKE = frozenset(
    {"Abs", "Cast", "Ceil", "Clip", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu",
     "Log", "Neg", "Not", "Reciprocal", "Relu", "Selu", "Sigmoid", "Softplus", "Sqrt", "Tanh"}
)  # fmt: skip
"""The first input's elements are the output's, one by one."""
BROADCAST = frozenset(
    {"Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Mul", "Or", "PRelu", "Pow", "Sub",
     "Sum", "Where"}
)  # fmt: skip
OVER_SPACE = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"})
WEIGHTED = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Channels that lie along the same axes. ``members`` are, for every axis they lie on, the indices of each channel there."""

    count: int
    members: dict[Axis, tuple[Indices, ...]]


@dataclass(slots=True)
class _Ties:
    """Union of elements, by path halving."""

    first: dict[Axis, int] = field(default_factory=dict)
    sizes: dict[Axis, int] = field(default_factory=dict)
    parent: list[int] = field(default_factory=list)
    locked: set[int] = field(default_factory=set)

    def add(self, name: str, shape: Sequence[int]) -> None:
        for axis, size in enumerate(shape):
            if (name, axis) not in self.first:
                self.first[name, axis], self.sizes[name, axis] = len(self.parent), size
                self.parent += range(len(self.parent), len(self.parent) + size)

    def root(self, element: int) -> int:
        parent = self.parent
        while parent[element] != element:
            parent[element] = parent[parent[element]]
            element = parent[element]
        return element

    def tie(self, one: Axis, other: Axis, *, at: int = 0, block: int = 1) -> None:
        """Element i of ``one`` to the ``block`` elements of ``other`` from ``at`` + i * block on."""
        begin, there = self.first[one], self.first[other]
        for index in range(self.sizes[one]):
            for offset in range(block):
                self._union(begin + index, there + at + index * block + offset)

    def _union(self, one: int, other: int) -> None:
        self.parent[self.root(other)] = self.root(one)

    def lock(self, name: str, *axes: int) -> None:
        """Nothing along these axes (none: along any) may be removed."""
        for axis in axes or [axis for value, axis in self.first if value == name]:
            begin = self.first[name, axis]
            self.locked.update(range(begin, begin + self.sizes[name, axis]))


class _Analysis:
    """One walk over the graph; operators that it does not know lock what they touch."""

    def __init__(self, model: onnx.ModelProto, shapes: Shapes) -> None:
        self.constants = arrays_of(model)
        self.shapes = {**shapes, **{name: array.shape for name, array in self.constants.items()}}
        self.ties = _Ties()
        for name, shape in self.shapes.items():
            self.ties.add(name, shape)
        rules: dict[str, Callable[[Call], None]] = {
            "Conv": self._conv, "Gemm": self._gemm, "MatMul": self._matmul, "BatchNormalization": self._normalised, "Flatten": self._merged,
            "Reshape": self._merged, "Transpose": self._transposed, "Concat": self._joined, "Softmax": self._softmax,
            "LogSoftmax": self._softmax, "Pad": self._padded, "ReduceMean": self._reduced, "Shape": self._nothing,
        }  # fmt: skip
        for call in calls_of(model):
            rule = self._alike if call.kind in ALIKE else self._broadcast if call.kind in BROADCAST else rules.get(call.kind)
            rule = self._over_space if call.kind in OVER_SPACE else rule or self._unknown
            rule(call)
        for value in (*real_inputs(model), *model.graph.output):
            self.ties.lock(value.name)

    def _rank(self, name: str) -> int:
        return len(self.shapes[name])

    def _same(self, one: str, other: str, axes: Sequence[int]) -> None:
        for axis in axes:
            if self.shapes[one][axis] == self.shapes[other][axis]:
                self.ties.tie((one, axis), (other, axis))
            else:
                self.ties.lock(one, axis)
                self.ties.lock(other, axis)

    def _nothing(self, call: Call) -> None:
        """Only sizes are read; whether what follows from them still fits is proven when the smaller graph runs."""

    def _unknown(self, call: Call) -> None:
        for name in (*call.inputs, *call.outputs):
            if name in self.shapes:
                self.ties.lock(name)

    def _alike(self, call: Call) -> None:
        self._same(call.inputs[0], call.outputs[0], range(self._rank(call.outputs[0])))

    def _broadcast(self, call: Call) -> None:
        output = call.outputs[0]
        for name in call.inputs:
            shift = self._rank(output) - self._rank(name)
            for axis, size in enumerate(self.shapes[name]):
                if size == self.shapes[output][axis + shift]:
                    self.ties.tie((name, axis), (output, axis + shift))

    def _conv(self, call: Call) -> None:
        x, weight, output = call.inputs[0], call.inputs[1], call.outputs[0]
        bias = call.inputs[2] if len(call.inputs) > 2 else ""
        groups, width = call.get("group", 1), self.shapes[x][1]
        self.ties.tie((weight, 0), (output, 1))
        if bias:
            self.ties.tie((bias, 0), (output, 1))
        if groups == 1:
            self.ties.tie((x, 1), (weight, 1))
        elif groups == width == self.shapes[output][1]:
            self.ties.tie((x, 1), (output, 1))
        else:
            self.ties.lock(x, 1)
            self.ties.lock(output, 1)
        self._same(x, output, [0])

    def _gemm(self, call: Call) -> None:
        x, weight, output = call.inputs[0], call.inputs[1], call.outputs[0]
        into, out_of = (0, 1) if call.get("transB", 0) else (1, 0)
        if call.get("transA", 0):
            return self._unknown(call)
        self.ties.tie((weight, into), (output, 1))
        self.ties.tie((x, 1), (weight, out_of))
        self._same(x, output, [0])
        if len(call.inputs) > 2 and call.inputs[2] and self._rank(call.inputs[2]):
            bias = call.inputs[2]
            if self.shapes[bias][-1] == self.shapes[output][1]:
                self.ties.tie((bias, self._rank(bias) - 1), (output, 1))
        return None

    def _matmul(self, call: Call) -> None:
        x, weight, output = call.inputs[0], call.inputs[1], call.outputs[0]
        if weight not in self.constants or self._rank(weight) != 2 or self._rank(x) < 2:
            return self._unknown(call)
        self.ties.tie((weight, 1), (output, self._rank(output) - 1))
        self.ties.tie((x, self._rank(x) - 1), (weight, 0))
        return self._same(x, output, range(self._rank(x) - 1))

    def _normalised(self, call: Call) -> None:
        for name in call.inputs[1:5]:
            self.ties.tie((name, 0), (call.outputs[0], 1))
        self._alike(call)

    def _over_space(self, call: Call) -> None:
        self._same(call.inputs[0], call.outputs[0], [0, 1])

    def _padded(self, call: Call) -> None:
        self._alike(call)

    def _softmax(self, call: Call) -> None:
        self._alike(call)
        self.ties.lock(call.outputs[0], call.get("axis", -1) % self._rank(call.outputs[0]))

    def _reduced(self, call: Call) -> None:
        """Kept axes are the same; a channel that is averaged with others cannot go."""
        x, output, axes = call.inputs[0], call.outputs[0], self._axes(call)
        if not axes or not call.get("keepdims", 1):
            return self._unknown(call)
        reduced = {axis % self._rank(x) for axis in axes}
        self.ties.lock(x, *reduced)
        return self._same(x, output, [axis for axis in range(self._rank(x)) if axis not in reduced])

    def _axes(self, call: Call) -> list[int] | None:
        """Newer operator sets state them in an input; computed ones are not known."""
        stated = given(call.inputs, 1)
        if not stated:
            return call.get("axes")  # type: ignore[no-any-return]
        return self.constants[stated].tolist() if stated in self.constants else None

    def _transposed(self, call: Call) -> None:
        x, output = call.inputs[0], call.outputs[0]
        for to, axis in enumerate(call.get("perm") or reversed(range(self._rank(x)))):
            self.ties.tie((x, axis), (output, to))

    def _joined(self, call: Call) -> None:
        output = call.outputs[0]
        axis, begin = call.get("axis") % self._rank(output), 0
        for name in call.inputs:
            self._same(name, output, [other for other in range(self._rank(output)) if other != axis])
            self.ties.tie((name, axis), (output, axis), at=begin)
            begin += self.shapes[name][axis]

    def _merged(self, call: Call) -> None:
        """Leading axes stay; the first that does not may be merged with those after it, one of a block's elements each."""
        x, output = call.inputs[0], call.outputs[0]
        before, after = self.shapes[x], self.shapes[output]
        kept = _kept(before, after)
        self._same(x, output, range(kept))
        if len(after) == kept + 1 and math.prod(before[kept:]) == after[kept]:
            block = math.prod(before[kept + 1 :])
            self.ties.tie((x, kept), (output, kept), block=block)
            for axis in range(kept + 1, len(before)):
                self.ties.lock(x, axis)
            return
        for name, rank in ((x, len(before)), (output, len(after))):
            if rank > kept:
                self.ties.lock(name, *range(kept, rank))

    def groups(self, model: onnx.ModelProto) -> list[Group]:
        outputs = [axis for call in calls_of(model) if (axis := written_axis(call)) and axis in self.ties.first]
        roots: dict[int, list[tuple[Axis, int]]] = defaultdict(list)
        wanted = {self.ties.root(self.ties.first[axis] + index) for axis in outputs for index in range(self.ties.sizes[axis])}
        locked = {self.ties.root(element) for element in self.ties.locked}
        for axis, begin in self.ties.first.items():
            for index in range(self.ties.sizes[axis]):
                root = self.ties.root(begin + index)
                if root in wanted and root not in locked:
                    roots[root].append((axis, index))
        alike: dict[frozenset[tuple[Axis, int]], list[dict[Axis, list[int]]]] = defaultdict(list)
        for elements in roots.values():
            lies: dict[Axis, list[int]] = defaultdict(list)
            for axis, index in elements:
                lies[axis].append(index)
            alike[frozenset((axis, len(indices)) for axis, indices in lies.items())].append(lies)
        return [_group(channels) for channels in alike.values() if len(channels) > 1]


def _group(channels: list[dict[Axis, list[int]]]) -> Group:
    members = {axis: tuple(np.array(channel[axis], np.int64) for channel in channels) for axis in channels[0]}
    return Group(count=len(channels), members=members)


def written_axis(call: Call) -> Axis | None:
    """The axis of a weight along which its output channels lie; None for operators without."""
    if call.kind == "Conv":
        return call.inputs[1], 0
    if call.kind == "Gemm":
        return call.inputs[1], 0 if call.get("transB", 0) else 1
    return (call.inputs[1], 1) if call.kind == "MatMul" else None


def read_axis(call: Call) -> Axis | None:
    """The axis of a weight along which its input channels lie; depthwise convolutions have none."""
    if call.kind == "Conv":
        return (call.inputs[1], 1) if call.get("group", 1) == 1 else None
    if call.kind == "Gemm":
        return call.inputs[1], 1 if call.get("transB", 0) else 0
    return (call.inputs[1], 0) if call.kind == "MatMul" else None


def channel_groups(model: onnx.ModelProto, shapes: Shapes) -> list[Group]:
    """Groups of removable channels. ``shapes`` are those of every value of one call; constants must be initializers."""
    return _Analysis(model, shapes).groups(model)


Removed = Sequence[Sequence[int]]
"""Per group, the channels that go."""


def removed_indices(groups: Sequence[Group], removed: Removed) -> dict[Axis, Indices]:
    """Per axis of a value, the indices that go."""
    gone: dict[Axis, list[Indices]] = defaultdict(list)
    for group, channels in zip(groups, removed, strict=True):
        for axis, indices in group.members.items():
            gone[axis] += [indices[channel] for channel in channels]
    return {axis: np.unique(np.concatenate(parts)) for axis, parts in gone.items() if parts}


def silenced(model: onnx.ModelProto, groups: Sequence[Group], removed: Removed) -> onnx.ModelProto:
    """The graph as large as before in which nothing reads the removed channels: what the smaller graph must agree with."""
    silent = copied(model)
    gone = removed_indices(groups, removed)
    readers = {axis for call in calls_of(model) if (axis := read_axis(call))}
    for tensor in silent.graph.initializer:
        for name, along in [one for one in gone if one[0] == tensor.name and one in readers]:
            array = numpy_helper.to_array(tensor).copy()
            array[(slice(None),) * along + (gone[name, along],)] = 0
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return silent


def without_channels(model: onnx.ModelProto, shapes: Shapes, groups: Sequence[Group], removed: Removed) -> onnx.ModelProto:
    """The graph without the removed channels."""
    smaller = copied(model)
    gone = removed_indices(groups, removed)
    arrays = arrays_of(smaller)
    for tensor in smaller.graph.initializer:
        array = arrays[tensor.name]
        for axis in range(array.ndim):
            if (tensor.name, axis) in gone:
                array = np.delete(array, gone[tensor.name, axis], axis=axis)
        if array.shape != arrays[tensor.name].shape:
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))
    for index, (node, call) in enumerate(zip(smaller.graph.node, calls_of(smaller), strict=True)):
        if call.kind == "Conv" and call.get("group", 1) > 1 and (call.inputs[0], 1) in gone:
            _set_groups(node, call.get("group") - len(gone[call.inputs[0], 1]))
        if call.kind == "Reshape":
            _follow(smaller, index, shapes, gone)
    del smaller.graph.value_info[:]
    return smaller


def _set_groups(node: onnx.NodeProto, count: int) -> None:
    for attribute in node.attribute:
        if attribute.name == "group":
            attribute.i = count


def _follow(model: onnx.ModelProto, index: int, shapes: Shapes, gone: Mapping[Axis, Indices]) -> None:
    """Where channels go through a Reshape, its leading axes are copied. One axis after them follows by itself; several keep their sizes,
    because nothing along them may be removed (see ``_merged``).
    """
    node = model.graph.node[index]
    x, output = shapes[node.input[0]], shapes[node.output[0]]
    if not any((node.output[0], axis) in gone for axis in range(len(output))):
        return
    kept = _kept(x, output)
    rest = output[kept:] if len(output) > kept + 1 else [-1] * (len(output) - kept)
    name = f"{node.output[0]}_follows"
    model.graph.initializer.append(numpy_helper.from_array(np.array([*[0] * kept, *rest], np.int64), name))
    node.input[1] = name


def _kept(before: Sequence[int], after: Sequence[int]) -> int:
    """How many leading axes have the same size."""
    differs = (axis for axis, (one, other) in enumerate(zip(before, after, strict=False)) if one != other)
    return next(differs, min(len(before), len(after)))


def prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose constants are initializers, as everything here expects it."""
    model = copied(model)
    constants_to_initializers(model)
    return model

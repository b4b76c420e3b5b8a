"""Residual blocks of a graph, and the graph without some of them: what makes a student shallower. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from optimizer.passes.onnx_files import copied
from optimizer.passes.training.calls import Call, arrays_of, calls_of

BRANCH_AT_MOST = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """An addition of ``source`` and what a branch makes of it; without the block, ``output`` is ``source``."""

    source: str
    output: str


def residual_blocks(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> list[Block]:
    """Blocks in order whose branch reads nothing but the block's source and whose inner values nothing else reads."""
    calls, constants = calls_of(model), set(arrays_of(model))
    maker = {name: call for call in calls for name in call.outputs}
    users: dict[str, int] = {}
    for name in (*(name for call in calls for name in call.inputs), *(value.name for value in model.graph.output)):
        users[name] = users.get(name, 0) + 1
    found = []
    for call in calls:
        if call.kind != "Add" or any(name in constants for name in call.inputs):
            continue
        for source, branch in (call.inputs, call.inputs[::-1]):
            if shapes[source] == shapes[call.outputs[0]] and _is_branch(branch, source, maker=maker, constants=constants, users=users):
                found.append(Block(source=source, output=call.outputs[0]))
                break
    return found


def _is_branch(branch: str, source: str, *, maker: Mapping[str, Call], constants: set[str], users: Mapping[str, int]) -> bool:
    """Whether everything behind ``branch`` leads to ``source`` and has no other reader."""
    pending, reached = [branch], False
    inner: set[str] = set()
    while pending:
        name = pending.pop()
        if name == source:
            reached = True
            continue
        if not name or name in constants or name in inner:
            continue
        if name not in maker or len(inner) >= BRANCH_AT_MOST:
            return False
        inner.add(name)
        pending += maker[name].inputs
    within = [name for call in {maker[name].name: maker[name] for name in inner}.values() for name in call.inputs]
    return reached and all(users[name] == within.count(name) + (name == branch) for name in inner)


def without_blocks(model: onnx.ModelProto, dropped: Sequence[Block]) -> onnx.ModelProto:
    """The graph in which each dropped block hands its source on; what nothing reads any more is gone."""
    shallower = copied(model)
    other = {block.output: block.source for block in dropped}
    for node in shallower.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = _followed(name, other)
    needed = {value.name for value in shallower.graph.output}
    kept = []
    for node in reversed(shallower.graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(node.input)
    nodes = list(reversed(kept))
    stored = [tensor for tensor in shallower.graph.initializer if tensor.name in needed]
    del shallower.graph.node[:], shallower.graph.initializer[:], shallower.graph.value_info[:]
    shallower.graph.node.extend(nodes)
    shallower.graph.initializer.extend(stored)
    return shallower


def _followed(name: str, other: Mapping[str, str]) -> str:
    while name in other:
        name = other[name]
    return name

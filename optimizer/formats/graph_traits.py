"""What a graph's structure says about the model: precision, state, vocabularies, what makes it hard to compare."""

from __future__ import annotations

import re
from collections import Counter

from optimizer.formats.onnx_facts import ModelFacts, NodeFact, ValueFact
from optimizer.formats.onnx_rules import plain_domain
from optimizer.formats.onnx_tensors import tensor_values
from optimizer.formats.protobuf import Reader
from optimizer.formats.shapes import Inferred

CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})
RANDOM = frozenset({"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"})
DATA_DEPENDENT = frozenset({"NonZero", "Unique", "NonMaxSuppression", "Compress", "StringSplit"})
QUANTIZED_OPS = re.compile(
    r"QLinear\w*|QuantizeLinear|DequantizeLinear|DynamicQuantize\w*|MatMulInteger\w*|ConvInteger|MatMulNBits|QAttention|QGemm|QMoE"
)
QUANTIZED_TYPES = frozenset({"int8", "uint8", "int4", "uint4", "int2", "uint2"})
PARAMETER_TYPES = re.compile(r"b?float\d+.*|complex.*|u?int(2|4|8)")
PASSING = frozenset({"Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Clip"})
STATE_NAME = re.compile(r"state|hidden|cell|past|cache|memory|context|mems|key|value|^[hc]$")
STATE_AFFIXES = re.compile(
    r"past_key_values|present_key_values|past|present|prev(ious)?|next|new|updated|initial|final|input|output|(?<![a-z])(in|out)(?![a-z])"
)


def weight_bytes(facts: ModelFacts) -> dict[str, int]:
    """Bytes of constant tensors per dtype, most first; initializers and Constant nodes alike."""
    sizes: Counter[str] = Counter()
    for tensor in facts.tensors():
        sizes[tensor.dtype] += tensor.byte_count
    return dict(sizes.most_common())


def parameters(facts: ModelFacts) -> int:
    """Elements of floating and narrow-integer constants; shapes and indices (int64, int32, bool) are not parameters."""
    return sum(tensor.elements for tensor in facts.tensors() if PARAMETER_TYPES.fullmatch(tensor.dtype))


def is_quantized(facts: ModelFacts) -> bool:
    """It has quantised operators, or most of its parameters are stored as narrow integers."""
    if any(QUANTIZED_OPS.fullmatch(node.op_type) for node in facts.nodes()):
        return True
    narrow = sum(tensor.elements for tensor in facts.tensors() if tensor.dtype in QUANTIZED_TYPES)
    return narrow > 0 and 2 * narrow > parameters(facts)


def uses(facts: ModelFacts, operators: frozenset[str]) -> bool:
    """Some node of the standard domain is one of these."""
    return any(node.op_type in operators and not plain_domain(node.domain) for node in facts.nodes())


def drops_at_random(facts: ModelFacts, reader: Reader) -> bool:
    """A Dropout in training mode, or one whose mode is decided while the model runs."""
    nodes = [node for node in facts.nodes() if node.op_type == "Dropout" and not plain_domain(node.domain)]
    modes = {node.inputs[2] for node in nodes if len(node.inputs) > 2 and node.inputs[2]}
    return bool(modes - _switched_off(facts, reader)) if modes else False


def _switched_off(facts: ModelFacts, reader: Reader) -> set[str]:
    """Names of the constants that are a single False."""
    constants = {tensor.name: tensor for graph in facts.graphs for tensor in graph.initializers}
    constants |= {node.outputs[0]: node.tensors[0][1] for node in facts.nodes() if node.op_type == "Constant" and node.tensors}
    flags = {name: tensor_values(reader, tensor, most=1) for name, tensor in constants.items() if tensor.dtype == "bool"}
    return {name for name, flag in flags.items() if flag is not None and not flag.any()}


def has_open_loop(facts: ModelFacts) -> bool:
    """A Loop that stacks its results: their number depends on data."""
    bodies = ((node, facts.graphs[index]) for node in facts.nodes() if node.op_type == "Loop" for index in node.graphs)
    return any(len(node.outputs) > max(0, len(body.inputs) - 2) for node, body in bodies)


def vocabularies(facts: ModelFacts, inferred: Inferred) -> dict[str, int]:
    """Rows of the constant table that each integer graph input indexes (the smallest, if several)."""
    source = {port.name: port.name for port in facts.main.inputs if port.dtype in ("int64", "int32")}
    rows: dict[str, int] = {}
    for node in facts.main.nodes:
        if node.op_type in PASSING and node.inputs and node.inputs[0] in source:
            source[node.outputs[0]] = source[node.inputs[0]]
        for table, index in _lookups(node):
            dims = inferred.dims.get(table, ())
            if table in inferred.constants and index in source and dims:
                name = source[index]
                rows[name] = min(rows.get(name, dims[0]), dims[0])
    return rows


def _lookups(node: NodeFact) -> list[tuple[str, str]]:
    """(table, indices) pairs of a node that looks up rows."""
    if node.op_type == "Gather" and len(node.inputs) == 2:
        return [(node.inputs[0], node.inputs[1])]
    if node.op_type == "EmbedLayerNormalization" and len(node.inputs) > 4:
        return [(node.inputs[2], node.inputs[0]), (node.inputs[4], node.inputs[1])]
    return []


def state_pairs(inputs: tuple[ValueFact, ...], outputs: tuple[ValueFact, ...]) -> tuple[tuple[str, str], ...]:
    """Inputs whose next value is an output, matched by name and shape (``state``/``stateN``, ``h0``/``hn``, ``past``/``present``)."""
    pairs: list[tuple[str, str]] = []
    free = list(outputs)
    for source in inputs:
        stem = _state_stem(source.name)
        if not STATE_NAME.search(stem) and not STATE_NAME.search(source.name.lower()):
            continue
        match = next((target for target in free if _state_stem(target.name) == stem and _compatible(source, target)), None)
        if match is not None:
            free.remove(match)
            pairs.append((source.name, match.name))
    return tuple(pairs)


def _state_stem(name: str) -> str:
    stem = STATE_AFFIXES.sub("", name.removesuffix("N").lower())
    stem = re.sub(r"[^a-z0-9]+", "_", stem).strip("_")
    return re.sub(r"(?<=^[hc])[0n]$", "", stem)


def _compatible(source: ValueFact, target: ValueFact) -> bool:
    if source.dtype != target.dtype or not source.dtype.startswith(("float", "bfloat")):
        return False
    if source.dims is None or target.dims is None:
        return source.dims == target.dims
    sizes = zip(source.dims, target.dims, strict=False)
    return len(source.dims) == len(target.dims) and all(
        left == right or not (isinstance(left, int) and isinstance(right, int)) for left, right in sizes
    )

"""The ModelCard of an ONNX model: what can be learned without running it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import onnx

from optimizer.formats import graph_traits as traits
from optimizer.formats.bindings import anonymous, named_dims
from optimizer.formats.card_parts import (
    MAX_OPERATORS,
    MAX_TEXT,
    MAX_WARNINGS,
    bound_card,
    known_ports,
    model_digest,
    model_files,
    trait_warnings,
)
from optimizer.formats.external_data import external_files
from optimizer.formats.flops import PICKS, VIEWS, node_flops
from optimizer.formats.onnx_facts import ModelFacts, ValueFact
from optimizer.formats.onnx_graph import mapped, reader_of
from optimizer.formats.onnx_rules import plain_domain, rule_warnings
from optimizer.formats.prepare import checked_facts
from optimizer.formats.shapes import MAX_NODES, Inferred, infer
from optimizer.formats.task_guess import guess_task
from optimizer.specs import ModelCard, TensorSpec

MAX_METADATA = 100
ASCII = "".join(chr(code) for code in range(32, 127))


def inspect_onnx(entry: Path, *, bindings: Mapping[str, int] | None = None, warnings: tuple[str, ...] = ()) -> ModelCard:
    """The card of the model at ``entry``, with FLOPs and traffic at ``bindings`` (defaults fill what is left open).

    ``warnings`` are put first. Nothing is executed. Raises InputError with the codes of security.md 3.2, and
    ``input.refused`` for a binding that the model does not have.
    """
    facts = checked_facts(entry)
    card = _structure(entry, facts)
    card, shapes, doubts = bound_card(card, bindings or {})
    notes = [*warnings, *rule_warnings(facts), *_unknown_operators(facts), *doubts]
    with mapped(entry) as view:
        reader = reader_of(view)
        inferred = infer(facts, reader, shapes) if shapes and facts.node_count <= MAX_NODES else Inferred()
        card = replace(card, random=card.random or traits.drops_at_random(facts, reader))
        card = replace(card, vocabularies=known_ports(card, traits.vocabularies(facts, inferred)))
        flops, traffic, reason = _work(facts, inferred)
    card = replace(card, flops=flops, traffic_bytes=traffic, task=guess_task(card, _makers(facts), inferred.dims))
    notes += [reason] if reason else []
    return replace(card, warnings=tuple(note[:MAX_TEXT] for note in [*notes, *trait_warnings(card)][:MAX_WARNINGS]))


def _structure(entry: Path, facts: ModelFacts) -> ModelCard:
    initialised = {tensor.name for tensor in facts.main.initializers}
    inputs = tuple(_port(port, of_input=True) for port in facts.main.inputs if port.name not in initialised)
    files = external_files(facts.externals())
    operators = Counter(_operator(node.op_type, node.domain) for node in facts.nodes())
    metadata = {key[:MAX_TEXT]: value[:MAX_TEXT] for key, value in list(facts.metadata.items())[:MAX_METADATA]}
    size_bytes = sum(path.stat().st_size for path in model_files(entry, files))
    return ModelCard(
        format="onnx", entry=entry.name, sha256=model_digest(entry, files), size_bytes=size_bytes,
        producer=f"{facts.producer_name} {facts.producer_version}".strip()[:MAX_TEXT], ir_version=facts.ir_version,
        opset=facts.opsets.get("", facts.opsets.get("ai.onnx", 0)),
        domains={(plain_domain(domain) or "ai.onnx")[:MAX_TEXT]: version for domain, version in list(facts.opsets.items())[:MAX_METADATA]},
        inputs=inputs, outputs=tuple(_port(port, of_input=False) for port in facts.main.outputs),
        parameters=traits.parameters(facts), weight_bytes=facts.weight_bytes, precisions=traits.weight_bytes(facts),
        operators=dict(operators.most_common(MAX_OPERATORS)), node_count=facts.node_count,
        control_flow=traits.uses(facts, traits.CONTROL_FLOW), quantized=traits.is_quantized(facts), random=traits.uses(facts, traits.RANDOM),
        data_dependent_shapes=traits.uses(facts, traits.DATA_DEPENDENT) or traits.has_open_loop(facts),
        state_pairs=traits.state_pairs(facts.main.inputs, facts.main.outputs), external_files=files, metadata=metadata,
        charset="".join(character for character in ASCII if character in set(facts.metadata.get("character", ""))),
    )  # fmt: skip


def _makers(facts: ModelFacts) -> dict[str, str]:
    return {name: node.op_type for node in facts.main.nodes for name in node.outputs}


def _operator(op_type: str, domain: str) -> str:
    plain = plain_domain(domain)
    return (f"{plain}.{op_type}" if plain else op_type)[:MAX_TEXT]


def _port(port: ValueFact, *, of_input: bool) -> TensorSpec:
    dims = port.dims or ()
    shape = named_dims(port.name, dims) if of_input else tuple(None if anonymous(dim) else dim for dim in dims)
    shape = tuple(dim[:MAX_TEXT] if isinstance(dim, str) else dim for dim in shape)
    dtype = (port.dtype or "unknown") if port.kind == "tensor" else port.kind
    return TensorSpec(name=port.name, dtype=dtype, shape=shape, ranked=port.dims is not None)


def _work(facts: ModelFacts, inferred: Inferred) -> tuple[int | None, int | None, str]:
    """FLOPs and bytes moved of one call, or None with the reason."""
    flops, traffic = 0, 0.0
    for index, node in enumerate(facts.main.nodes):
        if node.op_type == "Constant" and not plain_domain(node.domain):
            continue
        proto = inferred.protos.get(index)
        counted = _node_work(proto, inferred) if proto is not None else None
        if counted is None:
            what = f"{node.op_type[:60]} node {node.name[:80]!r}" if node.name else f"{node.op_type[:60]} node {index}"
            return None, None, f"FLOPs are not estimated: the shapes at the {what} depend on data, control flow or an unknown operator."
        flops += counted[0]
        traffic += counted[1]
    return flops, round(traffic), ""


def _node_work(proto: onnx.NodeProto, inferred: Inferred) -> tuple[int, float] | None:
    named_outputs = [name for name in proto.output if name]
    if any(name not in inferred.dims for name in named_outputs[:1]):
        return None
    inputs = [inferred.dims.get(name) for name in proto.input]
    count = node_flops(proto, inputs, [inferred.dims.get(name) for name in proto.output])
    if count is None:
        return None
    if proto.op_type in VIEWS:
        return count, 0.0
    if proto.op_type in PICKS:
        return count, 2 * sum(_bytes(name, inferred) for name in named_outputs)
    return count, sum(_bytes(name, inferred) for name in (*proto.input, *named_outputs))


def _bytes(name: str, inferred: Inferred) -> float:
    dims = inferred.dims.get(name)
    if dims is None:
        return 0.0
    size = inferred.item_bytes.get(name, 0.0)
    for dim in dims:
        size *= dim
    return size


def _unknown_operators(facts: ModelFacts) -> list[str]:
    """Operators of the standard domains that their opset does not have."""
    defined = {(function.domain, function.name) for function in facts.functions}
    opsets = {plain_domain(domain): version for domain, version in facts.opsets.items()}
    used = {(plain_domain(node.domain), node.op_type) for node in facts.nodes() if (node.domain, node.op_type) not in defined}
    missing = sorted(
        op for domain, op in used if domain != "com.microsoft" and not onnx.defs.has(op, opsets.get(domain, 1), domain)
    )  # fmt: skip
    return [f"The operator {op[:80]!r} is not part of opset {opsets.get('', 0)}; backends will refuse the model." for op in missing[:5]]

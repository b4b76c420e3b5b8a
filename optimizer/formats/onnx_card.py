"""The ModelCard of an ONNX model: what can be learned without running it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import onnx

from optimizer.errors import InputError
from optimizer.formats import graph_traits as traits
from optimizer.formats.bindings import anonymous, bound_shapes, named_dims, resolved_bindings
from optimizer.formats.external_data import external_files
from optimizer.formats.flops import PICKS, VIEWS, node_flops
from optimizer.formats.onnx_facts import ModelFacts, ValueFact
from optimizer.formats.onnx_graph import mapped, reader_of
from optimizer.formats.onnx_rules import plain_domain, rule_warnings
from optimizer.formats.prepare import checked_facts
from optimizer.formats.shapes import MAX_NODES, Inferred, infer
from optimizer.formats.task_guess import guess_task
from optimizer.specs import ModelCard, TensorSpec

MAX_TEXT = 1_024
MAX_METADATA = 100
MAX_OPERATORS = 1_000
MAX_WARNINGS = 50
PIECE = 4 << 20
ASCII = "".join(chr(code) for code in range(32, 127))


def inspect_model(entry: Path, *, bindings: Mapping[str, int] | None = None, warnings: tuple[str, ...] = ()) -> ModelCard:
    """The card of the model at ``entry``, with FLOPs and traffic at ``bindings`` (defaults fill what is left open).

    ``warnings`` are put first. Nothing is executed. Raises InputError with the codes of security.md 3.2, and
    ``input.refused`` for a binding that the model does not have.
    """
    facts = checked_facts(entry)
    card = _structure(entry, facts)
    card, shapes, doubts = _bound(card, bindings or {})
    notes = [*warnings, *rule_warnings(facts), *_unknown_operators(facts), *doubts]
    with mapped(entry) as view:
        reader = reader_of(view)
        inferred = infer(facts, reader, shapes) if shapes and facts.node_count <= MAX_NODES else Inferred()
        card = replace(card, vocabularies=_known_ports(card, traits.vocabularies(facts, inferred)))
        flops, traffic, reason = _work(facts, inferred)
    card = replace(card, flops=flops, traffic_bytes=traffic, task=guess_task(card, facts, inferred.dims))
    notes += [reason] if reason else []
    return replace(card, warnings=tuple(note[:MAX_TEXT] for note in [*notes, *_trait_warnings(card)][:MAX_WARNINGS]))


def _structure(entry: Path, facts: ModelFacts) -> ModelCard:
    initialised = {tensor.name for tensor in facts.main.initializers}
    inputs = tuple(_port(port, of_input=True) for port in facts.main.inputs if port.name not in initialised)
    files = external_files(facts.externals())
    operators = Counter(_operator(node.op_type, node.domain) for node in facts.nodes())
    metadata = {key[:MAX_TEXT]: value[:MAX_TEXT] for key, value in list(facts.metadata.items())[:MAX_METADATA]}
    return ModelCard(
        format="onnx", entry=entry.name, sha256=_digest(entry, files), size_bytes=sum(path.stat().st_size for path in _files(entry, files)),
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


def _operator(op_type: str, domain: str) -> str:
    plain = plain_domain(domain)
    return (f"{plain}.{op_type}" if plain else op_type)[:MAX_TEXT]


def _port(port: ValueFact, *, of_input: bool) -> TensorSpec:
    dims = port.dims or ()
    shape = named_dims(port.name, dims) if of_input else tuple(None if anonymous(dim) else dim for dim in dims)
    shape = tuple(dim[:MAX_TEXT] if isinstance(dim, str) else dim for dim in shape)
    dtype = (port.dtype or "unknown") if port.kind == "tensor" else port.kind
    return TensorSpec(name=port.name, dtype=dtype, shape=shape, ranked=port.dims is not None)


def _files(entry: Path, external: tuple[str, ...]) -> list[Path]:
    return [entry, *(entry.parent / name for name in external)]


def _digest(entry: Path, external: tuple[str, ...]) -> str:
    """sha256 of the entry file; with external data, of the list of all files with theirs."""
    digests = [_file_digest(path) for path in _files(entry, external)]
    if not external:
        return digests[0]
    lines = "".join(f"{digest}  {name}\n" for digest, name in zip(digests, ["", *external], strict=True))
    return hashlib.sha256(lines.encode()).hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bound(card: ModelCard, bindings: Mapping[str, int]) -> tuple[ModelCard, dict[str, tuple[int, ...]], list[str]]:
    """The card with its bindings and the input shapes; inputs that cannot be fed are a warning unless the caller bound something."""
    try:
        return replace(card, bindings=resolved_bindings(card, bindings)), bound_shapes(card, bindings), []
    except InputError as error:
        if bindings:
            raise
        return card, {}, [error.message]


def _known_ports(card: ModelCard, rows: dict[str, int]) -> dict[str, int]:
    names = {tensor.name for tensor in card.inputs}
    return {name: count for name, count in rows.items() if name in names}


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


def _trait_warnings(card: ModelCard) -> list[str]:
    notes = []
    if card.random:
        notes.append("The model draws random numbers: its outputs cannot be compared element by element.")
    if card.data_dependent_shapes:
        notes.append("The size of an output depends on the data: time varies with the inputs.")
    if card.quantized:
        notes.append("The model is already quantised: further quantisation brings little.")
    return notes

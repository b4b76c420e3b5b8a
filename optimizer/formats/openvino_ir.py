"""The ModelCard of an OpenVINO IR: what its two files say without being loaded."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from optimizer.formats.bindings import named_dims
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
from optimizer.formats.graph_traits import PARAMETER_TYPES, QUANTIZED_TYPES, state_pairs
from optimizer.formats.onnx_facts import ValueFact
from optimizer.formats.openvino_facts import IrConstant, IrFacts, IrGraph, IrLayer, IrPort, dtype_of
from optimizer.formats.openvino_rules import OPSET, VERSION, WEIGHTS_SUFFIX, checked_ir, constants
from optimizer.formats.openvino_work import ONNX_NAMES, vocabularies, work
from optimizer.formats.openvino_xml import declared_dims, tensor_names
from optimizer.formats.task_guess import guess_task
from optimizer.specs import ModelCard, TensorSpec

CONTROL_FLOW = frozenset({"If", "Loop", "TensorIterator"})
RANDOM = frozenset({"RandomUniform", "Multinomial"})
DATA_DEPENDENT = re.compile(r"NonZero|Unique|StringTensorUnpack|\w*NonMaxSuppression\w*|MatrixNms|MulticlassNms")
PLUMBING = frozenset({"Parameter", "Result", "Const"})


def inspect_ir(entry: Path, *, bindings: Mapping[str, int] | None = None, warnings: tuple[str, ...] = ()) -> ModelCard:
    """The card of the IR at ``entry`` (the .xml, its .bin beside it), with FLOPs where the file fixes all shapes.

    ``warnings`` are put first. Raises InputError ``openvino.*``, and ``input.refused`` for a binding that the model does not have.
    """
    facts = checked_ir(entry)
    card, shapes, doubts = bound_card(_structure(entry, facts), bindings or {})
    card = replace(card, vocabularies=known_ports(card, vocabularies(facts.main)))
    flops, traffic, reason = work(facts)
    dims = {tensor.name: tuple(dim for dim in tensor.shape if isinstance(dim, int)) for tensor in card.outputs if None not in tensor.shape}
    card = replace(card, flops=flops, traffic_bytes=traffic, task=guess_task(card, _makers(facts.main), {**dims, **shapes}))
    notes = [*warnings, *doubts, *([reason] if reason else []), *trait_warnings(card)]
    return replace(card, warnings=tuple(note[:MAX_TEXT] for note in notes[:MAX_WARNINGS]))


def _structure(entry: Path, facts: IrFacts) -> ModelCard:
    weights = entry.with_suffix(WEIGHTS_SUFFIX)
    files = (weights.name,) if weights.is_file() else ()
    inputs = tuple(_input(layer) for layer in facts.main.layers if layer.kind == "Parameter")
    outputs = tuple(_output(layer, facts.main) for layer in facts.main.layers if layer.kind == "Result")
    operators = Counter(layer.kind[:MAX_TEXT] for layer in facts.layers() if layer.kind not in PLUMBING)
    opset = max((int(found[1]) for layer in facts.layers() if (found := OPSET.fullmatch(layer.opset))), default=0)
    stored = _stored_once(constants(facts))
    return ModelCard(
        format="openvino_ir", entry=entry.name, sha256=model_digest(entry, files),
        size_bytes=sum(path.stat().st_size for path in model_files(entry, files)), producer=f"openvino {facts.runtime.partition('-')[0]}".strip(),
        ir_version=int(VERSION), opset=opset, domains={"openvino": opset}, inputs=inputs, outputs=outputs, parameters=_parameters(stored),
        weight_bytes=sum(constant.size for constant in stored), precisions=_precisions(stored),
        operators=dict(operators.most_common(MAX_OPERATORS)), node_count=operators.total(),
        control_flow=bool(CONTROL_FLOW & set(operators)), quantized="FakeQuantize" in operators or _mostly_narrow(stored),
        random=bool(RANDOM & set(operators)), data_dependent_shapes=any(DATA_DEPENDENT.fullmatch(kind) for kind in operators),
        state_pairs=state_pairs(_values(inputs), _values(outputs)), external_files=files,
    )  # fmt: skip


def _input(layer: IrLayer) -> TensorSpec:
    dims = declared_dims(layer)
    names = layer.outputs[0].names if layer.outputs else ()
    name = tensor_name(names, layer)
    dtype = dtype_of(layer.data.get("element_type", ""))
    return TensorSpec(name=name, dtype=dtype, shape=named_dims(name, dims or ()), ranked=dims is not None)


def _output(layer: IrLayer, graph: IrGraph) -> TensorSpec:
    """A Result passes on what feeds it; older writers leave its names on that side."""
    port = layer.inputs[0] if layer.inputs else IrPort(id="")
    source = _source_port(layer, port, graph)
    names = tensor_names(layer.output_names) or (source.names if source else ())
    shape = tuple(None if dim < 0 else dim for dim in port.dims)
    return TensorSpec(name=tensor_name(names, layer), dtype=dtype_of(port.precision), shape=shape)


def _source_port(layer: IrLayer, port: IrPort, graph: IrGraph) -> IrPort | None:
    maker, out = graph.sources.get((layer.id, port.id), ("", ""))
    ports = next((one.outputs for one in graph.layers if one.id == maker), [])
    return next((one for one in ports if one.id == out), None)


def tensor_name(names: tuple[str, ...], layer: IrLayer) -> str:
    """The name the runtime answers with: the first of several in byte order, and the layer's own for a tensor without one."""
    return min(names) if names else layer.name


def _makers(graph: IrGraph) -> dict[str, str]:
    """The operator, by its ONNX name, that makes each output of the network."""
    kinds = {layer.id: layer.kind for layer in graph.layers}
    made: dict[str, str] = {}
    for layer in graph.layers:
        if layer.kind == "Result" and layer.inputs:
            kind = kinds.get(graph.sources.get((layer.id, layer.inputs[0].id), ("", ""))[0], "")
            made[_output(layer, graph).name] = ONNX_NAMES.get(kind, kind)
    return made


def _stored_once(found: list[IrConstant]) -> list[IrConstant]:
    """Constants of equal bytes share one run of the file: it counts once."""
    return list({(one.offset, one.size, one.element): one for one in found}.values())


def _parameters(stored: list[IrConstant]) -> int:
    return sum(one.elements for one in stored if PARAMETER_TYPES.fullmatch(dtype_of(one.element)))


def _mostly_narrow(stored: list[IrConstant]) -> bool:
    narrow = sum(one.elements for one in stored if dtype_of(one.element) in QUANTIZED_TYPES)
    return narrow > 0 and 2 * narrow > _parameters(stored)


def _precisions(stored: list[IrConstant]) -> dict[str, int]:
    sizes: Counter[str] = Counter()
    for one in stored:
        sizes[dtype_of(one.element)] += one.size
    return dict(sizes.most_common())


def _values(tensors: tuple[TensorSpec, ...]) -> tuple[ValueFact, ...]:
    return tuple(ValueFact(name=one.name, dtype=one.dtype, dims=one.shape if one.ranked else None) for one in tensors)

"""Fix the symbolic dims of the inputs to the bound sizes, so that shape arithmetic becomes constant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import onnx

from optimizer.passes.base import No, PassContext, PassResult, Yes
from optimizer.passes.errors import NoChange, PassFailed
from optimizer.passes.onnx_files import copied, load, real_inputs, save, size_facts
from optimizer.passes.verify import verify_rewrite
from optimizer.specs import HardwareProfile, Json, ModelCard, PassAccuracy, PassNeeds, PassScope, PassStep, Precision


class ShapeSpecialisation:
    """The result serves exactly the bound shapes; alone it changes little, before a cleaner it lets whole subgraphs fold."""

    name = "shape_specialisation"
    title = "Fixed input shapes"
    family = "graph simplification"
    scope = PassScope.HARDWARE_AWARE
    accuracy = PassAccuracy.INVARIANT
    needs = PassNeeds.NOTHING
    formats: frozenset[str] = frozenset({"onnx"})
    backends: frozenset[str] = frozenset()
    precisions: frozenset[Precision] = frozenset()
    tools: tuple[str, ...] = ("onnx",)
    fixes_shapes = True

    def applicable(self, card: ModelCard, hardware: HardwareProfile) -> Yes | No:
        if all(isinstance(dim, int) for tensor in card.inputs for dim in tensor.shape):
            return No("every input shape is fixed already")
        return Yes()

    def variants(self, card: ModelCard, hardware: HardwareProfile) -> Sequence[PassStep]:
        return (PassStep(name=self.name),)

    def apply(self, source: Path, target_dir: Path, params: dict[str, Json], context: PassContext) -> PassResult:
        model = load(source)
        before = copied(model)
        fixed = _fix_inputs(model, context.shapes)
        if not fixed:
            raise NoChange("Every input shape is fixed already.")
        _fix_symbols([*model.graph.output, *model.graph.value_info], _symbols(before, context.shapes))
        entry = save(model, target_dir)
        facts = {"fixed": fixed, **size_facts(before, model), **verify_rewrite(source, entry, context)}
        return PassResult(entry=entry, facts=facts)


def _fix_inputs(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, list[int]]:
    """Write the bound sizes into the graph's inputs; returns those that were not fixed before."""
    fixed = {}
    for value in real_inputs(model):
        dims = value.type.tensor_type.shape.dim
        bound = shapes.get(value.name)
        if bound is None or len(bound) != len(dims):
            raise PassFailed(f"Input {value.name!r} has no bound shape of {len(dims)} dims: bind its symbols first.")
        if any(dim.dim_value != size for dim, size in zip(dims, bound, strict=True)):
            fixed[value.name] = list(bound)
        for dim, size in zip(dims, bound, strict=True):
            dim.Clear()
            dim.dim_value = size
    return fixed


def _symbols(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Sizes of the symbols that name one size everywhere; some exporters call every unknown dim ``?``."""
    sizes: dict[str, set[int]] = {}
    for value in real_inputs(model):
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
            if dim.dim_param:
                sizes.setdefault(dim.dim_param, set()).add(size)
    return {symbol: found.pop() for symbol, found in sizes.items() if len(found) == 1 and symbol.strip("?")}


def _fix_symbols(values: Iterable[onnx.ValueInfoProto], symbols: Mapping[str, int]) -> None:
    for value in values:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in symbols:
                size = symbols[dim.dim_param]
                dim.Clear()
                dim.dim_value = size

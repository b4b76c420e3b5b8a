"""Optimization passes: a literal table, plus what other packages register in the entry-point group ``parka.passes``.

The table's order is the order in which passes compose in one recipe: shapes before cleaning, cleaning before fusion (a
simplifier that runs first hides attention from the fusion), fusion and smaller layers before quantization. The operator set is raised once the
graph is clean: the converter then meets fewer operators that it may not know.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

from optimizer import extensions
from optimizer.errors import InputError
from optimizer.extensions import NotLoaded
from optimizer.passes.base import Conversion, No, Pass, PassContext, PassResult, Yes
from optimizer.passes.bf16_rounding import CompensatedRounding
from optimizer.passes.distillation import Distillation
from optimizer.passes.dynamic_int8 import DynamicInt8
from optimizer.passes.external import external_tools
from optimizer.passes.onnx_export import OnnxExport
from optimizer.passes.openvino_int8 import OpenVinoInt8
from optimizer.passes.openvino_weight_only import OpenVinoWeightOnly
from optimizer.passes.opset_upgrade import OpsetUpgrade
from optimizer.passes.ort_basic import OrtBasic
from optimizer.passes.partial_precision import PartialPrecision
from optimizer.passes.quantization_aware_training import QuantizationAwareTraining
from optimizer.passes.shape_specialisation import ShapeSpecialisation
from optimizer.passes.simplify import Simplify
from optimizer.passes.static_int8 import StaticInt8
from optimizer.passes.structured_pruning import StructuredPruning
from optimizer.passes.transformer_fusion import TransformerFusion
from optimizer.passes.weight_only import WeightOnly
from optimizer.tools import FILE_NAME, broken_tools, known_tools

CONTRACT = (
    "name", "title", "family", "scope", "accuracy", "needs", "formats", "backends", "precisions", "tools", "applicable", "variants", "apply",
)  # fmt: skip

CONVERSIONS: dict[str, Conversion] = {"onnx_export": OnnxExport()}
"""First steps of a recipe that lead to another format."""

PASSES: dict[str, Pass] = {
    "shape_specialisation": ShapeSpecialisation(),
    "ort_basic": OrtBasic(),
    "simplify": Simplify(),
    "opset_upgrade": OpsetUpgrade(),
    "transformer_fusion": TransformerFusion(),
    "structured_pruning": StructuredPruning(),
    "distillation": Distillation(),
    "qat_int8": QuantizationAwareTraining(),
    "dynamic_int8": DynamicInt8(),
    "static_int8": StaticInt8(),
    "openvino_int8": OpenVinoInt8(),
    "weight_only": WeightOnly(),
    "openvino_weight_only": OpenVinoWeightOnly(),
    "bf16_rounding": CompensatedRounding(),
    "partial_bf16": PartialPrecision(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Registered:
    """Passes of other packages by name, and by name why one of them could not be loaded."""

    loaded: dict[str, Pass] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)


@cache
def _registered() -> _Registered:
    found = _Registered()
    for extension in extensions.registered(extensions.PASSES):
        if extension.name in CONVERSIONS or extension.name in PASSES:
            continue
        try:
            found.loaded[extension.name] = extensions.load(extension, contract=CONTRACT)
        except NotLoaded as error:
            found.broken[extension.name] = error.message
    return found


def passes() -> dict[str, Pass]:
    """Every pass by name: ours in composing order, external toolkits, registered ones. No name replaces an earlier one."""
    ours: dict[str, Pass] = {**CONVERSIONS, **PASSES}
    others: dict[str, Pass] = {**_registered().loaded, **external_tools(known_tools())}
    return {**ours, **{name: one for name, one in others.items() if name not in ours}}


def conversions() -> dict[str, Conversion]:
    """The passes that lead to another format, ours and registered ones."""
    registered: dict[str, Any] = {name: one for name, one in _registered().loaded.items() if hasattr(one, "target_format")}
    return {**CONVERSIONS, **registered}


def broken_passes() -> dict[str, str]:
    """Registered passes that could not be loaded and declared tools that cannot be used, each with a sentence that names the cause."""
    return {**_registered().broken, **broken_tools()}


def optimization_pass(name: str) -> Pass:
    """The pass of that name. Raises InputError ``pass.unknown``, ``tools.config`` where a tool is declared that cannot be used."""
    table = passes()
    if name in table:
        return table[name]
    tools = broken_tools()
    if name in tools:
        raise InputError("tools.config", tools[name])
    why = broken_passes().get(name) or tools.get(FILE_NAME) or f"choose from: {', '.join(table)}."
    raise InputError("pass.unknown", f"There is no pass named {name!r}; {why}")


__all__ = [
    "CONVERSIONS",
    "PASSES",
    "Conversion",
    "No",
    "Pass",
    "PassContext",
    "PassResult",
    "Yes",
    "broken_passes",
    "conversions",
    "optimization_pass",
    "passes",
]

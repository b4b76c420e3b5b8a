"""Optimization passes: a literal table, plus what third parties register in the entry-point group ``parka.passes``.

The table's order is the order in which passes compose in one recipe: shapes before cleaning, cleaning before fusion (a
simplifier that runs first hides attention from the fusion), fusion and smaller layers before quantization. The operator set is raised once the
graph is clean: the converter then meets fewer operators that it may not know.
"""

from __future__ import annotations

import logging
from functools import cache
from importlib.metadata import entry_points

from optimizer.errors import InputError
from optimizer.passes.base import Conversion, No, Pass, PassContext, PassResult, Yes
from optimizer.passes.distillation import Distillation
from optimizer.passes.dynamic_int8 import DynamicInt8
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

ENTRY_POINTS = "parka.passes"

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
    "partial_bf16": PartialPrecision(),
}


@cache
def passes() -> dict[str, Pass]:
    """Every pass by name: ours in composing order, then the registered ones. A registered name never replaces one of ours."""
    registered: dict[str, Pass] = {}
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            registered[entry.name] = entry.load()()
        except Exception as error:
            logging.getLogger(__name__).warning("pass_not_loaded name=%s value=%s error=%s", entry.name, entry.value, error)
    ours: dict[str, Pass] = {**CONVERSIONS, **PASSES}
    return {**ours, **{name: one for name, one in registered.items() if name not in ours}}


def optimization_pass(name: str) -> Pass:
    """The pass of that name. Raises InputError ``pass.unknown``."""
    table = passes()
    if name not in table:
        raise InputError("pass.unknown", f"There is no pass named {name!r}; choose from: {', '.join(table)}.")
    return table[name]


__all__ = ["CONVERSIONS", "PASSES", "Conversion", "No", "Pass", "PassContext", "PassResult", "Yes", "optimization_pass", "passes"]

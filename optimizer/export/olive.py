"""A recipe as a configuration of Microsoft Olive (0.13), where Olive has passes that do the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from optimizer.passes.dynamic_int8 import PRODUCTS
from optimizer.passes.quantizer import HEAVY, SETTLED_TYPE
from optimizer.passes.transformer_fusion import MODEL_TYPE
from optimizer.specs import Json, PassStep, Recipe, TensorSpec

CALIBRATION = "calibration"
EXAMPLES = "examples"
"""Olive takes any text of its configuration that names an existing path for that path: the data must not be called like its folder."""
Options = dict[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class OliveConfig:
    """The configuration, or the reason why there is none."""

    config: dict[str, Json] | None
    reason: str = ""


def olive_config(recipe: Recipe, *, shapes: Mapping[str, Sequence[int]], inputs: Sequence[TensorSpec]) -> OliveConfig:
    """Olive's form of the passes; it starts from the untouched upload, which the reader puts beside it as ``original.onnx``."""
    if not recipe.passes:
        return OliveConfig(config=None, reason="the model is served as uploaded, there is no pass to express")
    unknown = [step.name for step in recipe.passes if step.name not in TRANSLATIONS]
    if unknown:
        return OliveConfig(config=None, reason=f"Olive has no pass that does the same as {', '.join(unknown)}")
    config: dict[str, Json] = {
        "input_model": {"type": "OnnxModel", "model_path": "original.onnx"},
        "passes": {step.name: TRANSLATIONS[step.name](step, shapes) for step in recipe.passes},
        "output_dir": "olive-output",
    }
    if any(step.name == "static_int8" for step in recipe.passes):
        config["data_configs"] = [_calibration(shapes, inputs)]
    return OliveConfig(config=config)


def _dynamic_int8(step: PassStep, _shapes: Mapping[str, Sequence[int]]) -> Options:
    return {
        "type": "OnnxDynamicQuantization",
        "precision": "int8",
        "op_types_to_quantize": list(PRODUCTS),
        "per_channel": bool(step.params.get("per_channel", True)),
        "reduce_range": bool(step.params.get("reduce_range", False)),
        "quant_preprocess": False,
        "extra_options": dict(SETTLED_TYPE),
    }


def _static_int8(step: PassStep, _shapes: Mapping[str, Sequence[int]]) -> Options:
    return {
        "type": "OnnxStaticQuantization",
        "precision": "int8",
        "activation_type": str(step.params.get("activation", "uint8")),
        "op_types_to_quantize": list(HEAVY),
        "per_channel": bool(step.params.get("per_channel", True)),
        "reduce_range": bool(step.params.get("reduce_range", False)),
        "quant_preprocess": False,
        "quant_format": "QDQ",
        "calibrate_method": "MinMax",
        "data_config": EXAMPLES,
    }


def _transformer_fusion(_step: PassStep, _shapes: Mapping[str, Sequence[int]]) -> Options:
    return {
        "type": "OrtTransformersOptimization",
        "model_type": MODEL_TYPE,
        "num_heads": 0,
        "hidden_size": 0,
        "opt_level": 0,
        "use_gpu": False,
    }


def _shape_specialisation(_step: PassStep, shapes: Mapping[str, Sequence[int]]) -> Options:
    return {"type": "DynamicToFixedShape", "input_name": list(shapes), "input_shape": [list(shape) for shape in shapes.values()]}


def _calibration(shapes: Mapping[str, Sequence[int]], inputs: Sequence[TensorSpec]) -> Options:
    """Raw files that the reader supplies: one folder per input below ``calibration``."""
    return {
        "name": EXAMPLES,
        "type": "RawDataContainer",
        "load_dataset_config": {
            "data_dir": CALIBRATION,
            "input_names": [tensor.name for tensor in inputs],
            "input_shapes": [list(shapes.get(tensor.name, ())) for tensor in inputs],
            "input_types": [tensor.dtype for tensor in inputs],
        },
    }


TRANSLATIONS: dict[str, Callable[[PassStep, Mapping[str, Sequence[int]]], Options]] = {
    "shape_specialisation": _shape_specialisation,
    "transformer_fusion": _transformer_fusion,
    "dynamic_int8": _dynamic_int8,
    "static_int8": _static_int8,
}

"""What the quantizing passes share: which models they take, silence around the tool, proof that its result loads."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx

from optimizer.ort import load_onnxruntime
from optimizer.passes.base import No, Yes
from optimizer.passes.errors import PassFailed
from optimizer.passes.onnx_files import ENTRY, LARGEST_FILE_BYTES
from optimizer.passes.quiet import quiet
from optimizer.specs import HardwareProfile, ModelCard

HEAVY = ("Conv", "ConvTranspose", "MatMul", "Gemm")
CALIBRATION_EXAMPLES = 100
NO_EXAMPLES = "Static int8 needs calibration examples: add real inputs or pick a shipped corpus that fits."
X86 = frozenset({"x86_64", "amd64", "i686"})
QUANTIZED_OPERATORS = frozenset(
    {"MatMulInteger", "ConvInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QAttention", "DynamicQuantizeLinear",
     "QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "QGemm"}
)  # fmt: skip
SETTLED_TYPE = {"DefaultTensorType": onnx.TensorProto.FLOAT}
"""Shape inference knows nothing of fused operators; what they hand on is float."""


def quantization() -> ModuleType:
    """``onnxruntime.quantization``."""
    load_onnxruntime()
    return importlib.import_module("onnxruntime.quantization")


def calibratable(card: ModelCard) -> Yes | No:
    """Whether ranges of activations can be taken on this model and would be used."""
    if card.quantized:
        return No("already quantised")
    if not any(card.operators.get(name) for name in HEAVY):
        return No("no convolutions or matrix products to quantise")
    if card.control_flow:
        return No("calibration does not reach into the branches and loops of this model")
    return Yes()


def needs_reduced_range(hardware: HardwareProfile) -> bool:
    """x86 without int8 dot products adds pairs of products in 16 bits, which overflows for full 8-bit weights."""
    return hardware.architecture.lower() in X86 and not hardware.dot_int8


def run_quantizer(call: Callable[[], None], target_dir: Path) -> onnx.ModelProto:
    """Run the tool quietly, then load its result as a runtime would: it reports success for models that no runtime takes.

    Raises ``pass.failed``.
    """
    try:
        with quiet():
            call()
        load_onnxruntime().InferenceSession(str(target_dir / ENTRY), _silent_options(), providers=["CPUExecutionProvider"])
    except Exception as error:  # tool and runtime raise anything
        raise PassFailed(f"The quantizer failed on this graph: {' '.join(str(error).split())[:300]}") from error
    return onnx.load(str(target_dir / ENTRY))


def is_large(model: onnx.ModelProto) -> bool:
    """Whether the result needs its weights beside the graph."""
    return int(model.ByteSize()) > LARGEST_FILE_BYTES


def _silent_options() -> Any:
    options = load_onnxruntime().SessionOptions()
    options.log_severity_level = 4
    return options

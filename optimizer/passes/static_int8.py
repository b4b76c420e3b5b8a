"""Static int8 with calibration: weights and activations in int8 as QDQ pairs, ranges taken from calibration examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx

from optimizer.passes.base import No, PassContext, PassResult, Yes
from optimizer.passes.errors import NoChange, PassFailed
from optimizer.passes.examples import Feeds, calibration_feeds
from optimizer.passes.onnx_files import ENTRY, constants_to_initializers, copied, load, operators, opset, size_facts
from optimizer.passes.opset_upgrade import converted
from optimizer.passes.quantizer import (
    CALIBRATION_EXAMPLES,
    HEAVY,
    NO_EXAMPLES,
    QUANTIZED_OPERATORS,
    X86,
    calibratable,
    is_large,
    needs_reduced_range,
    quantization,
    run_quantizer,
)
from optimizer.specs import HardwareProfile, Json, ModelCard, PassAccuracy, PassNeeds, PassScope, PassStep, Precision

PER_CHANNEL_OPSET = 13
"""DequantizeLinear has an axis from here on; below it the tool writes per-channel models that no runtime loads."""


class StaticInt8:
    """MinMax calibration. Unsigned activations with signed weights on x86 (VNNI's own form), signed both elsewhere."""

    name = "static_int8"
    title = "Static int8"
    family = "quantization"
    scope = PassScope.HARDWARE_AWARE
    accuracy = PassAccuracy.SENSITIVE
    needs = PassNeeds.CALIBRATION
    formats: frozenset[str] = frozenset({"onnx"})
    backends: frozenset[str] = frozenset()
    precisions: frozenset[Precision] = frozenset()
    tools: tuple[str, ...] = ("onnx", "onnxruntime")

    def applicable(self, card: ModelCard, hardware: HardwareProfile) -> Yes | No:
        return calibratable(card)

    def variants(self, card: ModelCard, hardware: HardwareProfile) -> Sequence[PassStep]:
        activation = "uint8" if hardware.architecture.lower() in X86 else "int8"
        common = {"activation": activation, "reduce_range": needs_reduced_range(hardware)}
        return tuple(PassStep(name=self.name, params={**common, "per_channel": wide}) for wide in (True, False))

    def apply(self, source: Path, target_dir: Path, params: dict[str, Json], context: PassContext) -> PassResult:
        target_dir.mkdir(parents=True, exist_ok=True)
        examples = list(calibration_feeds(context, at_most=CALIBRATION_EXAMPLES))
        if not examples:
            raise PassFailed(NO_EXAMPLES)
        before = load(source)
        prepared = _modern(before)
        constants_to_initializers(prepared)
        after = run_quantizer(lambda: _quantize(prepared, target_dir / ENTRY, params, examples), target_dir)
        quantized = {name: count for name, count in operators(after).items() if name in QUANTIZED_OPERATORS}
        if not quantized:
            raise NoChange("The quantizer found nothing to quantise.")
        return PassResult(
            entry=target_dir / ENTRY, facts={"quantized": quantized, "calibration_examples": len(examples), **size_facts(before, after)}
        )


class _Reader:
    """Hands the tool one example at a time, again from the start after ``rewind``."""

    def __init__(self, examples: Sequence[Feeds]) -> None:
        self._examples = examples
        self._pending: Iterator[Feeds] = iter(examples)

    def get_next(self) -> Feeds | None:
        return next(self._pending, None)

    def rewind(self) -> None:
        self._pending = iter(self._examples)

    def __len__(self) -> int:
        return len(self._examples)


def _quantize(model: onnx.ModelProto, entry: Path, params: dict[str, Json], examples: Sequence[Feeds]) -> None:
    tool = quantization()
    tool.CalibrationDataReader.register(_Reader)
    activation = tool.QuantType.QUInt8 if params.get("activation", "uint8") == "uint8" else tool.QuantType.QInt8
    tool.quantize_static(
        model,
        entry,
        _Reader(examples),
        quant_format=tool.QuantFormat.QDQ,
        op_types_to_quantize=list(HEAVY),
        per_channel=bool(params.get("per_channel", True)),
        reduce_range=bool(params.get("reduce_range", False)),
        activation_type=activation,
        weight_type=tool.QuantType.QInt8,
        calibrate_method=tool.CalibrationMethod.MinMax,
        use_external_data_format=is_large(model),
    )


def _modern(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose operator set knows per-channel scales."""
    return converted(model, PER_CHANNEL_OPSET) if opset(model) < PER_CHANNEL_OPSET else copied(model)

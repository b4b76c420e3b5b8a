"""Quantization-aware training: the graph that static int8 writes, with the rounding in every training step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from optimizer.passes.base import No, PassContext, PassResult, Yes
from optimizer.passes.static_int8 import StaticInt8
from optimizer.passes.training.needs import trainable
from optimizer.specs import HardwareProfile, Json, ModelCard, PassAccuracy, PassNeeds, PassScope, PassStep, Precision

RATE = 1e-4
STATIC = StaticInt8()


class QuantizationAwareTraining:
    """Weights learn to be rounded; ranges stay as calibrated, so the result runs exactly as fast as post-training int8."""

    name = "qat_int8"
    title = "Quantization-aware training"
    family = "training"
    scope = PassScope.HARDWARE_AWARE
    accuracy = PassAccuracy.SENSITIVE
    needs = PassNeeds.TRAINING
    formats: frozenset[str] = frozenset({"onnx"})
    backends: frozenset[str] = frozenset()
    precisions: frozenset[Precision] = frozenset()
    tools: tuple[str, ...] = ("onnx", "onnxruntime", "torch")

    def applicable(self, card: ModelCard, hardware: HardwareProfile) -> Yes | No:
        return trainable(card, hardware)

    def variants(self, card: ModelCard, hardware: HardwareProfile) -> Sequence[PassStep]:
        return tuple(PassStep(name=self.name, params=dict(step.params)) for step in STATIC.variants(card, hardware))

    def apply(self, source: Path, target_dir: Path, params: dict[str, Json], context: PassContext) -> PassResult:
        from optimizer.passes.training.students import open_studio, trained_rounded  # heavy: torch

        studio = open_studio(source, params, context)
        quantized = STATIC.apply(source, context.work_dir / "static", params, context)
        narrow = bool(params.get("reduce_range", False))
        entry, facts = trained_rounded(studio, quantized.entry, target_dir, name=self.name, rate=RATE, narrow=narrow)
        return PassResult(entry=entry, facts={"quantized": quantized.facts["quantized"], **facts})

"""bf16 weights rounded with compensation: every layer in bf16, at no cost in speed, with much less of the weights' rounding error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from optimizer.passes.base import No, PassContext, PassResult, Yes
from optimizer.passes.errors import NoChange, PassFailed
from optimizer.passes.examples import calibration_feeds
from optimizer.passes.openvino_ir import write_ir
from optimizer.passes.openvino_rounding import EXAMPLES, write_rounded
from optimizer.passes.quantizer import calibratable
from optimizer.specs import HardwareProfile, Json, ModelCard, PassAccuracy, PassNeeds, PassScope, PassStep, Precision


class CompensatedRounding:
    """Writes OpenVINO's own form of the model with its weights on bf16 values, chosen on what the layers read."""

    name = "bf16_rounding"
    title = "Compensated bf16 rounding"
    family = "precision"
    scope = PassScope.HARDWARE_SPECIFIC
    accuracy = PassAccuracy.SENSITIVE
    needs = PassNeeds.CALIBRATION
    formats: frozenset[str] = frozenset({"onnx"})
    backends: frozenset[str] = frozenset({"openvino"})
    precisions: frozenset[Precision] = frozenset({Precision.BF16})
    tools: tuple[str, ...] = ("openvino",)
    fixes_shapes = True

    def applicable(self, card: ModelCard, hardware: HardwareProfile) -> Yes | No:
        if not hardware.matrix_bf16:
            return No("this host has no bf16 matrix units, so bf16 saves no time")
        return calibratable(card)

    def variants(self, card: ModelCard, hardware: HardwareProfile) -> Sequence[PassStep]:
        return (PassStep(name=self.name),)

    def apply(self, source: Path, target_dir: Path, params: dict[str, Json], context: PassContext) -> PassResult:
        feeds = list(calibration_feeds(context, at_most=EXAMPLES))
        if not feeds:
            raise PassFailed("Compensated rounding needs examples: add real inputs or pick a shipped corpus that fits.")
        exact = write_ir(source, context.work_dir / "exact", shapes=context.shapes)
        entry, facts = write_rounded(exact, target_dir, feeds=feeds)
        if not facts["layers_rounded"]:
            raise NoChange("Every weight that bf16 would round is already a bf16 value.")
        return PassResult(entry=entry, facts={"calibration_examples": len(feeds), **facts})

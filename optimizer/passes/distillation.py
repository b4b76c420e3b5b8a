"""Knowledge distillation: a narrower or shallower student learns the answers of the uploaded network, its teacher."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from optimizer.passes.base import No, PassContext, PassResult, Yes
from optimizer.passes.training.needs import trainable
from optimizer.specs import HardwareProfile, Json, ModelCard, PassAccuracy, PassNeeds, PassScope, PassStep, Precision

RATE = 1e-3
STUDENTS = ((0.5, 1.0), (1.0, 0.5), (0.25, 1.0))
"""(share of every group of channels, share of the residual blocks)."""


class Distillation:
    """The student begins with the teacher's most valuable channels; its targets are the teacher's outputs, and labels if there are."""

    name = "distillation"
    title = "Distillation"
    family = "training"
    scope = PassScope.HARDWARE_AWARE
    accuracy = PassAccuracy.SENSITIVE
    needs = PassNeeds.TRAINING
    formats: frozenset[str] = frozenset({"onnx"})
    backends: frozenset[str] = frozenset()
    precisions: frozenset[Precision] = frozenset()
    tools: tuple[str, ...] = ("onnx", "torch")

    def applicable(self, card: ModelCard, hardware: HardwareProfile) -> Yes | No:
        return trainable(card, hardware)

    def variants(self, card: ModelCard, hardware: HardwareProfile) -> Sequence[PassStep]:
        return tuple(PassStep(name=self.name, params={"width": width, "depth": depth}) for width, depth in STUDENTS)

    def apply(self, source: Path, target_dir: Path, params: dict[str, Json], context: PassContext) -> PassResult:
        from optimizer.passes.training.students import open_studio, student_of, trained  # heavy: torch

        studio = open_studio(source, params, context)
        width, depth = float(params.get("width", STUDENTS[0][0])), float(params.get("depth", STUDENTS[0][1]))
        student = student_of(studio, width=width, depth=depth)
        entry, facts = trained(studio, student, target_dir, name=self.name, rate=RATE, mixed=True)
        return PassResult(entry=entry, facts=facts)

"""Structured pruning: whole channels leave the graph, then fine-tuning makes good what was lost. Smaller layers on every runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from optimizer.passes.base import No, PassContext, PassResult, Yes
from optimizer.passes.training.needs import trainable
from optimizer.specs import HardwareProfile, Json, ModelCard, PassAccuracy, PassNeeds, PassScope, PassStep, Precision

RATE = 1e-3
KEPT_SHARES = (0.4, 0.6, 0.2)


class StructuredPruning:
    """Removes the channels whose loss changes the loss least per operation saved, until ``kept`` of the operations are left."""

    name = "structured_pruning"
    title = "Structured pruning"
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
        return tuple(PassStep(name=self.name, params={"kept": share}) for share in KEPT_SHARES)

    def apply(self, source: Path, target_dir: Path, params: dict[str, Json], context: PassContext) -> PassResult:
        from optimizer.passes.training.students import open_studio, smaller_by_worth, trained  # heavy: torch

        studio = open_studio(source, params, context)
        smaller = smaller_by_worth(studio, kept=float(params.get("kept", KEPT_SHARES[0])))
        entry, facts = trained(studio, smaller, target_dir, name=self.name, rate=RATE)
        return PassResult(entry=entry, facts=facts)

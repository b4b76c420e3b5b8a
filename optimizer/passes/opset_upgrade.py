"""Operator set of an old export raised to a present one: later passes and runtimes treat old operator sets as second class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import version_converter

from optimizer.passes.base import No, PassContext, PassResult, Yes
from optimizer.passes.errors import NoChange, PassFailed
from optimizer.passes.onnx_files import copied, load, opset, save, size_facts
from optimizer.passes.verify import verify_rewrite
from optimizer.specs import HardwareProfile, Json, ModelCard, PassAccuracy, PassNeeds, PassScope, PassStep, Precision

OLD_BELOW = 13
"""Per-channel scales, and axes as inputs, which the newer rewrites expect, came with this operator set."""
MODERN_OPSET = 17


class OpsetUpgrade:
    """Rewrites each operator by its definition in the newer set with onnx's own converter."""

    name = "opset_upgrade"
    title = "Newer operator set"
    family = "graph simplification"
    scope = PassScope.HARDWARE_AWARE
    accuracy = PassAccuracy.INVARIANT
    needs = PassNeeds.NOTHING
    formats: frozenset[str] = frozenset({"onnx"})
    backends: frozenset[str] = frozenset()
    precisions: frozenset[Precision] = frozenset()
    tools: tuple[str, ...] = ("onnx",)

    def applicable(self, card: ModelCard, hardware: HardwareProfile) -> Yes | No:
        if card.opset >= OLD_BELOW:
            return No(f"its operator set {card.opset} is new enough")
        foreign = sorted(set(card.domains) - {"ai.onnx", ""})
        if foreign:
            return No(f"the converter does not know the operators of {foreign[0]}")
        return Yes()

    def variants(self, card: ModelCard, hardware: HardwareProfile) -> Sequence[PassStep]:
        return (PassStep(name=self.name, params={"opset": MODERN_OPSET}),)

    def apply(self, source: Path, target_dir: Path, params: dict[str, Json], context: PassContext) -> PassResult:
        target = int(params.get("opset", MODERN_OPSET))
        before = load(source)
        if opset(before) >= target:
            raise NoChange(f"The model is in operator set {opset(before)} already.")
        after = converted(before, target)
        entry = save(after, target_dir)
        facts = {"opset_before": opset(before), "opset_after": opset(after), **size_facts(before, after)}
        return PassResult(entry=entry, facts={**facts, **verify_rewrite(source, entry, context)})


def converted(model: onnx.ModelProto, target: int) -> onnx.ModelProto:
    """A copy of the model in operator set ``target``. Raises ``pass.failed``."""
    try:
        return version_converter.convert_version(copied(model), target)
    except Exception as error:  # the converter raises anything
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise PassFailed(
            f"The model's opset {opset(model)} cannot be converted to {target}: export it with opset {MODERN_OPSET}. {why}"
        ) from error

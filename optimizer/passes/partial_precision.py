"""Partial bf16: every layer in bf16 but the few that would break the fidelity gate; those stay in f32."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from optimizer.passes.base import No, PassContext, PassResult, Yes
from optimizer.passes.errors import NoChange, PassFailed
from optimizer.passes.evaluator import Evaluator
from optimizer.passes.examples import calibration_feeds
from optimizer.passes.layer_search import SECONDS, LayerSearch, Part, parts_of, profiles, segments
from optimizer.passes.openvino_ir import layer_names, write_ir, write_marked
from optimizer.passes.openvino_rounding import EXAMPLES, write_rounded
from optimizer.specs import BackendSettings, HardwareProfile, Json, ModelCard, PassAccuracy, PassNeeds, PassScope, PassStep, Precision

SEGMENTS = 16


class PartialPrecision:
    """Marks the layers that must stay exact in OpenVINO's own form of the model."""

    name = "partial_bf16"
    title = "Partial bf16"
    family = "precision"
    scope = PassScope.HARDWARE_SPECIFIC
    accuracy = PassAccuracy.SENSITIVE
    needs = PassNeeds.EVALUATION
    formats: frozenset[str] = frozenset({"onnx"})
    backends: frozenset[str] = frozenset({"openvino"})
    precisions: frozenset[Precision] = frozenset({Precision.BF16})
    tools: tuple[str, ...] = ("openvino",)
    fixes_shapes = True

    def applicable(self, card: ModelCard, hardware: HardwareProfile) -> Yes | No:
        if not hardware.matrix_bf16:
            return No("this host has no bf16 matrix units, so bf16 saves no time")
        if card.control_flow:
            return No("layers inside branches and loops cannot be kept exact one by one")
        if card.quantized:
            return No("already quantised")
        if card.state_pairs:
            return No("it carries state from call to call, and layers are tried on single calls")
        return Yes()

    def variants(self, card: ModelCard, hardware: HardwareProfile) -> Sequence[PassStep]:
        return (PassStep(name=self.name),)

    def apply(self, source: Path, target_dir: Path, params: dict[str, Json], context: PassContext) -> PassResult:
        if context.evaluator is None:
            raise PassFailed("Partial bf16 needs examples to try layers on: add real inputs or pick a shipped corpus that fits.")
        deadline_s = time.monotonic() + float(params.get("seconds", SECONDS))
        exact = write_ir(source, context.work_dir / "exact", shapes=context.shapes)
        feeds = list(calibration_feeds(context, at_most=EXAMPLES))
        rounded = write_rounded(exact, context.work_dir / "rounded", feeds=feeds)[0] if feeds else exact
        reduced = BackendSettings(threads=max(1, context.hardware.cores), precision=Precision.BF16)
        plain = context.evaluator.judge(rounded, reduced)
        if plain.holds:
            raise NoChange("bf16 in all layers already keeps the outputs; no layer has to stay in f32.")
        search = LayerSearch(
            evaluator=context.evaluator,
            parts=_parts(context.evaluator, exact, reduced),
            form=lambda layers: write_marked(rounded, context.work_dir / "draft", exact=layers, original=exact),
            settings=reduced,
            reduced="bf16",
            exact="f32",
            deadline_s=deadline_s,
        )
        kept, judged = search.find(plain)
        entry = write_marked(rounded, target_dir, exact=[layer for part in kept for layer in part.layers], original=exact)
        return PassResult(entry=entry, facts=search.facts(kept, judged))


def _parts(evaluator: Evaluator, exact: Path, reduced: BackendSettings) -> list[Part]:
    """Nodes that the runtime computes in bf16 and whose layers can be marked."""
    full = BackendSettings(threads=reduced.threads, precision=Precision.F32)
    fast, slow = profiles(evaluator, [(exact, reduced), (exact, full)])
    return segments(parts_of(fast, slow, precisions=("bf16",), switchable=set(layer_names(exact))), count=SEGMENTS)

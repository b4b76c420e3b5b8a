"""Static int8 for OpenVINO by NNCF, with accuracy control: layers that break the gate stay in the precision the host has below int8."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from optimizer.passes.base import No, PassContext, PassResult, Yes
from optimizer.passes.errors import NoChange, PassFailed
from optimizer.passes.evaluator import Evaluator
from optimizer.passes.examples import calibration_feeds
from optimizer.passes.layer_search import SECONDS, LayerSearch, parts_of, profiles
from optimizer.passes.openvino_ir import write_ir
from optimizer.passes.openvino_quantizer import TOOL, quantize, quantized_layers, write_partly
from optimizer.passes.quantizer import CALIBRATION_EXAMPLES, NO_EXAMPLES, calibratable
from optimizer.specs import BackendSettings, HardwareProfile, Json, ModelCard, PassAccuracy, PassNeeds, PassScope, PassStep, Precision

INT8 = ("i8", "u8")
WORTH_SHARE = 0.05
"""Of the fallback's time, what int8 in all layers must save before layers are given back, which takes most of it again."""
ATTENTION_PRODUCTS = 4


class OpenVinoInt8:
    """Quantises everything, then gives layers back to bf16 (f32 on hosts without) until the task's own fidelity holds."""

    name = "openvino_int8"
    title = "Static int8 with exact layers"
    family = "quantization"
    scope = PassScope.HARDWARE_SPECIFIC
    accuracy = PassAccuracy.SENSITIVE
    needs = PassNeeds.EVALUATION
    formats: frozenset[str] = frozenset({"onnx"})
    backends: frozenset[str] = frozenset({"openvino"})
    precisions: frozenset[Precision] = frozenset({Precision.BF16, Precision.F32})
    tools: tuple[str, ...] = ("openvino", TOOL)
    fixes_shapes = True

    def applicable(self, card: ModelCard, hardware: HardwareProfile) -> Yes | No:
        if TOOL not in hardware.runtimes:
            return No("it needs NNCF: pip install 'parka[openvino]'")
        if card.state_pairs:
            return No("it carries state from call to call, and ranges are taken on single calls")
        if not (hardware.dot_int8 or hardware.matrix_int8):
            return No("this host has no int8 dot products, so int8 saves no time")
        return calibratable(card)

    def variants(self, card: ModelCard, hardware: HardwareProfile) -> Sequence[PassStep]:
        fallback = str(Precision.BF16 if hardware.matrix_bf16 else Precision.F32)
        attends = bool(card.operators.get("Softmax")) and card.operators.get("MatMul", 0) >= ATTENTION_PRODUCTS
        kinds = ("transformer", "mixed") if attends else ("mixed", "performance")
        return tuple(PassStep(name=self.name, params={"fallback": fallback, "preset": kind}) for kind in kinds)

    def apply(self, source: Path, target_dir: Path, params: dict[str, Json], context: PassContext) -> PassResult:
        evaluator = context.evaluator
        feeds = list(calibration_feeds(context, at_most=CALIBRATION_EXAMPLES))
        if evaluator is None or not feeds:
            raise PassFailed(NO_EXAMPLES)
        fallback = Precision(str(params.get("fallback", Precision.F32)))
        settings = BackendSettings(threads=max(1, context.hardware.cores), precision=fallback)
        exact = write_ir(source, context.work_dir / "exact", shapes=context.shapes)
        whole = quantize(exact, context.work_dir / "whole", feeds=feeds, preset=str(params.get("preset", "mixed")))
        seconds = float(params.get("seconds", SECONDS))
        saved = _saving(evaluator, exact=exact, whole=whole, settings=settings)
        search = _search(evaluator, exact=exact, whole=whole, draft=context.work_dir / "draft", settings=settings, seconds=seconds)
        plain = search.plain()
        if not plain.holds and saved < WORTH_SHARE:
            raise NoChange(f"On this host int8 would save {saved:.0%} of the time that {fallback} takes: too little to give layers back.")
        kept, judged = ([], plain) if plain.holds else search.find(plain)
        entry = write_partly(whole, target_dir, exact=exact, layers=[layer for part in kept for layer in part.layers])
        facts = {"calibration_examples": len(feeds), "fallback": str(fallback), "saved_fraction": round(saved, 3)}
        return PassResult(entry=entry, facts={**facts, **search.facts(kept, judged)})


def _saving(evaluator: Evaluator, *, exact: Path, whole: Path, settings: BackendSettings) -> float:
    """The share of the fallback's time that int8 in all layers saves. Raises ``pass.no_change`` when that is none."""
    reduced_s, full_s = evaluator.seconds([(whole, settings), (exact, settings)])
    if reduced_s >= full_s:
        raise NoChange(f"On this host int8 would add to the time that {settings.precision} takes; it is not worth its errors.")
    return 1 - reduced_s / full_s


def _search(evaluator: Evaluator, *, exact: Path, whole: Path, draft: Path, settings: BackendSettings, seconds: float) -> LayerSearch:
    reduced, full = profiles(evaluator, [(whole, settings), (exact, settings)])
    return LayerSearch(
        evaluator=evaluator,
        parts=parts_of(reduced, full, precisions=INT8, switchable=quantized_layers(whole)),
        form=lambda layers: write_partly(whole, draft, exact=exact, layers=layers),
        settings=settings,
        reduced="int8",
        exact=str(settings.precision),
        deadline_s=time.monotonic() + seconds,
    )

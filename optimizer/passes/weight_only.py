"""Weight-only int8 and int4 for ONNX Runtime: weights stored in blocks with their own scales, arithmetic in float."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

import onnx

from optimizer.passes.base import No, PassContext, PassResult, Yes
from optimizer.passes.errors import NoChange
from optimizer.passes.onnx_files import ENTRY, constants_to_initializers, load, operators, save, size_facts
from optimizer.passes.quantizer import quantization, run_quantizer
from optimizer.specs import HardwareProfile, Json, ModelCard, PassAccuracy, PassNeeds, PassScope, PassStep, Precision

BLOCKED = "MatMulNBits"
BLOCK_SIZE = 32
INT8_ARITHMETIC = 4
"""The operator's accuracy level at which activations are rounded to int8 inside a block; 0 leaves it to the runtime."""
LEAST_WEIGHT_BYTES = 1_000_000


def worth_packing(card: ModelCard) -> Yes | No:
    """Weight-only forms save memory traffic, so there must be some, in matrix products."""
    if card.quantized:
        return No("already quantised")
    if not (card.operators.get("MatMul") or card.operators.get("Gemm")):
        return No("no matrix products whose weights could be packed")
    if card.weight_bytes < LEAST_WEIGHT_BYTES:
        return No("its weights fit into the caches, so packing them saves no memory traffic")
    return Yes()


class WeightOnly:
    """Needs no data. A product that a simplifier turned into Gemm is not packed, so this goes onto the uncleaned graph."""

    name = "weight_only"
    title = "Weight-only int8 and int4"
    family = "quantization"
    scope = PassScope.HARDWARE_AWARE
    accuracy = PassAccuracy.SENSITIVE
    needs = PassNeeds.NOTHING
    formats: frozenset[str] = frozenset({"onnx"})
    backends: frozenset[str] = frozenset({"onnxruntime"})
    precisions: frozenset[Precision] = frozenset()
    tools: tuple[str, ...] = ("onnx", "onnxruntime")

    def applicable(self, card: ModelCard, hardware: HardwareProfile) -> Yes | No:
        return worth_packing(card)

    def variants(self, card: ModelCard, hardware: HardwareProfile) -> Sequence[PassStep]:
        return tuple(PassStep(name=self.name, params={"bits": bits, "block_size": BLOCK_SIZE}) for bits in (8, 4))

    def apply(self, source: Path, target_dir: Path, params: dict[str, Json], context: PassContext) -> PassResult:
        target_dir.mkdir(parents=True, exist_ok=True)
        before, packed = load(source), load(source)
        constants_to_initializers(packed)

        def pack() -> None:
            quantization()
            tool = importlib.import_module("onnxruntime.quantization.matmul_nbits_quantizer")
            worker = tool.MatMulNBitsQuantizer(
                packed,
                bits=int(params.get("bits", 8)),
                block_size=int(params.get("block_size", BLOCK_SIZE)),
                is_symmetric=False,
                accuracy_level=INT8_ARITHMETIC,
            )
            worker.process()
            save(worker.model.model, target_dir)

        after: onnx.ModelProto = run_quantizer(pack, target_dir)
        count = operators(after)[BLOCKED]
        if not count:
            raise NoChange("No MatMul has constant weights, so there is nothing to pack.")
        return PassResult(entry=target_dir / ENTRY, facts={"packed": count, **size_facts(before, after)})

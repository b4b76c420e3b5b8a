"""Dynamic int8: weights of matrix products in int8, activations quantized as they arrive. Needs no data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from optimizer.passes.base import No, PassContext, PassResult, Yes
from optimizer.passes.errors import NoChange
from optimizer.passes.onnx_files import ENTRY, constants_to_initializers, load, operators, size_facts
from optimizer.passes.quantizer import QUANTIZED_OPERATORS, SETTLED_TYPE, is_large, needs_reduced_range, quantization, run_quantizer
from optimizer.specs import HardwareProfile, Json, ModelCard, PassAccuracy, PassNeeds, PassScope, PassStep, Precision

PRODUCTS = ("MatMul", "Gemm", "Attention")
CONVOLUTIONS = ("Conv", "ConvTranspose")
LEAST_SHARE = 0.1


class DynamicInt8:
    """Quantizes matrix products only: dynamic int8 convolutions run several times slower than float ones."""

    name = "dynamic_int8"
    title = "Dynamic int8"
    family = "quantization"
    scope = PassScope.HARDWARE_AWARE
    accuracy = PassAccuracy.SENSITIVE
    needs = PassNeeds.NOTHING
    formats: frozenset[str] = frozenset({"onnx"})
    backends: frozenset[str] = frozenset({"onnxruntime"})
    precisions: frozenset[Precision] = frozenset()
    tools: tuple[str, ...] = ("onnx", "onnxruntime")

    def applicable(self, card: ModelCard, hardware: HardwareProfile) -> Yes | No:
        if card.quantized:
            return No("already quantised")
        products = sum(card.operators.get(name, 0) for name in PRODUCTS)
        convolutions = sum(card.operators.get(name, 0) for name in CONVOLUTIONS)
        if not products:
            return No("no matrix products to quantise")
        if products < LEAST_SHARE * (products + convolutions):
            return No(
                f"only {products} of {products + convolutions} heavy operators are matrix products; dynamic int8 slows convolutions down"
            )
        return Yes()

    def variants(self, card: ModelCard, hardware: HardwareProfile) -> Sequence[PassStep]:
        reduce = needs_reduced_range(hardware)
        return tuple(PassStep(name=self.name, params={"per_channel": wide, "reduce_range": reduce}) for wide in (True, False))

    def apply(self, source: Path, target_dir: Path, params: dict[str, Json], context: PassContext) -> PassResult:
        target_dir.mkdir(parents=True, exist_ok=True)
        before, prepared = load(source), load(source)
        constants_to_initializers(prepared)
        tool = quantization()

        def quantize() -> None:
            tool.quantize_dynamic(
                prepared,
                target_dir / ENTRY,
                op_types_to_quantize=list(PRODUCTS),
                per_channel=bool(params.get("per_channel", True)),
                reduce_range=bool(params.get("reduce_range", False)),
                weight_type=tool.QuantType.QInt8,
                use_external_data_format=is_large(before),
                extra_options=dict(SETTLED_TYPE),
            )

        after = run_quantizer(quantize, target_dir)
        quantized = {name: count for name, count in operators(after).items() if name in QUANTIZED_OPERATORS}
        if not quantized:
            raise NoChange("No matrix product has constant weights, so there is nothing to quantise.")
        return PassResult(entry=target_dir / ENTRY, facts={"quantized": quantized, **size_facts(before, after)})

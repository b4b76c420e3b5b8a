"""Fusion of attention, layer norm and GELU patterns into ONNX Runtime's own operators."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

import onnx

from optimizer.ort import load_onnxruntime
from optimizer.passes.base import No, PassContext, PassResult, Yes
from optimizer.passes.errors import NoChange, PassFailed
from optimizer.passes.onnx_files import graphs, load, operators, save, size_facts
from optimizer.passes.quiet import quiet
from optimizer.passes.verify import verify_rewrite
from optimizer.specs import HardwareProfile, Json, ModelCard, PassAccuracy, PassNeeds, PassScope, PassStep, Precision

MODEL_TYPE = "bert"
SIZES = ("num_attention_heads", "hidden_size")
FUSED_ATTENTION = frozenset({"Attention", "MultiHeadAttention", "QAttention"})


class TransformerFusion:
    """Runs ONNX Runtime's transformer optimizer; exact rewrites only (GELU approximation stays off)."""

    name = "transformer_fusion"
    title = "Transformer fusion"
    family = "operator fusion"
    scope = PassScope.HARDWARE_SPECIFIC
    accuracy = PassAccuracy.INVARIANT
    needs = PassNeeds.NOTHING
    formats: frozenset[str] = frozenset({"onnx"})
    backends: frozenset[str] = frozenset({"onnxruntime"})
    precisions: frozenset[Precision] = frozenset()
    tools: tuple[str, ...] = ("onnx", "onnxruntime")

    def applicable(self, card: ModelCard, hardware: HardwareProfile) -> Yes | No:
        present = card.operators
        has_norm = "LayerNormalization" in present or {"ReduceMean", "Pow", "Sqrt"} <= present.keys()
        if FUSED_ATTENTION & present.keys():
            return No("attention is fused already")
        if "MatMul" not in present or not (has_norm or {"Softmax", "Erf"} <= present.keys()):
            return No("no attention or layer-norm pattern")
        return Yes()

    def variants(self, card: ModelCard, hardware: HardwareProfile) -> Sequence[PassStep]:
        return (PassStep(name=self.name),)

    def apply(self, source: Path, target_dir: Path, params: dict[str, Json], context: PassContext) -> PassResult:
        before = load(source)
        after, counts = _optimized(source)
        fused = {name: int(count) for name, count in counts.items() if count}
        if not set(fused) - set(operators(before)):
            raise NoChange("The transformer optimizer fused nothing: its patterns do not occur in this export.")
        _declare_domains(after)
        entry = save(after, target_dir)
        return PassResult(entry=entry, facts={"fused": fused, **size_facts(before, after), **verify_rewrite(source, entry, context)})


def _declare_domains(model: onnx.ModelProto) -> None:
    """The tool forgets to import the domain of its own operators where fusion was the only change."""
    declared = {entry.domain for entry in model.opset_import}
    used = {node.domain for graph in graphs(model.graph) for node in graph.node}
    for domain in sorted(used - declared - {"", "ai.onnx"}):
        model.opset_import.append(onnx.helper.make_opsetid(domain, 1))


def _optimized(source: Path) -> tuple[onnx.ModelProto, dict[str, int]]:
    """The fused model and how often each operator was fused; the tool's talk is dropped.

    The mask stays as it is: the tool's default keeps only how many tokens count, which is wrong unless all padding stands at the end.
    Heads and width are those of the model's metadata, where an export of ours left them; otherwise the tool reads them from the graph.
    """
    load_onnxruntime()
    known = {entry.key: int(entry.value) for entry in load(source).metadata_props if entry.key in SIZES and entry.value.isdecimal()}
    heads, width = (known.get(key, 0) for key in SIZES)
    optimizer = importlib.import_module("onnxruntime.transformers.optimizer")
    options = importlib.import_module("onnxruntime.transformers.fusion_options").FusionOptions(MODEL_TYPE)
    options.use_raw_attention_mask(True)
    options.enable_embed_layer_norm = False
    try:
        with quiet():
            fused = optimizer.optimize_model(
                str(source),
                model_type=MODEL_TYPE,
                num_heads=heads,
                hidden_size=width,
                optimization_options=options,
                opt_level=0,
                use_gpu=False,
            )
            return fused.model, dict(fused.get_fused_operator_statistics())
    except Exception as error:  # the tool raises anything on graphs it does not know
        raise PassFailed(f"The transformer optimizer failed on this graph: {' '.join(str(error).split())[:300]}") from error

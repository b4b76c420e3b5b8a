"""Fusion of attention, layer norm and GELU patterns into ONNX Runtime's own operators."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optimizer.ort import load_onnxruntime
from optimizer.passes.base import No, PassContext, PassResult, Yes
from optimizer.passes.errors import NoChange, PassFailed
from optimizer.passes.onnx_files import load, save, size_facts
from optimizer.passes.verify import verify_rewrite
from optimizer.specs import HardwareProfile, Json, ModelCard, PassAccuracy, PassNeeds, PassScope, PassStep

MODEL_TYPE = "bert"
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
        model = _optimized(source)
        fused = {name: int(count) for name, count in model.get_fused_operator_statistics().items() if count}
        if not fused or not set(fused) - _present(before):
            raise NoChange("The transformer optimizer fused nothing: its patterns do not occur in this export.")
        entry = save(model.model, target_dir)
        return PassResult(entry=entry, facts={"fused": fused, **size_facts(before, model.model), **verify_rewrite(source, entry, context)})


def _present(model: Any) -> set[str]:
    return {node.op_type for node in model.graph.node}


def _optimized(source: Path) -> Any:
    """The optimizer's model. Heads and width are read from the graph; it logs and prints, which is kept out of our log."""
    load_onnxruntime()
    optimizer = importlib.import_module("onnxruntime.transformers.optimizer")
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return optimizer.optimize_model(str(source), model_type=MODEL_TYPE, num_heads=0, hidden_size=0, opt_level=0, use_gpu=False)
    except Exception as error:  # the tool raises anything on graphs it does not know
        raise PassFailed(f"The transformer optimizer failed on this graph: {' '.join(str(error).split())[:300]}") from error
    finally:
        logging.disable(previous)

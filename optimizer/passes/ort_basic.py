"""Offline cleaning by ONNX Runtime's BASIC level: exact rewrites only, written back as a portable graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from optimizer.ort import load_onnxruntime
from optimizer.passes.base import No, PassContext, PassResult, Yes
from optimizer.passes.errors import NoChange, PassFailed
from optimizer.passes.onnx_files import ENTRY, LARGEST_FILE_BYTES, WEIGHTS, load, operators, size_facts
from optimizer.passes.verify import verify_rewrite
from optimizer.specs import HardwareProfile, Json, ModelCard, PassAccuracy, PassNeeds, PassScope, PassStep


class OrtBasic:
    """Folds constants, batch norms, casts and transposes; another runtime's compiler often gains most on such a graph."""

    name = "ort_basic"
    title = "Exact graph cleaning"
    family = "graph simplification"
    scope = PassScope.HARDWARE_AWARE
    accuracy = PassAccuracy.INVARIANT
    needs = PassNeeds.NOTHING
    formats: frozenset[str] = frozenset({"onnx"})
    backends: frozenset[str] = frozenset()
    tools: tuple[str, ...] = ("onnxruntime",)

    def applicable(self, card: ModelCard, hardware: HardwareProfile) -> Yes | No:
        if card.node_count < 2:
            return No("a graph of one node has nothing to fold")
        return Yes()

    def variants(self, card: ModelCard, hardware: HardwareProfile) -> Sequence[PassStep]:
        return (PassStep(name=self.name),)

    def apply(self, source: Path, target_dir: Path, params: dict[str, Json], context: PassContext) -> PassResult:
        target_dir.mkdir(parents=True, exist_ok=True)
        entry = target_dir / ENTRY
        _write_optimized(source, entry, weight_bytes=context.card.weight_bytes)
        before, after = load(source), load(entry)
        if operators(after) == operators(before):
            raise NoChange("ONNX Runtime's exact rewrites found nothing to do.")
        return PassResult(entry=entry, facts={**size_facts(before, after), **verify_rewrite(source, entry, context)})


def _write_optimized(source: Path, entry: Path, *, weight_bytes: int) -> None:
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(entry)
    if weight_bytes > LARGEST_FILE_BYTES:
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", WEIGHTS)
    try:
        ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions share no base class
        raise PassFailed(f"ONNX Runtime cannot load the model to clean it: {' '.join(str(error).split())[:300]}") from error

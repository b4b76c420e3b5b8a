"""Offline cleaning by ONNX Runtime's BASIC level: exact rewrites only, written back as a portable graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx

from optimizer.ort import load_onnxruntime
from optimizer.passes.base import No, PassContext, PassResult, Yes
from optimizer.passes.errors import NoChange, PassFailed
from optimizer.passes.onnx_files import ENTRY, WEIGHTS, load, operators, save, size_facts
from optimizer.passes.verify import verify_rewrite
from optimizer.specs import HardwareProfile, Json, ModelCard, PassAccuracy, PassNeeds, PassScope, PassStep, Precision


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
    precisions: frozenset[Precision] = frozenset()
    tools: tuple[str, ...] = ("onnxruntime",)

    def applicable(self, card: ModelCard, hardware: HardwareProfile) -> Yes | No:
        if card.node_count < 2:
            return No("a graph of one node has nothing to fold")
        return Yes()

    def variants(self, card: ModelCard, hardware: HardwareProfile) -> Sequence[PassStep]:
        return (PassStep(name=self.name),)

    def apply(self, source: Path, target_dir: Path, params: dict[str, Json], context: PassContext) -> PassResult:
        target_dir.mkdir(parents=True, exist_ok=True)
        _write_optimized(source, target_dir / ENTRY, beside=_has_data_beside(source))
        before, after = load(source), load(target_dir / ENTRY)
        (target_dir / WEIGHTS).unlink(missing_ok=True)
        if operators(after) == operators(before):
            raise NoChange("ONNX Runtime's exact rewrites found nothing to do.")
        entry = save(after, target_dir)
        return PassResult(entry=entry, facts={**size_facts(before, after), **verify_rewrite(source, entry, context)})


def _has_data_beside(source: Path) -> bool:
    """Written into one file, the runtime's result would go on pointing at the source's weight files."""
    graph = onnx.load(str(source), load_external_data=False).graph
    return any(onnx.external_data_helper.uses_external_data(tensor) for tensor in graph.initializer)


def _write_optimized(source: Path, entry: Path, *, beside: bool) -> None:
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(entry)
    if beside:
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", WEIGHTS)
    try:
        ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions share no base class
        raise PassFailed(f"ONNX Runtime cannot load the model to clean it: {' '.join(str(error).split())[:300]}") from error

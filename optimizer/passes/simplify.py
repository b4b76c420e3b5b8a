"""Graph simplification with onnxslim: constants folded, dead and redundant nodes removed, the result verified."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

import onnx

from optimizer.passes.base import No, PassContext, PassResult, Yes
from optimizer.passes.errors import NoChange, PassFailed
from optimizer.passes.onnx_files import copied, load, operators, save, size_facts
from optimizer.passes.verify import verify_rewrite
from optimizer.specs import HardwareProfile, Json, ModelCard, PassAccuracy, PassNeeds, PassScope, PassStep, Precision


class Simplify:
    """Rewrites the graph into fewer, plainer nodes of the same operator set."""

    name = "simplify"
    title = "Graph simplification"
    family = "graph simplification"
    scope = PassScope.HARDWARE_AWARE
    accuracy = PassAccuracy.INVARIANT
    needs = PassNeeds.NOTHING
    formats: frozenset[str] = frozenset({"onnx"})
    backends: frozenset[str] = frozenset()
    precisions: frozenset[Precision] = frozenset()
    tools: tuple[str, ...] = ("onnx", "onnxslim")

    def applicable(self, card: ModelCard, hardware: HardwareProfile) -> Yes | No:
        if card.node_count < 2:
            return No("a graph of one node has nothing to simplify")
        return Yes()

    def variants(self, card: ModelCard, hardware: HardwareProfile) -> Sequence[PassStep]:
        return (PassStep(name=self.name),)

    def apply(self, source: Path, target_dir: Path, params: dict[str, Json], context: PassContext) -> PassResult:
        before = load(source)
        after = _slim(before)
        if operators(after) == operators(before):
            raise NoChange("The simplifier found nothing to remove.")
        entry = save(after, target_dir)
        return PassResult(entry=entry, facts={**size_facts(before, after), **verify_rewrite(source, entry, context)})


def _slim(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return importlib.import_module("onnxslim").slim(copied(model))  # type: ignore[no-any-return]
    except (Exception, SystemExit) as error:  # the tool raises anything, and exits on some graphs
        raise PassFailed(f"The simplifier failed on this graph: {' '.join(str(error).split())[:300] or type(error).__name__}.") from error

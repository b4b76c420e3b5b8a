"""An exact rewrite: a matrix product followed by its bias becomes one Gemm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx
from onnx import helper

from optimizer.passes.base import No, PassContext, PassResult, Yes
from optimizer.passes.errors import NoChange
from optimizer.passes.onnx_files import load, save, size_facts
from optimizer.passes.verify import verify_rewrite
from optimizer.specs import HardwareProfile, Json, ModelCard, PassAccuracy, PassNeeds, PassScope, PassStep, Precision

Pair = tuple[onnx.NodeProto, onnx.NodeProto]


class JoinBias:
    """MatMul of a matrix with constant weights, plus a constant vector, is what Gemm computes in one call."""

    name = "acme_gemm"
    title = "Acme: bias joined to its product"
    family = "operator fusion"
    scope = PassScope.HARDWARE_AWARE
    accuracy = PassAccuracy.INVARIANT
    needs = PassNeeds.NOTHING
    formats = frozenset({"onnx"})
    backends: frozenset[str] = frozenset()
    precisions: frozenset[Precision] = frozenset()
    tools = ("onnx", "parka-acme")

    def applicable(self, card: ModelCard, hardware: HardwareProfile) -> Yes | No:
        if not card.operators.get("MatMul") or not card.operators.get("Add"):
            return No("no matrix product followed by a bias")
        return Yes()

    def variants(self, card: ModelCard, hardware: HardwareProfile) -> Sequence[PassStep]:
        return (PassStep(name=self.name),)

    def apply(self, source: Path, target_dir: Path, params: dict[str, Json], context: PassContext) -> PassResult:
        before, after = load(source), load(source)
        pairs = list(biased_products(after))
        if not pairs:
            raise NoChange("No product of two matrices has a constant bias of its own.")
        for pair in pairs:
            _join(after, pair)
        entry = save(after, target_dir)
        return PassResult(entry=entry, facts={"joined": len(pairs), **size_facts(before, after), **verify_rewrite(source, entry, context)})


def biased_products(model: onnx.ModelProto) -> Iterator[Pair]:
    """Pairs (MatMul, Add) of the main graph: two matrices, constant weights, a constant vector, the product used nowhere else."""
    graph = model.graph
    constants = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    ranks = _ranks(model)
    uses = Counter(name for node in graph.node for name in node.input) + Counter(output.name for output in graph.output)
    makers = {node.output[0]: node for node in graph.node if node.op_type == "MatMul"}
    for add in graph.node:
        if add.op_type != "Add":
            continue
        products = [name for name in add.input if name in makers]
        vectors = [name for name in add.input if len(constants.get(name, ())) == 1]
        if len(products) != 1 or len(vectors) != 1 or uses[products[0]] != 1:
            continue
        product = makers[products[0]]
        wide = constants.get(product.input[1], ())
        if len(wide) == 2 and constants[vectors[0]] == wide[1:] and ranks.get(product.input[0]) == 2:
            yield product, add


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    known = [*graph.input, *graph.value_info]
    return {value.name: len(value.type.tensor_type.shape.dim) for value in known if value.type.tensor_type.HasField("shape")}


def _join(model: onnx.ModelProto, pair: Pair) -> None:
    product, add = pair
    bias = next(name for name in add.input if name != product.output[0])
    gemm = helper.make_node("Gemm", [*product.input, bias], list(add.output), name=product.name or add.name)
    nodes = [gemm if node is product else node for node in model.graph.node if node is not add]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)

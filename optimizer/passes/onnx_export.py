"""Export of a Hugging Face encoder from PyTorch to ONNX, so that the other runtimes and their passes can follow."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from optimizer.passes.base import No, PassContext, PassResult, Yes
from optimizer.passes.errors import PassFailed
from optimizer.passes.examples import Feeds, calibration_feeds
from optimizer.passes.onnx_files import ENTRY, LARGEST_FILE_BYTES, load, operators, save
from optimizer.passes.verify import VERIFIED_EXAMPLES, largest_disagreement, outputs_of
from optimizer.specs import HardwareProfile, Json, ModelCard, PassAccuracy, PassNeeds, PassScope, PassStep, Precision, TensorSpec

OPSET = 17
"""The newest one that the exporter writes without functions, and that every runtime here reads."""
EXPORTED_LENGTH = 16
OTHER_SIZES = ((1, 1), (3, 7), (2, 33))
"""(batch, sequence) besides the bound ones: an export that fixed a size by accident fails at one of them."""
HEADS, WIDTH = "num_attention_heads", "hidden_size"
"""Metadata of the export: the fusion of attention cannot read the number of heads from a graph of free sizes."""


class OnnxExport:
    """Traces the module with plain attention, whose pattern other runtimes fuse, and compares the result with the module itself."""

    name = "onnx_export"
    title = "Export to ONNX"
    family = "conversion"
    scope = PassScope.HARDWARE_AWARE
    accuracy = PassAccuracy.INVARIANT
    needs = PassNeeds.NOTHING
    formats: frozenset[str] = frozenset({"huggingface"})
    backends: frozenset[str] = frozenset()
    precisions: frozenset[Precision] = frozenset()
    tools: tuple[str, ...] = ("torch", "transformers", "onnx")
    target_format = "onnx"

    def applicable(self, card: ModelCard, hardware: HardwareProfile) -> Yes | No:
        if not {"torch", "transformers"} <= hardware.runtimes.keys():
            return No("it needs PyTorch: pip install 'parka[torch]'")
        if 4 * card.parameters > LARGEST_FILE_BYTES:
            return No("in float32 the model would not fit into one ONNX file")
        return Yes()

    def variants(self, card: ModelCard, hardware: HardwareProfile) -> Sequence[PassStep]:
        return (PassStep(name=self.name),)

    def expected(self, card: ModelCard) -> ModelCard:
        """What the exported model will look like, as far as planning asks; its own card replaces this once it is built."""
        layers = int(card.metadata.get("layers", "1"))
        counts = {"MatMul": 8 * layers, "Add": 8 * layers, "Softmax": layers, "Erf": layers, "LayerNormalization": 2 * layers + 1}
        return replace(card, format=self.target_format, operators=counts, node_count=sum(counts.values()), opset=OPSET)

    def apply(self, source: Path, target_dir: Path, params: dict[str, Json], context: PassContext) -> PassResult:
        from optimizer.torch_models import calm, load_encoder, load_torch  # heavy, and only this pass needs it here

        torch = load_torch()
        encoder, plain = load_encoder(source, attention="eager")
        target_dir.mkdir(parents=True, exist_ok=True)
        feeds = made_up(context.card, batch=2, length=encoder.length if isinstance(encoder.length, int) else EXPORTED_LENGTH, seed=0)
        with calm():
            _trace(torch, plain, feeds, target_dir / ENTRY, inputs=encoder.inputs, outputs=encoder.outputs)
        exported = load(target_dir / ENTRY)
        onnx.helper.set_model_props(exported, {HEADS: str(encoder.heads), WIDTH: str(encoder.width)})
        entry = save(exported, target_dir)
        _, own = load_encoder(source)
        return PassResult(entry=entry, facts={"nodes": operators(exported).total(), **_parity(torch, own, entry, context, encoder.outputs)})


def _trace(torch: Any, module: Any, feeds: Feeds, target: Path, *, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """The tracing exporter: unlike the newer one, its graphs keep the patterns that attention fusion looks for."""
    free = {
        tensor.name: {axis: dim for axis, dim in enumerate(tensor.shape) if isinstance(dim, str)} for tensor in (*inputs, *outputs)
    }  # fmt: skip
    names = [tensor.name for tensor in inputs]

    class Named(torch.nn.Module):
        """Positional inputs in, a tuple out: what the exporter can name."""

        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *tensors: Any) -> tuple[Any, ...]:
            answer = self.module(**dict(zip(names, tensors, strict=True)))
            return tuple(answer[tensor.name] for tensor in outputs)

    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                Named().eval(), tuple(torch.from_numpy(feeds[name]) for name in names), str(target), dynamo=False, opset_version=OPSET,
                input_names=names, output_names=[tensor.name for tensor in outputs], dynamic_axes=free,
            )  # fmt: skip
    except Exception as error:  # the exporter raises anything
        raise PassFailed(f"PyTorch cannot export the model to ONNX: {' '.join(str(error).split())[:300]}") from error


def _parity(torch: Any, module: Any, entry: Path, context: PassContext, outputs: Sequence[TensorSpec]) -> dict[str, Any]:
    """Facts of the comparison with the module as its author runs it. Raises ``pass.changed_outputs``."""
    feeds = list(checked_feeds(context))
    with torch.inference_mode():
        answers = [module(**{name: torch.from_numpy(array) for name, array in one.items()}) for one in feeds]
    before = [[answer[tensor.name].numpy() for tensor in outputs] for answer in answers]
    largest = largest_disagreement(before, outputs_of(entry, feeds, what="The exported model"))
    sizes = sorted({tuple(next(iter(one.values())).shape) for one in feeds})
    return {"verified": True, "examples": len(feeds), "sizes": [list(size) for size in sizes], "largest_difference": largest}


def checked_feeds(context: PassContext) -> Iterator[Feeds]:
    """Calibration examples at the bound sizes, and made-up ones at the bound and at other sizes."""
    yield from calibration_feeds(context, at_most=VERIFIED_EXAMPLES)
    bound = next(iter(context.shapes.values()), ())
    fixed = context.card.inputs[0].shape[1]
    sizes = [(size[0], size[1]) for size in (bound, *OTHER_SIZES) if len(size) == 2]
    for seed, (batch, length) in enumerate(sizes):
        yield made_up(context.card, batch=batch, length=fixed if isinstance(fixed, int) else length, seed=seed)


def made_up(card: ModelCard, *, batch: int, length: int, seed: int) -> Feeds:
    """Seeded int64 [batch, length] per input: ids of the whole vocabulary, masks that pad the last row, two segments."""
    rng = np.random.default_rng(seed)
    rows = card.vocabularies.get("input_ids", 2)
    mask = np.ones((batch, length), np.int64)
    mask[-1, length // 2 + 1 :] = 0
    found = {"input_ids": rng.integers(0, rows, (batch, length)), "attention_mask": mask}
    return {tensor.name: found.get(tensor.name, rng.integers(0, 2, (batch, length))) for tensor in card.inputs}

"""NNCF's quantizer inside a pass, and models of which some layers are given back to full precision."""

from __future__ import annotations

import importlib
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from optimizer.passes.errors import NoChange, PassFailed
from optimizer.passes.examples import Feeds
from optimizer.passes.openvino_ir import ENTRY, is_constant, restore_constants
from optimizer.passes.quiet import quiet

TOOL = "nncf"
QUANTIZER = "FakeQuantize"


def load_tool() -> ModuleType:
    """NNCF without its telemetry."""
    os.environ["NNCF_CI"] = "1"
    return importlib.import_module(TOOL)


def quantize(exact: Path, target_dir: Path, *, feeds: Sequence[Feeds], preset: str) -> Path:
    """Every layer that the tool can quantise, in int8 with ranges from ``feeds``; ``preset``: mixed, performance or transformer.

    Raises ``pass.failed``, ``pass.no_change``.
    """
    target_dir.mkdir(parents=True, exist_ok=True)
    ov = importlib.import_module("openvino")
    try:
        with quiet():
            nncf = load_tool()
            model = ov.Core().read_model(str(exact))
            whole = nncf.quantize(model, nncf.Dataset(list(feeds)), subset_size=len(feeds), **_options(nncf, preset))
            ov.save_model(whole, str(target_dir / ENTRY), compress_to_fp16=False)
    except Exception as error:  # tool and runtime raise anything
        raise PassFailed(f"NNCF cannot quantise the model: {' '.join(str(error).split())[-300:]}") from error
    if not any(node.get_type_name() == QUANTIZER for node in whole.get_ordered_ops()):
        raise NoChange("The quantizer found nothing to quantise.")
    return target_dir / ENTRY


def _options(nncf: ModuleType, preset: str) -> dict[str, Any]:
    if preset == "transformer":
        return {"model_type": nncf.ModelType.TRANSFORMER}
    return {"preset": nncf.QuantizationPreset.PERFORMANCE if preset == "performance" else nncf.QuantizationPreset.MIXED}


def quantized_layers(entry: Path) -> set[str]:
    """Names of the layers that read quantised values."""
    model = importlib.import_module("openvino").Core().read_model(str(entry))
    return {node.get_friendly_name() for node in model.get_ordered_ops() if _quantized_ports(node)}


def write_partly(whole: Path, target_dir: Path, *, exact: Path, layers: Collection[str]) -> Path:
    """The quantised model with these layers as they were: unquantised inputs, and the weights and biases of ``exact``."""
    target_dir.mkdir(parents=True, exist_ok=True)
    ov = importlib.import_module("openvino")
    core = ov.Core()
    model, original = core.read_model(str(whole)), core.read_model(str(exact))
    before = {node.get_friendly_name(): node for node in original.get_ordered_ops()}
    for node in model.get_ordered_ops():
        if node.get_friendly_name() in layers:
            _give_back(node, before.get(node.get_friendly_name()))
    for old in target_dir.iterdir():
        old.unlink()
    ov.save_model(model, str(target_dir / ENTRY), compress_to_fp16=False)
    return target_dir / ENTRY


def _give_back(node: Any, before: Any | None) -> None:
    """Take the layer's inputs from before their quantizers; constants, its bias behind it too, come from the original."""
    for port in _quantized_ports(node):
        node.input(port).replace_source_output(node.input_value(port).get_node().input_value(0))
    if before is None or before.get_type_name() != node.get_type_name():
        return
    restore_constants(node, before)
    if node.get_output_size() == 1 and before.get_output_size() == 1:
        for ours in node.output(0).get_target_inputs():
            for theirs in before.output(0).get_target_inputs():
                after, original = ours.get_node(), theirs.get_node()
                if after.get_friendly_name() == original.get_friendly_name() and after.get_type_name() == original.get_type_name() == "Add":
                    restore_constants(after, original)


def _quantized_ports(node: Any) -> list[int]:
    """Inputs of a layer that come straight from a quantizer of activations."""
    if node.get_type_name() in (QUANTIZER, "Result"):
        return []
    sources = [node.input_value(port).get_node() for port in range(node.get_input_size())]
    return [port for port, one in enumerate(sources) if one.get_type_name() == QUANTIZER and not is_constant(one)]

"""Weight-only int8 and int4 for OpenVINO, by NNCF."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optimizer.passes.base import No, PassContext, PassResult, Yes
from optimizer.passes.errors import NoChange, PassFailed
from optimizer.passes.openvino_ir import ENTRY, write_ir
from optimizer.passes.openvino_quantizer import TOOL, load_tool
from optimizer.passes.quiet import quiet
from optimizer.passes.weight_only import worth_packing
from optimizer.specs import HardwareProfile, Json, ModelCard, PassAccuracy, PassNeeds, PassScope, PassStep, Precision

GROUP_SIZE = 64
PACKED_TYPES = ("u8", "i8", "u4", "i4")


class OpenVinoWeightOnly:
    """Needs no data: int8 with one scale per output channel, or int4 with one per group of 64 (int8 where a layer is too narrow)."""

    name = "openvino_weight_only"
    title = "Weight-only int8 and int4 for OpenVINO"
    family = "quantization"
    scope = PassScope.HARDWARE_AWARE
    accuracy = PassAccuracy.SENSITIVE
    needs = PassNeeds.NOTHING
    formats: frozenset[str] = frozenset({"onnx"})
    backends: frozenset[str] = frozenset({"openvino"})
    precisions: frozenset[Precision] = frozenset()
    tools: tuple[str, ...] = ("openvino", TOOL)
    fixes_shapes = True

    def applicable(self, card: ModelCard, hardware: HardwareProfile) -> Yes | No:
        return worth_packing(card) if TOOL in hardware.runtimes else No("it needs NNCF: pip install 'parka[openvino]'")

    def variants(self, card: ModelCard, hardware: HardwareProfile) -> Sequence[PassStep]:
        return tuple(PassStep(name=self.name, params={"bits": bits}) for bits in (8, 4))

    def apply(self, source: Path, target_dir: Path, params: dict[str, Json], context: PassContext) -> PassResult:
        target_dir.mkdir(parents=True, exist_ok=True)
        plain = write_ir(source, context.work_dir / "plain", shapes=context.shapes)
        ov = importlib.import_module("openvino")
        try:
            with quiet():
                nncf = load_tool()
                modes = nncf.CompressWeightsMode
                options = (
                    {"mode": modes.INT8_ASYM} if int(params.get("bits", 8)) == 8 else {"mode": modes.INT4_SYM, "group_size": GROUP_SIZE}
                )
                packed = nncf.compress_weights(ov.Core().read_model(str(plain)), **options)
                ov.save_model(packed, str(target_dir / ENTRY), compress_to_fp16=False)
        except Exception as error:  # tool and runtime raise anything
            raise PassFailed(f"NNCF cannot pack the weights: {' '.join(str(error).split())[-300:]}") from error
        count = _packed(packed)
        if not count:
            raise NoChange("No layer has weights that can be packed.")
        sizes = {
            f"bytes_{when}": path.with_suffix(".bin").stat().st_size for when, path in (("before", plain), ("after", target_dir / ENTRY))
        }
        return PassResult(entry=target_dir / ENTRY, facts={"packed": count, **sizes})


def _packed(model: Any) -> int:
    """Constants stored in eight bits or fewer."""
    constants = [node for node in model.get_ordered_ops() if node.get_type_name() == "Constant"]
    return sum(node.get_element_type().get_type_name() in PACKED_TYPES for node in constants)

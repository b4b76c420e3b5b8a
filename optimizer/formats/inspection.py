"""The ModelCard of a prepared model of any format that intake takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from optimizer.formats.huggingface import CONFIG, inspect_huggingface
from optimizer.formats.onnx_card import inspect_onnx
from optimizer.formats.openvino_bundle import IR_SUFFIX
from optimizer.formats.openvino_ir import inspect_ir
from optimizer.specs import ModelCard


def inspect_model(entry: Path, *, bindings: Mapping[str, int] | None = None, warnings: tuple[str, ...] = ()) -> ModelCard:
    """The card of the model at ``entry``; ``prepare`` has named the entry by its content.

    FLOPs and traffic hold at ``bindings`` (defaults fill what is left open); ``warnings`` are put first. Nothing is executed.
    Raises InputError with the codes of security.md 3.2, and ``input.refused`` for a binding that the model does not have.
    """
    if entry.name == CONFIG:
        return inspect_huggingface(entry, bindings=bindings, warnings=warnings)
    inspect = inspect_ir if entry.suffix == IR_SUFFIX else inspect_onnx
    return inspect(entry, bindings=bindings, warnings=warnings)

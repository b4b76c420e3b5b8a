"""The ModelCard of a prepared model, whatever its format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from optimizer.formats import onnx_card
from optimizer.formats.huggingface import CONFIG, inspect_huggingface
from optimizer.specs import ModelCard


def inspect_model(entry: Path, *, bindings: Mapping[str, int] | None = None, warnings: tuple[str, ...] = ()) -> ModelCard:
    """The card of the model whose entry file is ``entry``; see the inspection of each format for what it raises."""
    inspect = inspect_huggingface if entry.name == CONFIG else onnx_card.inspect_model
    return inspect(entry, bindings=bindings, warnings=warnings)

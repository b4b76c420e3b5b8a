"""Inference backends: a literal table, plus what third parties register in the entry-point group ``parka.backends``."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from optimizer.backends.base import Available, Backend, Missing
from optimizer.backends.onnxruntime import OnnxRuntime
from optimizer.backends.openvino import OpenVino
from optimizer.backends.pytorch import PyTorch, TorchCompile
from optimizer.backends.unloadable import Unloadable
from optimizer.errors import InputError
from optimizer.specs import BackendSettings, ModelCard, Recipe

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINTS = "parka.backends"
REFERENCES = {"onnx": "onnxruntime", "openvino_ir": "openvino", "huggingface": "pytorch"}
"""The runtime that a format was made for: Trial 0 runs in it."""

BACKENDS: dict[str, Backend] = {
    "onnxruntime": OnnxRuntime(),
    "openvino": OpenVino(),
    "pytorch": PyTorch(),
    "torch_compile": TorchCompile(),
}
DISTRIBUTIONS = {"pytorch": ("torch", "transformers"), "torch_compile": ("torch", "transformers")}
"""Packages of a backend that is not named after its own; the first one's version is the backend's."""


@cache
def backends() -> dict[str, Backend]:
    """Every backend by name: ours and the registered ones. A registered name never replaces one of ours."""
    from importlib.metadata import entry_points  # slow to import, and a timed start needs only our own table

    return {**{entry.name: _registered(entry) for entry in entry_points(group=ENTRY_POINTS)}, **BACKENDS}


def _registered(entry: EntryPoint) -> Backend:
    try:
        loaded: Backend = entry.load()()
    except Exception as error:  # a partner's package may fail in any way; the others must go on
        return Unloadable(name=entry.name, reason=f"{entry.value} cannot be loaded: {error}")
    return loaded


def backend(name: str) -> Backend:
    """The backend of that name; registered packages are looked at only when it is none of ours. Raises ``backend.unknown``."""
    if name in BACKENDS:
        return BACKENDS[name]
    table = backends()
    if name not in table:
        raise InputError("backend.unknown", f"There is no backend named {name!r}; choose one of: {', '.join(sorted(table))}.")
    return table[name]


def available_backends() -> dict[str, Available | Missing]:
    """Which backends can work on this machine; loads their libraries."""
    return {name: entry.availability() for name, entry in backends().items()}


def reference_recipe(card: ModelCard, threads: int) -> Recipe:
    """Trial 0: the untouched upload in its format's own runtime, on the CPU in full precision, with the thread count stated.

    Raises InputError ``backend.no_reference`` when the format has no reference runtime.
    """
    if card.format not in REFERENCES:
        raise InputError("backend.no_reference", f"There is no reference runtime for {card.format} models yet: upload the model as ONNX.")
    return Recipe(backend=REFERENCES[card.format], settings=BackendSettings(threads=threads))


__all__ = ["BACKENDS", "DISTRIBUTIONS", "Available", "Backend", "Missing", "available_backends", "backend", "backends", "reference_recipe"]

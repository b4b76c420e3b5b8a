"""Inference backends: a literal table, plus what other packages register in the entry-point group ``parka.backends``."""

from __future__ import annotations

from functools import cache

from optimizer import extensions
from optimizer.backends.base import Available, Backend, Missing
from optimizer.backends.onnxruntime import OnnxRuntime
from optimizer.backends.openvino import OpenVino
from optimizer.backends.pytorch import PyTorch, TorchCompile
from optimizer.backends.unloadable import REINSTALL, Unloadable
from optimizer.errors import InputError
from optimizer.extensions import Extension, NotLoaded
from optimizer.specs import BackendSettings, ModelCard, Recipe

CONTRACT = ("name", "formats", "availability", "variants", "open")
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
    return {**{one.name: _registered(one) for one in extensions.registered(extensions.BACKENDS)}, **BACKENDS}


def _registered(extension: Extension) -> Backend:
    try:
        loaded: Backend = extensions.load(extension, contract=CONTRACT)
    except NotLoaded as error:
        return Unloadable(name=extension.name, reason=error.message)
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
    return {name: availability(name) for name in backends()}


def availability(name: str) -> Available | Missing:
    """Whether that backend can work on this machine; a registered one that fails when asked is missing."""
    try:
        return backend(name).availability()
    except Exception as error:  # a partner's package may fail in any way; the others must go on
        package = next(iter(distributions(name)), name)
        reason = f"{package} could not be loaded: it failed when asked whether it is available: {extensions.described(error)}"
        return Missing(reason=reason, install=REINSTALL)


def distributions(name: str) -> tuple[str, ...]:
    """The packages that bring a backend; the first one's version is the backend's."""
    if name in BACKENDS:
        return DISTRIBUTIONS.get(name, (name,))
    return tuple(one.package for one in extensions.registered(extensions.BACKENDS) if one.name == name)


def reference_recipe(card: ModelCard, threads: int) -> Recipe:
    """Trial 0: the untouched upload in its format's own runtime, on the CPU in full precision, with the thread count stated.

    Raises InputError ``backend.no_reference`` when the format has no reference runtime.
    """
    if card.format not in REFERENCES:
        raise InputError("backend.no_reference", f"There is no reference runtime for {card.format} models yet: upload the model as ONNX.")
    return Recipe(backend=REFERENCES[card.format], settings=BackendSettings(threads=threads))


__all__ = [
    "BACKENDS",
    "DISTRIBUTIONS",
    "Available",
    "Backend",
    "Missing",
    "availability",
    "available_backends",
    "backend",
    "backends",
    "distributions",
    "reference_recipe",
]

"""A declared architecture: the small file beside weights that says which network they belong to.

``architecture.json`` (or ``.toml``) holds either standard layers in a row::

    {"input": {"name": "image", "shape": ["batch", 1, 28, 28], "dtype": "float32"}, "output": "scores", "prefix": "",
     "layers": [{"type": "Conv2d", "name": "features.0", "in_channels": 1, "out_channels": 32, "kernel_size": 3, "padding": 1},
                {"type": "ReLU"}, {"type": "Flatten"}, {"type": "Linear", "name": "head", "in_features": 25088, "out_features": 10}]}

or the configuration of an architecture of the transformers library, ``{"transformers": {...}, "prefix": ""}``. A layer's ``name``
is where its weights are in the state dict, behind ``prefix``; ``within`` names the entry of a checkpoint that holds the state dict.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from optimizer.errors import InputError
from optimizer.specs import TensorSpec
from optimizer.units import MIB

NAMES = ("architecture.json", "architecture.toml")
WEIGHTS = (".safetensors", ".pt", ".pth", ".bin")
MAX_BYTES = 1 * MIB
MAX_LAYERS = 2_000
LARGEST = 1 << 24
DTYPES = frozenset({"float32", "int64"})
Check = Callable[[Any], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One standard layer: its type in ``torch.nn``, the place of its weights, its parameters."""

    type: str
    name: str = ""
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What was declared. Either ``layers`` between ``input`` and ``output``, or ``config`` of the transformers library."""

    input: TensorSpec | None = None
    output: str = "output"
    layers: tuple[Layer, ...] = ()
    config: dict[str, Any] | None = None
    prefix: str = ""
    within: str = ""
    weights: str = ""


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LARGEST


def _is_sizes(value: Any) -> bool:
    return _is_size(value) or (isinstance(value, list) and 1 <= len(value) <= 4 and all(map(_is_size, value)))


def _is_whole(value: Any) -> bool:
    return type(value) is int and abs(value) <= LARGEST


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= LARGEST


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _one_of(*words: str) -> Check:
    return lambda value: value in words


def _is_padding(value: Any) -> bool:
    return _is_sizes(value) or value in ("same", "valid")


CONVOLUTION: dict[str, Check] = {
    "in_channels": _is_size, "out_channels": _is_size, "kernel_size": _is_sizes, "stride": _is_sizes, "padding": _is_padding,
    "dilation": _is_sizes, "groups": _is_size, "bias": _is_flag,
}  # fmt: skip
TRANSPOSED = {**CONVOLUTION, "padding": _is_sizes, "output_padding": _is_sizes}
NORMALISATION: dict[str, Check] = {"num_features": _is_size, "eps": _is_number, "affine": _is_flag}
POOLING: dict[str, Check] = {"kernel_size": _is_sizes, "stride": _is_sizes, "padding": _is_sizes, "ceil_mode": _is_flag}
LAYERS: dict[str, dict[str, Check]] = {
    "Conv1d": CONVOLUTION, "Conv2d": CONVOLUTION, "Conv3d": CONVOLUTION,
    "ConvTranspose1d": TRANSPOSED, "ConvTranspose2d": TRANSPOSED,
    "Linear": {"in_features": _is_size, "out_features": _is_size, "bias": _is_flag},
    "Embedding": {"num_embeddings": _is_size, "embedding_dim": _is_size},
    "BatchNorm1d": NORMALISATION, "BatchNorm2d": NORMALISATION, "BatchNorm3d": NORMALISATION,
    "LayerNorm": {"normalized_shape": _is_sizes, "eps": _is_number},
    "GroupNorm": {"num_groups": _is_size, "num_channels": _is_size, "eps": _is_number, "affine": _is_flag},
    "PReLU": {"num_parameters": _is_size},
    "MaxPool1d": {**POOLING, "dilation": _is_sizes}, "MaxPool2d": {**POOLING, "dilation": _is_sizes},
    "AvgPool1d": {**POOLING, "count_include_pad": _is_flag}, "AvgPool2d": {**POOLING, "count_include_pad": _is_flag},
    "AdaptiveAvgPool1d": {"output_size": _is_sizes}, "AdaptiveAvgPool2d": {"output_size": _is_sizes},
    "Flatten": {"start_dim": _is_whole, "end_dim": _is_whole},
    "Upsample": {"scale_factor": _is_number, "mode": _one_of("nearest", "bilinear")},
    "ReLU": {}, "ReLU6": {}, "SiLU": {}, "Sigmoid": {}, "Tanh": {}, "Hardswish": {}, "Hardsigmoid": {}, "Identity": {},
    "GELU": {"approximate": _one_of("none", "tanh")}, "LeakyReLU": {"negative_slope": _is_number}, "ELU": {"alpha": _is_number},
    "Softplus": {"beta": _is_number}, "Softmax": {"dim": _is_whole}, "LogSoftmax": {"dim": _is_whole},
    "Dropout": {"p": _is_number}, "Dropout1d": {"p": _is_number}, "Dropout2d": {"p": _is_number},
}  # fmt: skip
"""Layers of ``torch.nn`` and the parameters of each that may be stated; the rest stays at the library's defaults."""


def declared_in(names: Collection[str]) -> str | None:
    """The declaration among these file names, where weights lie beside it."""
    found = next((name for name in NAMES if name in names), None)
    return found if any(name.endswith(WEIGHTS) for name in names) else None


def weights_of(architecture: Architecture, names: Collection[str]) -> str:
    """The name of the weights file. Raises InputError ``architecture.malformed``."""
    files = sorted(name for name in names if name.endswith(WEIGHTS) and "/" not in name)
    if architecture.weights in files:
        return architecture.weights
    if architecture.weights or len(files) != 1:
        listed = ", ".join(name[-60:] for name in files[:5]) or "none"
        raise malformed(f'it must say which file holds the weights, "weights": NAME; beside it lie: {listed}')
    return files[0]


def read_architecture(path: Path) -> Architecture:
    """The checked declaration. Raises InputError ``architecture.malformed``, ``architecture.layer``, ``architecture.parameter``."""
    table = _table(path)
    known = {"input", "output", "layers", "transformers", "prefix", "within", "weights"}
    if unknown := sorted(table.keys() - known):
        raise malformed(f"it has an entry {unknown[0][:60]!r}; it may have {', '.join(sorted(known))}")
    plain = Architecture(
        output=_text(table, "output") or "output",
        prefix=_text(table, "prefix"),
        within=_text(table, "within"),
        weights=_text(table, "weights"),
    )
    config = table.get("transformers")
    if isinstance(config, Mapping) and "layers" not in table:
        return replace(plain, config=dict(config))
    layers = table.get("layers")
    if not isinstance(layers, list) or not 1 <= len(layers) <= MAX_LAYERS:
        raise malformed(f'"layers" must list 1 to {MAX_LAYERS:,} layers (or "transformers" hold a configuration)')
    return replace(plain, input=_input(table.get("input")), layers=tuple(_layer(one, index) for index, one in enumerate(layers)))


def _table(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES:,} bytes")
        table = (tomllib.loads if path.suffix == ".toml" else json.loads)(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise malformed(f"it cannot be read ({str(error)[:100]})") from None
    if not isinstance(table, dict):
        raise malformed("it is no table")
    return table


def _text(table: Mapping[str, Any], name: str) -> str:
    value = table.get(name, "")
    if not isinstance(value, str) or len(value) > 200:
        raise malformed(f"{name!r} must be a short text")
    return value


def _input(table: Any) -> TensorSpec:
    shape = table.get("shape") if isinstance(table, Mapping) else None
    dims_are_good = isinstance(shape, list) and 1 <= len(shape) <= 6 and all(map(_is_dim, shape))
    name = table.get("name", "input") if isinstance(table, Mapping) else None
    if not dims_are_good or not isinstance(name, str) or not name or table.get("dtype", "float32") not in DTYPES:
        raise malformed('"input" must be like {"name": "image", "shape": ["batch", 3, 224, 224], "dtype": "float32"} (or int64)')
    return TensorSpec(name=name, dtype=table.get("dtype", "float32"), shape=tuple(shape or ()))


def _is_dim(value: Any) -> bool:
    return (_is_size(value) and value > 0) or (isinstance(value, str) and value.isidentifier() and len(value) <= 40)


def _layer(table: Any, index: int) -> Layer:
    kind = table.get("type") if isinstance(table, Mapping) else None
    if kind not in LAYERS:
        raise InputError(
            "architecture.layer",
            f"Layer {index} has the type {str(kind)[:60]!r}, which is not known; use {', '.join(sorted(LAYERS))}, or export the model to ONNX.",
        )
    params = {name: value for name, value in table.items() if name not in ("type", "name")}
    for name, value in params.items():
        if name not in LAYERS[kind]:
            may = ", ".join(LAYERS[kind]) or "none"
            raise _parameter(index, kind, f"has no parameter {name[:60]!r} here; it may have: {may}")
        if not LAYERS[kind][name](value):
            raise _parameter(index, kind, f"cannot take {name} = {str(value)[:60]}")
    place = table.get("name", "")
    if not isinstance(place, str) or len(place) > 300:
        raise malformed(f"the name of layer {index} must be a text")
    return Layer(type=kind, name=place, params=params)


def _parameter(index: int, kind: str, why: str) -> InputError:
    return InputError("architecture.parameter", f"Layer {index} ({kind}) {why}.")


def malformed(why: str) -> InputError:
    return InputError("architecture.malformed", f"The declared architecture is not acceptable: {why}.")

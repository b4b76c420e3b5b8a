"""Weights and their declared layers become an ONNX model, in the sandboxed child alone: PyTorch builds, loads, exports and compares."""

from __future__ import annotations

import importlib
import itertools
import os
import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx

from optimizer.errors import InputError
from optimizer.formats.architecture import Architecture, Layer, malformed
from optimizer.formats.safetensors import read_header
from optimizer.ort import load_onnxruntime
from optimizer.rounding import agrees_to_rounding, largest_difference
from optimizer.specs import TensorSpec

OPSET = 17
SIZES = (2, 1, 3)
"""What open dims are bound to when the export is compared: one that was fixed by accident fails at the others."""
COUNTER = "num_batches_tracked"
Arrays = Mapping[str, Any]


def require_torch() -> ModuleType:
    """``torch``. Raises InputError ``torch.missing``."""
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("torch")
    except ImportError as error:
        raise InputError(
            "torch.missing",
            "Weights with a declared architecture are read with PyTorch, which is not installed here: pip install 'parka[torch]' on the "
            "machine that reads uploads and on its agents, or export the model to ONNX.",
        ) from error


def read_weights(path: Path, *, within: str) -> dict[str, Any]:
    """The state dict of a .safetensors or of PyTorch's own format; only tensors, no code. Raises ``torch.*``, ``safetensors.*``."""
    torch = require_torch()
    if path.suffix == ".safetensors":
        read_header(path)
        stored = importlib.import_module("safetensors.torch").load_file(str(path))
    else:
        stored = _unpickled(torch, path)
    for name in within.split(".") if within else ():
        if not isinstance(stored, Mapping) or name not in stored:
            raise malformed(f'the weights have no entry {name[:60]!r} of "within"')
        stored = stored[name]
    if not isinstance(stored, Mapping) or not all(isinstance(key, str) and torch.is_tensor(value) for key, value in stored.items()):
        raise InputError(
            "torch.not_weights",
            'The file holds something else than a table of tensors; save model.state_dict(), or name its entry by "within".',
        )
    return dict(stored)


def _unpickled(torch: ModuleType, path: Path) -> Any:
    try:
        return torch.load(str(path), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            "torch.not_weights", "The file holds more than weights, which is not opened; save model.state_dict() alone."
        ) from error
    except (RuntimeError, ValueError, KeyError, EOFError, AttributeError, TypeError, OSError) as error:
        why = " ".join(str(error).split())[:200]
        raise InputError("torch.malformed", f"The file is damaged; save model.state_dict() again ({why}).") from error


def stripped(weights: Arrays, prefix: str) -> dict[str, Any]:
    """The weights behind ``prefix``; what lies outside of it belongs to something else."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def convert(architecture: Architecture, weights: Arrays, target: Path) -> None:
    """Write the network as ONNX and prove that it agrees with PyTorch.

    Raises InputError ``architecture.missing``, ``architecture.unexpected``, ``architecture.shape``, ``architecture.input``,
    ``architecture.export``, ``architecture.parity``.
    """
    torch = require_torch()
    torch.set_num_threads(1)  # a child of intake may start few threads
    module = _filled(torch, architecture, stripped(weights, architecture.prefix))
    feeds = [_example(torch, architecture, size) for size in SIZES]
    with torch.inference_mode():
        answers = [_walk(module, architecture, feed).numpy() for feed in feeds]
    _export(torch, module, feeds[0], architecture, target, rank=answers[0].ndim)
    largest = _compare(target, [feed.numpy() for feed in feeds], answers, name=_input(architecture).name)
    model = onnx.load(str(target))
    facts = {"declared_layers": str(len(architecture.layers)), "largest_difference_to_pytorch": f"{largest:.3g}"}
    onnx.helper.set_model_props(model, facts)
    onnx.save(model, str(target))


def _input(architecture: Architecture) -> TensorSpec:
    if architecture.input is None:
        raise malformed("it declares no input")
    return architecture.input


def _filled(torch: ModuleType, architecture: Architecture, weights: Arrays) -> Any:
    """The layers with their weights. They are made without memory first, so that absurd sizes cost nothing."""
    with torch.device("meta"):
        module = torch.nn.Sequential(*(_made(torch, layer, index) for index, layer in enumerate(architecture.layers)))
    wanted = module.state_dict()
    places = {key: _place(architecture.layers, key) for key in wanted}
    if missing := sorted(place for key, place in places.items() if place not in weights and not key.endswith(COUNTER)):
        raise InputError("architecture.missing", f"The weights lack {missing[0][:120]!r} and {len(missing) - 1} more that the layers need.")
    if unexpected := sorted(weights.keys() - set(places.values())):
        raise InputError(
            "architecture.unexpected",
            f"The weights hold {unexpected[0][:120]!r} and {len(unexpected) - 1} more that no declared layer has; declare every layer.",
        )
    found = {}
    for key, place in places.items():
        value = weights[place] if place in weights else torch.zeros((), dtype=torch.int64)
        if value.shape != wanted[key].shape:
            raise InputError(
                "architecture.shape",
                f"{place[:120]!r} has the shape {list(value.shape)}, and its layer declares {list(wanted[key].shape)}.",
            )
        found[key] = value.to(wanted[key].dtype)
    module.load_state_dict(found, assign=True)
    return module.eval()


def _made(torch: ModuleType, layer: Layer, index: int) -> Any:
    params = {name: tuple(value) if isinstance(value, list) else value for name, value in layer.params.items()}
    try:
        made = getattr(torch.nn, layer.type)(**params)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            "architecture.parameter", f"Layer {index} ({layer.type}) cannot be made: {' '.join(str(error).split())[:200]}."
        ) from error
    if made.state_dict() and not layer.name:
        raise malformed(f'layer {index} ({layer.type}) has weights, so it needs its "name" in the state dict')
    return made


def _place(layers: tuple[Layer, ...], key: str) -> str:
    index, _, rest = key.partition(".")
    return f"{layers[int(index)].name}.{rest}"


def _example(torch: ModuleType, architecture: Architecture, size: int) -> Any:
    """Seeded input with every open dim bound to ``size``."""
    tensor = _input(architecture)
    shape = [dim if isinstance(dim, int) else size for dim in tensor.shape]
    rng = np.random.default_rng(size)
    if tensor.dtype == "int64":
        return torch.from_numpy(rng.integers(0, int(architecture.layers[0].params.get("num_embeddings", 2)), shape))
    return torch.from_numpy(rng.normal(size=shape).astype(np.float32))


def _walk(module: Any, architecture: Architecture, value: Any) -> Any:
    """Layer by layer, so that the one which does not fit can be named."""
    for index, (layer, part) in enumerate(zip(architecture.layers, module, strict=True)):
        try:
            value = part(value)
        except Exception as error:  # the library raises anything on shapes that do not fit
            why = " ".join(str(error).split())[:200]
            raise InputError(
                "architecture.input", f"Layer {index} ({layer.type}) does not take {list(value.shape)}, which comes to it: {why}."
            ) from error
    return value


def _export(torch: ModuleType, module: Any, feed: Any, architecture: Architecture, target: Path, *, rank: int) -> None:
    tensor = _input(architecture)
    free = {axis: dim for axis, dim in enumerate(tensor.shape) if isinstance(dim, str)}
    axes = {tensor.name: free, **({architecture.output: {0: free[0]}} if 0 in free and rank else {})}
    _called(
        lambda: torch.onnx.export(
            module, (feed,), str(target), dynamo=False, opset_version=OPSET, input_names=[tensor.name], output_names=[architecture.output],
            dynamic_axes=axes,
        )
    )  # fmt: skip


def _called(export: Callable[[], object]) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            export()
    except Exception as error:  # the exporter raises anything
        raise InputError(
            "architecture.export", f"PyTorch cannot export these layers to ONNX: {' '.join(str(error).split())[:300]}"
        ) from error


def _compare(target: Path, feeds: list[Any], answers: list[Any], *, name: str) -> float:
    """The largest difference of the exported model from PyTorch. Raises InputError ``architecture.parity``."""
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(target), options, providers=["CPUExecutionProvider"])
    found = [session.run(None, {name: feed})[0] for feed in feeds]
    for ours, theirs in itertools.zip_longest(answers, found):
        if ours.shape != theirs.shape or not agrees_to_rounding(ours, theirs):
            raise InputError("architecture.parity", "The exported model does not agree with PyTorch; export the model to ONNX yourself.")
    return max(largest_difference(ours, theirs) for ours, theirs in zip(answers, found, strict=True))


def save_weights(weights: Arrays, target: Path, *, prefix: str) -> None:
    """The weights behind ``prefix`` as safetensors; tensors that share memory are written apart."""
    apart = {name: value.contiguous().clone() for name, value in stripped(weights, prefix).items()}
    importlib.import_module("safetensors.torch").save_file(apart, str(target))

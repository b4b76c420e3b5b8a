"""bf16 weights of an OpenVINO model, rounded with compensation on what each layer reads on examples."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from optimizer.passes.compensated_rounding import round_compensated
from optimizer.passes.errors import PassFailed
from optimizer.passes.examples import Feeds
from optimizer.passes.openvino_ir import ENTRY

Array = np.ndarray[Any, Any]
EXAMPLES = 32
CONVOLUTIONS = ("Convolution", "GroupConvolution")
POSITIONS = 256
"""Places per example at which the inputs of a layer are looked at."""
WIDEST = 4_096
"""Inputs of a layer beyond which it keeps plain rounding: the work grows with the cube."""


def bf16(values: Array) -> Array:
    """The nearest bf16 values, as float32."""
    return values.astype(np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)


def write_rounded(exact: Path, target_dir: Path, *, feeds: Sequence[Feeds]) -> tuple[Path, dict[str, Any]]:
    """The same model with every layer's weights on bf16 values, and how much error of the outputs that removes (facts).

    Raises ``pass.failed``.
    """
    target_dir.mkdir(parents=True, exist_ok=True)
    ov = importlib.import_module("openvino")
    model = ov.Core().read_model(str(exact))
    layers = {node.get_friendly_name(): node for node in model.get_ordered_ops() if _is_rounded(node)}
    left: list[float] = []
    for name, grams in _grams(exact, layers, feeds).items():
        groups, restored = _as_groups(layers[name])
        rounded = round_compensated(groups, grams, bf16)
        left.append(rounded.error / rounded.plain_error if rounded.plain_error else 1.0)
        constant = importlib.import_module("openvino.opset13").constant(restored(rounded.weights))
        layers[name].input(1).replace_source_output(constant.output(0))
    ov.save_model(model, str(target_dir / ENTRY), compress_to_fp16=False)
    return target_dir / ENTRY, {"layers_rounded": len(left), "rounding_error_left": round(float(np.median(left)), 3) if left else 1.0}


def _is_rounded(node: Any) -> bool:
    """A convolution or matrix product with float32 weights that bf16 does not hold exactly."""
    kind = node.get_type_name()
    if kind not in (*CONVOLUTIONS, "MatMul") or node.input_value(1).get_node().get_type_name() != "Constant":
        return False
    weights = node.input_value(1).get_node().data
    if weights.dtype != np.float32 or (kind == "MatMul" and weights.ndim != 2):
        return False
    return _width(node) <= WIDEST and not np.array_equal(bf16(weights), weights)


def _width(node: Any) -> int:
    shape = tuple(node.input_value(1).get_shape())
    if node.get_type_name() == "MatMul":
        return int(shape[1] if node.get_attributes()["transpose_b"] else shape[0])
    return int(np.prod(shape[1:] if node.get_type_name() == "Convolution" else shape[2:]))


def _as_groups(node: Any) -> tuple[Array, Any]:
    """Weights as [groups, outputs, inputs], and the way back to the stored form."""
    weights = np.array(node.input_value(1).get_node().data)
    if node.get_type_name() == "MatMul":
        is_turned = not node.get_attributes()["transpose_b"]
        matrix = weights.T if is_turned else weights
        return matrix[None], lambda groups: np.ascontiguousarray(groups[0].T if is_turned else groups[0], np.float32)
    lead = weights.shape[:2] if node.get_type_name() == "GroupConvolution" else (1, weights.shape[0])
    return weights.reshape(*lead, -1), lambda groups: groups.reshape(weights.shape).astype(np.float32)


def _grams(exact: Path, layers: Mapping[str, Any], feeds: Sequence[Feeds]) -> dict[str, Array]:
    """Second moments [groups, inputs, inputs] of what each layer reads, summed over the examples. Raises ``pass.failed``."""
    ov = importlib.import_module("openvino")
    probe = ov.Core().read_model(str(exact))
    reads = {node.get_friendly_name(): node.input_value(0) for node in probe.get_ordered_ops() if node.get_friendly_name() in layers}
    sources = list({_place(one): one for one in reads.values()}.values())
    known = len(probe.outputs)
    probe.add_outputs(sources)
    rng = np.random.default_rng(0)
    found: dict[str, Array] = {}
    try:
        compiled = ov.Core().compile_model(probe, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        for feed in feeds:
            results = compiled(dict(feed))
            read = {_place(one): results[known + index] for index, one in enumerate(sources)}
            for name, source in reads.items():
                rows = _rows(layers[name], read[_place(source)], rng)
                gram = rows.swapaxes(1, 2) @ rows
                found[name] = found[name] + gram if name in found else gram.astype(np.float64)
    except RuntimeError as error:
        raise PassFailed(f"OpenVINO cannot run the model with its layers' inputs shown: {' '.join(str(error).split())[-300:]}") from error
    return found


def _place(output: Any) -> tuple[str, int]:
    return output.get_node().get_friendly_name(), output.get_index()


def _rows(node: Any, read: Array, rng: np.random.Generator) -> Array:
    """What the layer multiplies its weights with, at some places: [groups, places, inputs]."""
    if node.get_type_name() == "MatMul":
        turned = read.swapaxes(-1, -2) if node.get_attributes()["transpose_a"] and read.ndim > 1 else read
        rows = turned.reshape(-1, turned.shape[-1])
        return rows[rng.permutation(len(rows))[:POSITIONS]][None]
    patches = _patches(node, read, rng)
    groups = node.input_value(1).get_shape()[0] if node.get_type_name() == "GroupConvolution" else 1
    return patches.reshape(len(patches), groups, -1).swapaxes(0, 1)


def _patches(node: Any, read: Array, rng: np.random.Generator) -> Array:
    """Some of the windows that a convolution sees: [places, channels, window]."""
    how = node.get_attributes()
    skipped = 3 if node.get_type_name() == "GroupConvolution" else 2
    window = [int(size) for size in node.input_value(1).get_shape()[skipped:]]
    dilations, strides = how["dilations"], how["strides"]
    around = [(max(0, first), max(0, last)) for first, last in zip(how["pads_begin"], how["pads_end"], strict=True)]
    padded = np.pad(read, [(0, 0), (0, 0), *around])
    reach = [(size - 1) * step + 1 for size, step in zip(window, dilations, strict=True)]
    axes = tuple(range(2, read.ndim))
    views = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=axes)
    steps: tuple[slice, ...] = tuple(slice(None, None, step) for step in (1, 1, *strides, *dilations))
    views = np.moveaxis(views[steps], 1, 1 + len(window))
    places = views.shape[: 1 + len(window)]
    chosen = np.unravel_index(rng.permutation(int(np.prod(places)))[:POSITIONS], places)
    return np.asarray(views[chosen]).reshape(len(chosen[0]), read.shape[1], -1)

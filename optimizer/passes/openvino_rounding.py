"""bf16 weights of an OpenVINO model, rounded with compensation on what each layer reads on examples."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from optimizer.passes.compensated_rounding import round_compensated
from optimizer.passes.errors import PassFailed
from optimizer.passes.examples import Feeds
from optimizer.passes.openvino_ir import ENTRY
from optimizer.units import MIB

Array = np.ndarray[Any, Any]
EXAMPLES = 32
CONVOLUTIONS = ("Convolution", "GroupConvolution")
POSITIONS = 256
"""Places per example at which the inputs of a layer are looked at."""
WIDEST = 4_096
"""Inputs of a layer beyond which it keeps plain rounding: the work grows with the cube."""
MOMENTS_BYTES = 512 * MIB
"""Second moments held at once; of more layers than that, portion by portion."""


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
    layers = [node for node in model.get_ordered_ops() if _is_rounded(node)]
    left: list[float] = []
    for readers in _portions(layers):
        for reader, grams in zip(readers, _grams(exact, [one[0] for one in readers], feeds), strict=True):
            left += [_round(layer, grams) for layer in reader]
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


def _round(layer: Any, grams: Array) -> float:
    """Give the layer its rounded weights; the share of plain rounding's error that is left."""
    groups, restored = _as_groups(layer)
    rounded = round_compensated(groups, grams, bf16)
    constant = importlib.import_module("openvino.opset13").constant(restored(rounded.weights))
    layer.input(1).replace_source_output(constant.output(0))
    return rounded.error / rounded.plain_error if rounded.plain_error else 1.0


def _portions(layers: Sequence[Any]) -> Iterator[list[list[Any]]]:
    """Layers that read the same in the same way together, as many at once as their second moments have room."""
    together: dict[Any, list[Any]] = {}
    for layer in layers:
        together.setdefault(_reading(layer), []).append(layer)
    portion: list[list[Any]] = []
    taken = 0
    for readers in together.values():
        size = 8 * _group_count(readers[0]) * _width(readers[0]) ** 2
        if portion and taken + size > MOMENTS_BYTES:
            yield portion
            portion, taken = [], 0
        portion.append(readers)
        taken += size
    if portion:
        yield portion


def _reading(layer: Any) -> tuple[Any, ...]:
    """What a layer reads, and how: equal for layers that need the same second moments."""
    how = layer.get_attributes()
    if layer.get_type_name() == "MatMul":
        return (*_place(layer.input_value(0)), how["transpose_a"], _width(layer))
    names = ("strides", "dilations", "pads_begin", "pads_end")
    window = tuple(layer.input_value(1).get_shape())[3 if layer.get_type_name() == "GroupConvolution" else 2 :]
    return (*_place(layer.input_value(0)), _group_count(layer), window, *(tuple(how[name]) for name in names))


def _group_count(layer: Any) -> int:
    return int(layer.input_value(1).get_shape()[0]) if layer.get_type_name() == "GroupConvolution" else 1


def _grams(exact: Path, layers: Sequence[Any], feeds: Sequence[Feeds]) -> list[Array]:
    """Second moments [groups, inputs, inputs] of what each layer reads, summed over the examples. Raises ``pass.failed``."""
    ov = importlib.import_module("openvino")
    whole = ov.Core().read_model(str(exact))
    nodes = {node.get_friendly_name(): node for node in whole.get_ordered_ops()}
    sources = {_place(layer.input_value(0)): nodes[layer.get_friendly_name()].input_value(0) for layer in layers}
    opset = importlib.import_module("openvino.opset13")
    probe = ov.Model([opset.result(one) for one in sources.values()], whole.get_parameters())
    rng = np.random.default_rng(0)
    found: list[Array] = []
    try:
        compiled = ov.Core().compile_model(probe, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        for feed in feeds:
            read = dict(zip(sources, compiled(dict(feed)).to_tuple(), strict=True))
            rows = [_rows(layer, read[_place(layer.input_value(0))], rng) for layer in layers]
            grams = [one.swapaxes(1, 2) @ one for one in rows]
            found = (
                [total + gram for total, gram in zip(found, grams, strict=True)] if found else [gram.astype(np.float64) for gram in grams]
            )
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
    return patches.reshape(len(patches), _group_count(node), -1).swapaxes(0, 1)


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

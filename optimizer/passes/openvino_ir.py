"""OpenVINO's own model form inside a pass: written after the compiler's common rewrites, with layers marked to stay exact."""

from __future__ import annotations

import importlib
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from optimizer.passes.errors import PassFailed

ENTRY = "model.xml"
WEIGHTS = "model.bin"
CONVERSIONS_AT_MOST = 12
"""Nodes between a stored weight and the layer that uses it: a conversion, a shift, a scale, a reshape, and their ranges."""
MARK = {"name": "precise", "version": "0"}
"""The runtime's attribute for a layer that keeps its precision under a reduced-precision hint."""


def write_ir(source: Path, target_dir: Path, *, shapes: Mapping[str, tuple[int, ...]]) -> Path:
    """Convert, fix the shapes and apply the common rewrites now: on a layer that they replace later, a mark would be lost.

    Raises ``pass.failed``.
    """
    target_dir.mkdir(parents=True, exist_ok=True)
    ov = importlib.import_module("openvino")
    rewrites = importlib.import_module("openvino._offline_transformations")
    try:
        model = ov.Core().read_model(str(source))
        if shapes:
            model.reshape({name: list(shape) for name, shape in shapes.items()})
        names = [port.get_any_name() for port in (*model.inputs, *model.outputs)]
        rewrites.apply_moc_transformations(model, cf=False)
        _name_ports(model, names)
        ov.save_model(model, str(target_dir / ENTRY), compress_to_fp16=False)
    except Exception as error:  # the runtime raises plain RuntimeError
        raise PassFailed(f"OpenVINO cannot convert the model: {' '.join(str(error).split())[-300:]}") from error
    return target_dir / ENTRY


def _name_ports(model: Any, names: Sequence[str]) -> None:
    """Give inputs and outputs the one name they had: a rewrite that drops a node merges its names into those of the port beside it.

    A port that is input and output at once has both names and keeps them.
    """
    through = {port.get_node().get_friendly_name() for port in model.inputs} & {_source(port) for port in model.outputs}
    for port, name in zip((*model.inputs, *model.outputs), names, strict=True):
        is_through = port.get_node().get_friendly_name() in through or (port.get_node().inputs() and _source(port) in through)
        if name in port.get_names() and not is_through:
            port.get_tensor().set_names({name})


def _source(output: Any) -> str:
    """The node that computes an output."""
    return str(output.get_node().input_value(0).get_node().get_friendly_name())


def layer_names(entry: Path) -> list[str]:
    """Names of all layers but constants, in file order."""
    layers = _layers(ET.parse(entry))  # noqa: S314 - our own child wrote this file a moment ago
    return [layer.get("name", "") for layer in layers if layer.get("type") != "Const"]


def write_marked(entry: Path, target_dir: Path, *, exact: Collection[str], original: Path | None = None) -> Path:
    """The same model with these layers marked to stay in full precision; weights are shared by a hard link where possible.

    A matrix product loses its mark when the compiler fuses the bias behind it; a bias of the product's whole shape is not fused.
    Where the weights were changed for the reduced precision, the marked layers take theirs from the ``original``.
    """
    target_dir.mkdir(parents=True, exist_ok=True)
    for old in (target_dir / ENTRY, target_dir / WEIGHTS):
        old.unlink(missing_ok=True)
    ov = importlib.import_module("openvino")
    core = ov.Core()
    model = core.read_model(str(entry))
    restored = original is not None and _restore(model, core.read_model(str(original)), layers=exact)
    kept = [pair for pair in _biased_products(model) if {one.get_friendly_name() for one in pair} & set(exact)]
    widened = [_widen_bias(add) for add, _ in kept]
    if restored or any(widened):
        ov.save_model(model, str(target_dir / ENTRY), compress_to_fp16=False)
    else:
        _link(entry.with_name(WEIGHTS), target_dir / WEIGHTS)
        shutil.copyfile(entry, target_dir / ENTRY)
    _mark(target_dir / ENTRY, names={product.get_friendly_name() for _, product in kept}.union(exact))
    return target_dir / ENTRY


def _restore(model: Any, original: Any, *, layers: Collection[str]) -> bool:
    """Give these layers their original constants; whether there was any."""
    before = {node.get_friendly_name(): node for node in original.get_ordered_ops()}
    found = [node for node in model.get_ordered_ops() if node.get_friendly_name() in layers and node.get_friendly_name() in before]
    for node in found:
        restore_constants(node, before[node.get_friendly_name()])
    return bool(found)


def restore_constants(node: Any, before: Any) -> None:
    """Let a layer read the constants that the same layer of another model reads."""
    for port in range(node.get_input_size()):
        if is_constant(node.input_value(port).get_node()) and is_constant(before.input_value(port).get_node()):
            node.input(port).replace_source_output(before.input_value(port))


def is_constant(node: Any) -> bool:
    """Whether only constants stand behind it, a few conversions away."""
    pending, seen = [node], 0
    while pending:
        one = pending.pop()
        if one.get_type_name() == "Constant":
            continue
        seen += 1
        if not one.get_input_size() or seen > CONVERSIONS_AT_MOST:
            return False
        pending += [one.input_value(port).get_node() for port in range(one.get_input_size())]
    return True


def _biased_products(model: Any) -> list[tuple[Any, Any]]:
    """(Add, MatMul) wherever a constant is added to a matrix product."""
    found = []
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Add":
            continue
        sources = {one.get_type_name(): one for one in (node.input_value(0).get_node(), node.input_value(1).get_node())}
        if {"MatMul", "Constant"} <= sources.keys():
            found.append((node, sources["MatMul"]))
    return found


def _widen_bias(add: Any) -> bool:
    """Give the constant of an addition the whole shape of its result; not possible while that shape is open."""
    shape = add.output(0).get_partial_shape()
    if not shape.is_static:
        return False
    port = next(index for index in (0, 1) if add.input_value(index).get_node().get_type_name() == "Constant")
    wide = np.broadcast_to(add.input_value(port).get_node().data, tuple(shape.to_shape()))
    constant = importlib.import_module("openvino.opset13").constant(np.ascontiguousarray(wide))
    add.input(port).replace_source_output(constant.output(0))
    return True


def _mark(entry: Path, *, names: Collection[str]) -> None:
    tree = ET.parse(entry)  # noqa: S314 - our own child wrote this file a moment ago
    for layer in _layers(tree):
        if layer.get("name") in names:
            notes = layer.find("rt_info")
            ET.SubElement(ET.SubElement(layer, "rt_info") if notes is None else notes, "attribute", MARK)
    tree.write(entry, encoding="utf-8", xml_declaration=True)


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _layers(tree: ET.ElementTree[ET.Element]) -> list[ET.Element]:
    found = tree.getroot().find("layers")
    return [] if found is None else list(found)

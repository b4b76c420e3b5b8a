"""Which OpenVINO IRs are taken: version, operator sets, and constants that lie within the weights file."""

from __future__ import annotations

import re
from pathlib import Path

from optimizer.errors import InputError
from optimizer.formats.openvino_facts import IrConstant, IrFacts
from optimizer.formats.openvino_xml import constant_of, malformed, read_ir

VERSION = "11"
MAX_OPSET = 17  # a test asks the installed runtime
OPSET = re.compile(r"opset([0-9]{1,3})")
STATE = frozenset({"ReadValue", "Assign"})
WEIGHTS_SUFFIX = ".bin"


def checked_ir(entry: Path) -> IrFacts:
    """Read the .xml and check it against the .bin beside it.

    Raises InputError ``openvino.*``.
    """
    facts = read_ir(entry)
    check_ir(facts)
    check_weights(facts, entry.with_suffix(WEIGHTS_SUFFIX))
    return facts


def check_ir(facts: IrFacts) -> None:
    """Raises InputError ``openvino.xml``, ``openvino.version``, ``openvino.op``, ``openvino.stateful``."""
    if not facts.graphs:
        raise malformed("The .xml does not describe a network.")
    if facts.version != VERSION:
        raise InputError(
            "openvino.version",
            f"The IR has version {facts.version[:20]!r}; only version {VERSION} is read. Convert the original model again with a present "
            "OpenVINO (ovc MODEL), or upload its ONNX.",
        )
    if not any(layer.kind == "Result" for layer in facts.main.layers):
        raise malformed("The network has no output.")
    for layer in facts.layers():
        found = OPSET.fullmatch(layer.opset)
        if not found or not 1 <= int(found[1]) <= MAX_OPSET:
            raise InputError(
                "openvino.op",
                f"Layer {layer.name[:80]!r} is {layer.kind[:80]!r} of the operator set {layer.opset[:80]!r}; opset1 to opset{MAX_OPSET} are "
                "read, and extension libraries are not loaded. Convert the model with standard operators.",
            )
        if layer.kind in STATE:
            raise InputError(
                "openvino.stateful",
                f"The model keeps state between calls ({layer.kind} {layer.name[:80]!r}), so that a call's result depends on those before. "
                "Convert it with its state as inputs and outputs (optimum-cli export openvino --disable-stateful), or upload its ONNX.",
            )


def constants(facts: IrFacts) -> list[IrConstant]:
    """All constants, bodies included. Raises InputError ``openvino.xml``."""
    return [constant_of(layer) for layer in facts.layers() if layer.kind == "Const"]


def check_weights(facts: IrFacts, weights: Path) -> None:
    """Every constant lies within the .bin. Raises InputError ``openvino.weights_missing``, ``openvino.range``."""
    found = constants(facts)
    if not found:
        return
    if not weights.is_file() or weights.is_symlink():
        raise weights_missing(weights.name)
    file_bytes = weights.stat().st_size
    for constant in found:
        if constant.offset + constant.size > file_bytes:
            raise InputError(
                "openvino.range",
                f"A constant ends at byte {constant.offset + constant.size:,} of the .bin, which has only {file_bytes:,}; the .bin is cut off "
                "or belongs to another model. Upload the two files that one openvino.save_model wrote.",
            )
        if constant.expected_bytes is not None and constant.size != constant.expected_bytes:
            raise InputError(
                "openvino.range",
                f"A constant of {constant.element} {list(constant.dims)} needs {constant.expected_bytes:,} bytes and the .xml gives it "
                f"{constant.size:,}; write the model again with openvino.save_model.",
            )


def weights_missing(name: str) -> InputError:
    """The refusal of a description whose weights are not there."""
    return InputError(
        "openvino.weights_missing",
        f"The .xml describes the model and its weights lie in {name!r}, which is not there; upload one zip that holds the .xml and the .bin.",
    )


def description_missing(name: str) -> InputError:
    """The refusal of weights whose description is not there."""
    return InputError(
        "openvino.xml_missing",
        f"{name[-120:]!r} holds weights without the graph that uses them; upload one zip that holds the .bin and the .xml beside which it "
        "was written, or the model's ONNX.",
    )

"""Reads the XML of an OpenVINO IR of any origin as a stream within fixed bounds (security.md 3.2).

A document type declaration is refused at its first byte, so there are no entities to expand and no other file to open.
Format: https://docs.openvino.ai/2026/documentation/openvino-ir-format.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from xml.parsers import expat

from optimizer.errors import InputError
from optimizer.formats.openvino_facts import IrConstant, IrFacts, IrGraph, IrLayer, IrPort
from optimizer.units import MIB

PIECE = 1 * MIB
GRAPH_TAGS = frozenset({"net", "body", "then_body", "else_body"})
NUMBER = re.compile(r"[0-9]{1,18}")
DIM = re.compile(r"-1|[0-9]{1,18}")
MAX_RANK = 16
NAME_SEPARATOR = re.compile(r"(?<!\\),")


@dataclass(frozen=True, slots=True, kw_only=True)
class IrCaps:
    """Bounds of one .xml; the defaults are those of security.md 3.2."""

    file_bytes: int = 256 * MIB
    depth: int = 100
    layers: int = 250_000
    elements: int = 4_000_000


def malformed(what: str) -> InputError:
    """The refusal of the description."""
    return InputError("openvino.xml", f"{what} Write the model again with openvino.save_model and upload both files.")


def read_ir(path: Path, *, caps: IrCaps | None = None) -> IrFacts:
    """The facts of the .xml at ``path``. Raises InputError ``openvino.xml``."""
    caps = caps or IrCaps()
    if path.stat().st_size > caps.file_bytes:
        raise malformed(f"The .xml is larger than {caps.file_bytes // MIB:,} MiB.")
    walk = _Walk(caps)
    parser = expat.ParserCreate("UTF-8")
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = walk.start, walk.end, walk.text
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                parser.Parse(piece, False)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise malformed(f"The .xml is damaged at line {error.lineno}: {expat.ErrorString(error.code)}.") from None
    return walk.facts


def _refuse_doctype(*_: object) -> None:
    raise malformed("The .xml holds a document type declaration, which could define entities and is never part of an IR.")


class _Walk:
    """Handlers of the stream; graphs and layers nest, so each kind has its own stack."""

    def __init__(self, caps: IrCaps) -> None:
        self.facts = IrFacts()
        self._caps = caps
        self._tags: list[str] = []
        self._graphs: list[IrGraph] = []
        self._layers: list[IrLayer] = []
        self._port: IrPort | None = None
        self._dims: list[int] = []
        self._text = ""
        self._elements = self._layer_count = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        parent = self._tags[-1] if self._tags else ""
        self._tags.append(tag)
        self._elements += 1
        if len(self._tags) > self._caps.depth or self._elements > self._caps.elements:
            raise malformed("The .xml has more or deeper elements than any model needs.")
        self._text = ""
        if tag in GRAPH_TAGS and (tag == "net") == (parent == ""):
            self._open_graph(attributes)
        elif tag == "layer" and parent == "layers" and self._graphs:
            self._open_layer(attributes)
        elif tag == "edge" and parent == "edges" and self._graphs:
            self._edge(attributes)
        elif tag == "Runtime_version" and parent == "rt_info":
            self.facts.runtime = attributes.get("value", "")[:200]
        elif self._layers:
            self._inside_layer(tag, parent, attributes)

    def _open_graph(self, attributes: Mapping[str, str]) -> None:
        if not self._graphs:
            self.facts.version = attributes.get("version", "")
        self._graphs.append(IrGraph())
        self.facts.graphs.append(self._graphs[-1])

    def _open_layer(self, attributes: Mapping[str, str]) -> None:
        self._layer_count += 1
        if self._layer_count > self._caps.layers:
            raise malformed(f"The model has more than {self._caps.layers:,} layers.")
        layer = IrLayer(
            id=attributes.get("id", ""), name=attributes.get("name", ""), kind=attributes.get("type", ""),
            opset=attributes.get("version", ""), output_names=attributes.get("output_names", ""),
        )  # fmt: skip
        if not layer.id or not layer.kind:
            raise malformed("A layer of the .xml has no id or no type.")
        self._layers.append(layer)

    def _edge(self, attributes: Mapping[str, str]) -> None:
        target = (attributes.get("to-layer", ""), attributes.get("to-port", ""))
        self._graphs[-1].sources[target] = (attributes.get("from-layer", ""), attributes.get("from-port", ""))

    def _inside_layer(self, tag: str, parent: str, attributes: dict[str, str]) -> None:
        if tag == "data" and parent == "layer":
            self._layers[-1].data = attributes
        elif tag == "port" and parent in ("input", "output"):
            names = tensor_names(attributes.get("names", ""))
            self._port, self._dims = IrPort(id=attributes.get("id", ""), precision=attributes.get("precision", ""), names=names), []

    def text(self, data: str) -> None:
        if self._tags[-1] == "dim":
            self._text = (self._text + data)[:64]

    def end(self, tag: str) -> None:
        self._tags.pop()
        if tag == "dim" and self._port is not None:
            self._dim()
        elif tag == "port" and self._port is not None:
            self._close_port(self._port)
        elif tag == "layer" and self._layers and self._tags[-1] == "layers":
            self._graphs[-1].layers.append(self._layers.pop())
        elif tag in GRAPH_TAGS and self._graphs and (tag == "net") == (not self._tags):
            self._graphs.pop()

    def _dim(self) -> None:
        if not DIM.fullmatch(self._text.strip()) or len(self._dims) >= MAX_RANK:
            raise malformed(f"A shape in the .xml has the dim {self._text[:40]!r}, or more than {MAX_RANK} dims.")
        self._dims.append(int(self._text))

    def _close_port(self, opened: IrPort) -> None:
        port = replace(opened, dims=tuple(self._dims))
        self._port = None
        (self._layers[-1].inputs if self._tags[-1] == "input" else self._layers[-1].outputs).append(port)


def tensor_names(text: str) -> tuple[str, ...]:
    """The names of a tensor, which the file joins by commas and escapes inside a name."""
    return tuple(name.replace("\\,", ",") for name in NAME_SEPARATOR.split(text) if name)


def constant_of(layer: IrLayer) -> IrConstant:
    """Where a Const layer's value lies. Raises InputError ``openvino.xml``."""
    data = layer.data
    numbers = (data.get("offset", ""), data.get("size", ""))
    dims = [part.strip() for part in data.get("shape", "").split(",") if part.strip()]
    if not all(NUMBER.fullmatch(number) for number in (*numbers, *dims)):
        raise malformed(f"The constant {layer.name[:80]!r} has no usable offset, size or shape.")
    return IrConstant(
        element=data.get("element_type", ""), dims=tuple(int(dim) for dim in dims), offset=int(numbers[0]), size=int(numbers[1])
    )


def declared_dims(layer: IrLayer) -> tuple[int | None, ...] | None:
    """The shape of a Parameter; open and ranged dims are None, and so is a shape of unknown rank.

    Raises InputError ``openvino.xml``.
    """
    text = layer.data.get("shape", "").strip()
    if text == "...":
        return None
    parts = [part.strip() for part in text.split(",")] if text else []
    if len(parts) > MAX_RANK or not all(re.fullmatch(r"\?|-1|[0-9]{1,18}|[0-9]{0,18}\.\.[0-9]{0,18}", part) for part in parts):
        raise malformed(f"The input {layer.name[:80]!r} has the unreadable shape {text[:80]!r}.")
    return tuple(int(part) if NUMBER.fullmatch(part) else None for part in parts)

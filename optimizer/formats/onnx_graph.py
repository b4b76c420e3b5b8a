"""Walks an ONNX file of any origin within fixed bounds and keeps its structure (security.md 3.2).

No recursion: graphs wait in a list until it is empty. Nothing is allocated by a size that the file merely claims.
"""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from optimizer.errors import InputError
from optimizer.formats import onnx_schema as schema
from optimizer.formats.onnx_facts import FunctionFact, GraphFact, ModelFacts, NodeFact, TensorFact, ValueFact
from optimizer.formats.onnx_tensors import read_tensor, sparse_tensor
from optimizer.formats.protobuf import Buffer, Codes, Fields, Reader, Schema, Span, signed
from optimizer.units import GIB

CODES = Codes(malformed="onnx.malformed", limit="onnx.limit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """Bounds of one ONNX file; the defaults are those of security.md 3.2."""

    file_bytes: int = 2 * GIB
    nodes: int = schema.MAX_NODES
    tensors: int = schema.MAX_TENSORS
    nesting: int = 16
    text_bytes: int = 64 * 1024
    weight_bytes: int = 16 * GIB
    fields: int = 8_000_000
    ports: int = 1_000
    port_name_bytes: int = 1_024


CAPS = Caps()


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """The file as a read-only map. Raises InputError ``onnx.malformed`` when it is empty, ``onnx.limit`` from 2 GiB."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size == 0:
            raise InputError("onnx.malformed", "The file is empty; export the model again.")
        if size >= CAPS.file_bytes:
            raise InputError(
                "onnx.limit", "An .onnx file must stay below 2 GiB; save it with save_as_external_data=True and upload the zip."
            )
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            yield view


def reader_of(buffer: Buffer, *, caps: Caps = CAPS) -> Reader:
    """A reader with the field budget and the codes of ONNX."""
    return Reader(buffer, codes=CODES, fields=caps.fields, text_bytes=caps.text_bytes)


def walk(buffer: Buffer, *, caps: Caps = CAPS) -> ModelFacts:
    """The structure of the ModelProto in ``buffer``.

    Raises InputError ``onnx.malformed``, ``onnx.limit``, ``onnx.external_key``, ``onnx.external_path``, ``onnx.external_range``.
    """
    return _Walk(reader_of(buffer, caps=caps), caps).model((0, len(buffer)))


@dataclass(slots=True)
class _Pending:
    """A message with nodes that still has to be read: a graph or a function body."""

    span: Span
    schema: Schema
    graph: GraphFact


@dataclass(slots=True)
class _Walk:
    reader: Reader
    caps: Caps
    facts: ModelFacts = field(default_factory=ModelFacts)
    pending: deque[_Pending] = field(default_factory=deque)

    def model(self, span: Span) -> ModelFacts:
        fields = self.reader.message(span, schema.MODEL)
        if "graph" not in fields or "ir_version" not in fields:
            raise self.reader.malformed(span[0], "no ONNX graph is in it")
        facts = self.facts
        facts.ir_version = signed(fields["ir_version"])
        facts.producer_name, facts.producer_version = fields.get("producer_name", ""), fields.get("producer_version", "")
        facts.opsets = self._opsets(fields)
        for entry in fields.get("metadata_props", ()):
            pair = self.reader.message(entry, schema.KEY_VALUE)
            facts.metadata[pair.get("key", "")] = pair.get("value", "")
        self._enqueue(fields["graph"], depth=0)
        for entry in fields.get("training_info", ()):
            training = self.reader.message(entry, schema.TRAINING_INFO)
            for part in ("initialization", "algorithm"):
                if part in training:
                    self._enqueue(training[part], depth=1)
        for entry in fields.get("functions", ()):
            self._function(entry)
        while self.pending:
            self._body(self.pending.popleft())
        return facts

    def _enqueue(self, span: Span, *, depth: int, kind: Schema = schema.GRAPH) -> int:
        if depth > self.caps.nesting:
            raise self.reader.beyond(span[0], f"graphs nested more than {self.caps.nesting} deep")
        graph = GraphFact(depth=depth)
        self.facts.graphs.append(graph)
        self.pending.append(_Pending(span, kind, graph))
        return len(self.facts.graphs) - 1

    def _opsets(self, fields: Fields) -> dict[str, int]:
        opsets: dict[str, int] = {}
        for entry in fields.get("opset_import", ()):
            imported = self.reader.message(entry, schema.OPERATOR_SET)
            domain = imported.get("domain", "")
            if domain in opsets:
                raise self.reader.malformed(entry[0], f"the operator set {domain[:80]!r} is imported twice")
            opsets[domain] = signed(imported.get("version", 0))
        return opsets

    def _function(self, span: Span) -> None:
        fields = self.reader.message(span, schema.FUNCTION)
        body = self._enqueue(span, depth=1, kind=schema.FUNCTION)
        self.facts.functions.append(
            FunctionFact(domain=fields.get("domain", ""), name=fields.get("name", ""), body=body, opsets=self._opsets(fields))
        )

    def _body(self, pending: _Pending) -> None:
        fields, graph = self.reader.message(pending.span, pending.schema), pending.graph
        graph.name = fields.get("name", "")
        if pending.schema is schema.GRAPH:
            graph.inputs, graph.outputs = self._ports(fields, "input"), self._ports(fields, "output")
        graph.values = tuple(self._value(span) for span in fields.get("value_info", ()))
        for span in fields.get("initializer", ()):
            graph.initializers.append(self._tensor(span))
        for span in fields.get("sparse_initializer", ()):
            graph.initializers.extend(self._sparse(span))
        for span in fields.get("attribute_proto", ()):
            self._attribute(span, depth=graph.depth)
        for span in fields.get("node", ()):
            graph.nodes.append(self._node(span, depth=graph.depth))

    def _ports(self, fields: Fields, side: str) -> tuple[ValueFact, ...]:
        spans = fields.get(side, ())
        if len(spans) > self.caps.ports + (len(fields.get("initializer", ())) if side == "input" else 0):
            raise self.reader.beyond(spans[0][0], f"more than {self.caps.ports:,} graph {side}s")
        ports = tuple(self._value(span) for span in spans)
        for span, port in zip(spans, ports, strict=True):
            if len(port.name.encode()) > self.caps.port_name_bytes:
                raise self.reader.beyond(span[0], f"the name of a graph {side} is longer than {self.caps.port_name_bytes:,} bytes")
        return ports

    def _node(self, span: Span, *, depth: int) -> NodeFact:
        self.facts.node_count += 1
        if self.facts.node_count > self.caps.nodes:
            raise self.reader.beyond(span[0], f"more than {self.caps.nodes:,} nodes")
        fields = self.reader.message(span, schema.NODE)
        if not fields.get("op_type"):
            raise self.reader.malformed(span[0], "a node without an operator")
        tensors: list[tuple[str, TensorFact]] = []
        graphs: list[int] = []
        for entry in fields.get("attribute", ()):
            held, bodies = self._attribute(entry, depth=depth)
            tensors += held
            graphs += bodies
        return NodeFact(
            name=fields.get("name", ""), op_type=fields["op_type"], domain=fields.get("domain", ""), inputs=tuple(fields.get("input", ())),
            outputs=tuple(fields.get("output", ())), span=span, tensors=tuple(tensors), graphs=tuple(graphs),
        )  # fmt: skip

    def _attribute(self, span: Span, *, depth: int) -> tuple[list[tuple[str, TensorFact]], list[int]]:
        """Tensors and graphs that an attribute holds."""
        fields = self.reader.message(span, schema.ATTRIBUTE)
        name = fields.get("name", "")
        for text in [*([fields["s"]] if "s" in fields else ()), *fields.get("strings", ())]:
            if text[1] - text[0] > self.caps.text_bytes:
                raise self.reader.beyond(text[0], f"the attribute {name[:80]!r} has {text[1] - text[0]:,} bytes of text")
        tensors = [self._tensor(entry) for entry in [*([fields["t"]] if "t" in fields else ()), *fields.get("tensors", ())]]
        for entry in [*([fields["sparse_tensor"]] if "sparse_tensor" in fields else ()), *fields.get("sparse_tensors", ())]:
            tensors.extend(self._sparse(entry))
        for entry in [*([fields["tp"]] if "tp" in fields else ()), *fields.get("type_protos", ())]:
            self._type(entry)
        bodies = [*([fields["g"]] if "g" in fields else ()), *fields.get("graphs", ())]
        return [(name, tensor) for tensor in tensors], [self._enqueue(entry, depth=depth + 1) for entry in bodies]

    def _tensor(self, span: Span) -> TensorFact:
        return self._counted(read_tensor(self.reader, span, text_bytes=self.caps.text_bytes))

    def _sparse(self, span: Span) -> list[TensorFact]:
        return [self._counted(part) for part in sparse_tensor(self.reader, span, text_bytes=self.caps.text_bytes)]

    def _counted(self, tensor: TensorFact) -> TensorFact:
        self.facts.tensor_count += 1
        self.facts.weight_bytes += tensor.byte_count
        if self.facts.tensor_count > self.caps.tensors:
            raise self.reader.beyond(tensor.span[0], f"more than {self.caps.tensors:,} tensors")
        if self.facts.weight_bytes > self.caps.weight_bytes:
            raise self.reader.beyond(tensor.span[0], f"more than {self.caps.weight_bytes / GIB:g} GiB of weights")
        return tensor

    def _value(self, span: Span) -> ValueFact:
        fields = self.reader.message(span, schema.VALUE_INFO)
        name = fields.get("name", "")
        if "type" not in fields:
            return ValueFact(name=name, kind="unknown")
        kind, dtype, dims = self._type(fields["type"])
        return ValueFact(name=name, kind=kind, dtype=dtype, dims=dims)

    def _type(self, span: Span) -> tuple[str, str, tuple[int | str | None, ...] | None]:
        """Kind, dtype and dims of a TypeProto; the outermost kind names it, dtype and dims only for a plain tensor."""
        outer = ""
        for _ in range(self.caps.nesting + 1):
            fields = self.reader.message(span, schema.TYPE)
            kinds = [kind for kind in fields if kind != "denotation"]
            if len(kinds) > 1:
                raise self.reader.malformed(span[0], f"a type that is {' and '.join(kinds)} at once")
            if not kinds:
                return outer or "unknown", "", None
            kind = kinds[0]
            outer = outer or kind.removesuffix("_type")
            if kind in ("tensor_type", "sparse_tensor_type"):
                dtype, dims = self._tensor_type(fields[kind])
                return outer, dtype if outer == "tensor" else "", dims if outer == "tensor" else None
            if kind == "opaque_type":
                return outer, "", None
            inner = self.reader.message(fields[kind], schema.MAP_TYPE if kind == "map_type" else schema.SEQUENCE_TYPE)
            next_span = inner.get("value_type" if kind == "map_type" else "elem_type")
            if next_span is None:
                return outer, "", None
            span = next_span
        raise self.reader.beyond(span[0], f"types nested more than {self.caps.nesting} deep")

    def _tensor_type(self, span: Span) -> tuple[str, tuple[int | str | None, ...] | None]:
        fields = self.reader.message(span, schema.TENSOR_TYPE)
        known = schema.DTYPES.get(fields.get("elem_type", 0))
        if known is None and fields.get("elem_type", 0) != 0:
            raise self.reader.malformed(span[0], f"the unknown data type {fields['elem_type']}")
        dtype = known[0] if known else ""
        if "shape" not in fields:
            return dtype, None
        dims = self.reader.message(fields["shape"], schema.SHAPE).get("dim", ())
        return dtype, tuple(self._dimension(dim) for dim in dims)

    def _dimension(self, span: Span) -> int | str | None:
        fields = self.reader.message(span, schema.DIMENSION)
        if "dim_param" in fields and "dim_value" in fields:
            raise self.reader.malformed(span[0], "a dimension that is a number and a symbol at once")
        if "dim_param" in fields:
            return str(fields["dim_param"])
        return signed(fields["dim_value"]) if "dim_value" in fields else None

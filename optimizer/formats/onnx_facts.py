"""What the walker keeps of an ONNX file: structure and sizes, never weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from optimizer.formats.protobuf import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalRef:
    """Where a tensor's bytes lie: a file of the bundle and a range in it; ``length`` None means to the end of the tensor."""

    location: str
    offset: int = 0
    length: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorFact:
    """A constant tensor. ``elements`` and ``byte_count`` are computed from ``dims``; ``span`` is the whole message,
    ``data`` the runs of its bytes within the file (empty when external), by storage field."""

    name: str
    dtype: str
    dims: tuple[int, ...]
    elements: int
    byte_count: int
    span: Span
    storage: str = ""
    data: tuple[Span, ...] = ()
    external: ExternalRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueFact:
    """A named graph value; ``dtype`` is empty for what is no tensor (sequence, map, optional), ``dims`` None for unknown rank."""

    name: str
    kind: str = "tensor"
    dtype: str = ""
    dims: tuple[int | str | None, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFact:
    """An operator call. ``tensors`` holds tensor attributes, ``graphs`` the bodies (positions in ``ModelFacts.graphs``)."""

    name: str
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    span: Span
    tensors: tuple[tuple[str, TensorFact], ...] = ()
    graphs: tuple[int, ...] = ()


@dataclass(slots=True, kw_only=True)
class GraphFact:
    """One graph, subgraph or function body, in file order."""

    name: str = ""
    depth: int = 0
    inputs: tuple[ValueFact, ...] = ()
    outputs: tuple[ValueFact, ...] = ()
    values: tuple[ValueFact, ...] = ()
    nodes: list[NodeFact] = field(default_factory=list)
    initializers: list[TensorFact] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionFact:
    """A function of the model: an operator with its own body (a position in ``ModelFacts.graphs``)."""

    domain: str
    name: str
    body: int
    opsets: dict[str, int]


@dataclass(slots=True, kw_only=True)
class ModelFacts:
    """Everything the walker learned. ``graphs[0]`` is the main graph; the rest are bodies of nodes and functions."""

    ir_version: int = 0
    producer_name: str = ""
    producer_version: str = ""
    opsets: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    graphs: list[GraphFact] = field(default_factory=list)
    functions: list[FunctionFact] = field(default_factory=list)
    tensor_count: int = 0
    node_count: int = 0
    weight_bytes: int = 0

    @property
    def main(self) -> GraphFact:
        return self.graphs[0]

    def nodes(self) -> Iterator[NodeFact]:
        """Nodes of all graphs."""
        for graph in self.graphs:
            yield from graph.nodes

    def tensors(self) -> Iterator[TensorFact]:
        """Initializers and tensor attributes of all graphs."""
        for graph in self.graphs:
            yield from graph.initializers
            for node in graph.nodes:
                for _, tensor in node.tensors:
                    yield tensor

    def externals(self) -> Iterator[TensorFact]:
        """Tensors whose bytes lie in another file."""
        return (tensor for tensor in self.tensors() if tensor.external is not None)

"""What the reader keeps of an OpenVINO IR: layers, their shapes and where their constants lie, never weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod

ELEMENT_TYPES: dict[str, tuple[str, int]] = {
    "f64": ("float64", 64), "f32": ("float32", 32), "f16": ("float16", 16), "bf16": ("bfloat16", 16), "boolean": ("bool", 8),
    "f8e4m3": ("float8_e4m3fn", 8), "f8e5m2": ("float8_e5m2", 8), "f8e8m0": ("float8_e8m0fnu", 8), "f4e2m1": ("float4_e2m1fn", 4),
    "nf4": ("nf4", 4), "u1": ("uint1", 1), "u2": ("uint2", 2), "u3": ("uint3", 0), "u6": ("uint6", 0), "string": ("string", 0),
    **{f"{sign}{bits}": (f"{'u' if sign == 'u' else ''}int{bits}", bits) for sign in "iu" for bits in (4, 8, 16, 32, 64)},
}  # fmt: skip
"""Names of element types in an IR -> (our dtype name, bits of one element; 0 where elements are not simply packed)."""
PORT_PRECISIONS = {"FP64": "f64", "FP32": "f32", "FP16": "f16", "BOOL": "boolean"}


def dtype_of(name: str) -> str:
    """Our name of an element type (``f32``) or of a port's precision (``FP32``)."""
    kind = PORT_PRECISIONS.get(name, name.lower())
    return ELEMENT_TYPES[kind][0] if kind in ELEMENT_TYPES else kind or "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class IrPort:
    """One side of an edge; a dim of -1 is open."""

    id: str
    precision: str = ""
    names: tuple[str, ...] = ()
    dims: tuple[int, ...] = ()

    @property
    def is_static(self) -> bool:
        return all(dim >= 0 for dim in self.dims)


@dataclass(frozen=True, slots=True, kw_only=True)
class IrConstant:
    """A run of the weights file; ``size`` in bytes."""

    element: str
    dims: tuple[int, ...]
    offset: int
    size: int

    @property
    def elements(self) -> int:
        return prod(self.dims)

    @property
    def expected_bytes(self) -> int | None:
        """Bytes that the shape needs; None where an element has no fixed size."""
        bits = ELEMENT_TYPES.get(self.element, ("", 0))[1]
        return (self.elements * bits + 7) // 8 if bits else None


@dataclass(slots=True, kw_only=True)
class IrLayer:
    """An operator call. ``data`` are its attributes as text."""

    id: str
    name: str
    kind: str
    opset: str
    output_names: str = ""
    data: dict[str, str] = field(default_factory=dict)
    inputs: list[IrPort] = field(default_factory=list)
    outputs: list[IrPort] = field(default_factory=list)


Edge = tuple[str, str]


@dataclass(slots=True, kw_only=True)
class IrGraph:
    """The network or the body of a layer. ``sources`` maps (layer, port) of an input to (layer, port) of what feeds it."""

    layers: list[IrLayer] = field(default_factory=list)
    sources: dict[Edge, Edge] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class IrFacts:
    """The whole file; ``graphs[0]`` is the network, the rest are bodies."""

    version: str = ""
    runtime: str = ""
    graphs: list[IrGraph] = field(default_factory=list)

    @property
    def main(self) -> IrGraph:
        return self.graphs[0]

    def layers(self) -> Iterator[IrLayer]:
        """Layers of all graphs."""
        for graph in self.graphs:
            yield from graph.layers

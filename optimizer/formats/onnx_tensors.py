"""Constant tensors inside an ONNX file: dtype, dims and the promise that the bytes match them."""

from __future__ import annotations

import math

import numpy as np

from optimizer.errors import InputError
from optimizer.formats import onnx_schema as schema
from optimizer.formats.external_data import external_ref
from optimizer.formats.onnx_facts import TensorFact
from optimizer.formats.protobuf import Fields, Reader, Span

MAX_ELEMENTS = 1 << 62
EXTERNAL = 1
NARROW_IN_INT32 = frozenset(name for name, bits in schema.DTYPES.values() if bits <= 32 and name not in ("float32", "uint32", "string"))
STORAGES: dict[str, tuple[frozenset[str], int]] = {
    "float_data": (frozenset({"float32", "complex64"}), 4),
    "double_data": (frozenset({"float64", "complex128"}), 8),
    "int32_data": (NARROW_IN_INT32, 0),
    "int64_data": (frozenset({"int64"}), 0),
    "uint64_data": (frozenset({"uint32", "uint64"}), 0),
    "string_data": (frozenset({"string"}), 0),
}


def read_tensor(reader: Reader, span: Span, *, text_bytes: int) -> TensorFact:
    """The facts of the TensorProto at ``span``.

    Raises InputError ``onnx.malformed`` (dtype, negative dim, bytes that do not match the dims), ``onnx.limit``,
    ``onnx.external_key``, ``onnx.external_path``, ``onnx.external_range``.
    """
    fields = reader.message(span, schema.TENSOR)
    name = fields.get("name", "")
    if "segment" in fields:
        raise reader.malformed(span[0], f"the tensor {name[:80]!r} is split in segments, which no runtime reads")
    dims = reader.integers(fields.get("dims"), most=schema.MAX_RANK, what=f"the shape of {name[:80]!r}")
    dtype, bits = _dtype(reader, span, fields, name)
    elements = _elements(reader, span, dims, name)
    byte_count = (elements * bits + 7) // 8
    if fields.get("data_location", 0) == EXTERNAL:
        if dtype == "string":
            raise reader.malformed(span[0], f"the tensor {name[:80]!r} keeps text in an external file, which no runtime reads")
        pairs = [reader.message(entry, schema.KEY_VALUE) for entry in fields.get("external_data", ())]
        ref = external_ref([(pair.get("key", ""), pair.get("value", "")) for pair in pairs], tensor=name, byte_count=byte_count)
        return TensorFact(name=name, dtype=dtype, dims=dims, elements=elements, byte_count=byte_count, span=span, external=ref)
    storage, data = _data(reader, span, fields, dtype=dtype, elements=elements, byte_count=byte_count, text_bytes=text_bytes)
    if dtype == "string":
        byte_count = sum(end - start for start, end in data)
    return TensorFact(
        name=name, dtype=dtype, dims=dims, elements=elements, byte_count=byte_count, span=span, storage=storage, data=data
    )  # fmt: skip


def _dtype(reader: Reader, span: Span, fields: Fields, name: str) -> tuple[str, int]:
    known = schema.DTYPES.get(fields.get("data_type", 0))
    if known is None:
        raise reader.malformed(span[0], f"the tensor {name[:80]!r} has the unknown data type {fields.get('data_type', 0)}")
    return known


def _elements(reader: Reader, span: Span, dims: tuple[int, ...], name: str) -> int:
    if any(dim < 0 for dim in dims):
        raise reader.malformed(span[0], f"the tensor {name[:80]!r} has a negative size {list(dims)}")
    return math.prod(dims)


def _data(
    reader: Reader, span: Span, fields: Fields, *, dtype: str, elements: int, byte_count: int, text_bytes: int
) -> tuple[str, tuple[Span, ...]]:
    present = [storage for storage in (*STORAGES, "raw_data") if storage in fields]
    name = fields.get("name", "")[:80]
    if len(present) > 1:
        raise reader.malformed(span[0], f"the tensor {name!r} stores its values twice ({', '.join(present)})")
    if not present:
        if elements:
            raise reader.malformed(span[0], f"the tensor {name!r} promises {elements:,} elements and has none")
        return "", ()
    storage = present[0]
    if storage == "raw_data":
        data: tuple[Span, ...] = (fields["raw_data"],)
        held, wanted = data[0][1] - data[0][0], byte_count
        fits = dtype != "string" and held == wanted
    else:
        held, data = _typed_data(reader, fields[storage], storage=storage, text_bytes=text_bytes)
        wanted = _stored_values(dtype, storage=storage, elements=elements)
        fits = dtype in STORAGES[storage][0] and held == wanted
    if not fits:
        raise reader.malformed(span[0], f"the tensor {name!r} ({dtype}, {elements:,} elements) holds {held:,} in {storage}, not {wanted:,}")
    return storage, data


def _stored_values(dtype: str, *, storage: str, elements: int) -> int:
    """How many stored numbers make ``elements``: complex takes two, several narrow ones share an int32's low byte."""
    if dtype.startswith("complex"):
        return 2 * elements
    bits = next(bits for name, bits in schema.DTYPES.values() if name == dtype)
    if storage == "int32_data" and bits in (2, 4):
        return -(-elements * bits // 8)
    return elements


def _typed_data(reader: Reader, runs: list[int | Span], *, storage: str, text_bytes: int) -> tuple[int, tuple[Span, ...]]:
    """Number of stored values, and their spans (plain varints have none)."""
    spans = tuple(run for run in runs if isinstance(run, tuple))
    if storage == "string_data":
        _check_strings(reader, spans, text_bytes)
        return len(spans), spans
    width = STORAGES[storage][1]
    if width:
        held = sum(end - start for start, end in spans)
        if held % width:
            raise reader.malformed(spans[0][0], f"{storage} does not end with a whole number")
        return held // width, spans
    return len(runs) - len(spans) + sum(_packed_count(reader, run) for run in spans), spans


def _packed_count(reader: Reader, span: Span) -> int:
    """How many varints a packed run holds: the bytes without a continuation bit."""
    start, end = span
    if start == end:
        return 0
    data = np.frombuffer(reader.buffer, np.uint8, count=end - start, offset=start)
    if data[-1] >= 0x80:
        raise reader.malformed(end - 1, "a packed run of numbers is cut off")
    return int(np.count_nonzero(data < 0x80))


def _check_strings(reader: Reader, spans: tuple[Span, ...], text_bytes: int) -> None:
    for start, end in spans:
        if end - start > text_bytes:
            raise reader.beyond(start, f"a string of {end - start:,} bytes; at most {text_bytes:,} are read")


def sparse_tensor(reader: Reader, span: Span, *, text_bytes: int) -> tuple[TensorFact, ...]:
    """The values and indices of a SparseTensorProto. Raises InputError like ``read_tensor``."""
    fields = reader.message(span, schema.SPARSE_TENSOR)
    dims = reader.integers(fields.get("dims"), most=schema.MAX_RANK, what="the shape of a sparse tensor")
    if any(dim <= 0 for dim in dims) or math.prod(dims) > MAX_ELEMENTS:
        raise reader.malformed(span[0], f"a sparse tensor of shape {list(dims)}")
    parts = [read_tensor(reader, fields[part], text_bytes=text_bytes) for part in ("values", "indices") if part in fields]
    if len(parts) == 2 and parts[0].elements > math.prod(dims):
        raise reader.malformed(span[0], f"a sparse tensor with more values than its shape {list(dims)} has places")
    return tuple(parts)


def tensor_values(reader: Reader, tensor: TensorFact, *, most: int) -> np.ndarray | None:
    """Values of a small integer or boolean constant stored in the file; None when large, external or of another kind.

    Raises InputError ``onnx.malformed``.
    """
    if tensor.elements > most or tensor.external is not None or tensor.dtype not in ("int64", "int32", "bool", "float32"):
        return None
    if tensor.elements == 0:
        return np.zeros(tensor.dims, tensor.dtype)
    start, end = tensor.data[0] if len(tensor.data) == 1 else (0, 0)
    if tensor.storage == "raw_data" or (tensor.storage == "float_data" and end > start):
        return np.frombuffer(reader.buffer[start:end], tensor.dtype).reshape(tensor.dims)
    if tensor.storage in ("int64_data", "int32_data"):
        stored = reader.message(tensor.span, schema.TENSOR)[tensor.storage]
        values = reader.integers(stored, most=most, what=tensor.name)
        return np.array(values, np.int64).astype(tensor.dtype).reshape(tensor.dims)
    return None


__all__ = ["InputError", "read_tensor", "sparse_tensor", "tensor_values"]

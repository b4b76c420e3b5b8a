"""The header of a safetensors file: names, types and places of its tensors, checked before a library sees it (security.md 3.2)."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimizer.errors import InputError
from optimizer.units import MIB

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 16 * MIB
MAX_TENSORS = 100_000
MAX_NAME_BYTES = 512
MAX_RANK = 8
METADATA = "__metadata__"
TYPES: dict[str, tuple[str, int]] = {
    "F64": ("float64", 8), "F32": ("float32", 4), "F16": ("float16", 2), "BF16": ("bfloat16", 2),
    "I64": ("int64", 8), "I32": ("int32", 4), "I16": ("int16", 2), "I8": ("int8", 1),
    "U64": ("uint64", 8), "U32": ("uint32", 4), "U16": ("uint16", 2), "U8": ("uint8", 1), "BOOL": ("bool", 1),
    "F8_E4M3": ("float8_e4m3fn", 1), "F8_E5M2": ("float8_e5m2", 1),
}  # fmt: skip
"""Type code -> (numpy or ml_dtypes name, bytes of an element)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """One tensor of the file; ``begin`` and ``end`` are byte offsets behind the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


def read_header(path: Path) -> dict[str, StoredTensor]:
    """The tensors of the file by name.

    Raises InputError ``safetensors.limit`` beyond the bounds above, ``safetensors.malformed`` when the header is no plain JSON
    table or the tensors do not cover the data exactly once.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        if size < LENGTH_BYTES or length > size - LENGTH_BYTES:
            raise _malformed(path, "its header is longer than the file")
        if length > MAX_HEADER_BYTES:
            raise _limit(path, f"its header has {length:,} bytes, more than {MAX_HEADER_BYTES:,}")
        header = _parsed(path, file.read(length))
    header.pop(METADATA, None)
    if len(header) > MAX_TENSORS:
        raise _limit(path, f"it has {len(header):,} tensors, more than {MAX_TENSORS:,}")
    tensors = [_tensor(path, name, fields) for name, fields in header.items()]
    _check_cover(path, tensors, data_bytes=size - LENGTH_BYTES - length)
    return {tensor.name: tensor for tensor in tensors}


def bytes_per_type(tensors: Sequence[StoredTensor]) -> dict[str, int]:
    """Bytes of data per dtype, most first."""
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        sizes[tensor.dtype] += tensor.end - tensor.begin
    return dict(sizes.most_common())


def _parsed(path: Path, raw: bytes) -> dict[str, Any]:
    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key occurs twice")
        return found

    try:
        header = json.loads(raw.decode(), object_pairs_hook=distinct)
    except (ValueError, RecursionError) as error:
        raise _malformed(path, f"its header cannot be read ({str(error)[:80]})") from None
    if not isinstance(header, dict):
        raise _malformed(path, "its header is no table")
    return header


def _tensor(path: Path, name: str, fields: Any) -> StoredTensor:
    if len(name.encode()) > MAX_NAME_BYTES:
        raise _limit(path, f"a tensor's name is longer than {MAX_NAME_BYTES} bytes")
    try:
        code, shape, (begin, end) = fields["dtype"], tuple(fields["shape"]), fields["data_offsets"]
        dtype, item_bytes = TYPES[code]
    except (KeyError, TypeError, ValueError):
        raise _malformed(path, f"tensor {name[:80]!r} has no known type, shape or place") from None
    if len(shape) > MAX_RANK:
        raise _limit(path, f"tensor {name[:80]!r} has {len(shape)} dimensions, more than {MAX_RANK}")
    if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)):
        raise _malformed(path, f"tensor {name[:80]!r} has a size or place that cannot be")
    if end - begin != math.prod(shape) * item_bytes:
        raise _malformed(path, f"tensor {name[:80]!r} does not fill its place")
    return StoredTensor(name=name, dtype=dtype, shape=shape, begin=begin, end=end)


def _check_cover(path: Path, tensors: Sequence[StoredTensor], *, data_bytes: int) -> None:
    """Every byte of data belongs to exactly one tensor."""
    place = 0
    for tensor in sorted(tensors, key=lambda one: (one.begin, one.end)):
        if tensor.begin != place:
            raise _malformed(path, f"tensor {tensor.name[:80]!r} overlaps another or leaves a gap")
        place = tensor.end
    if place != data_bytes:
        raise _malformed(path, "its tensors do not cover the data")


def _malformed(path: Path, why: str) -> InputError:
    return InputError(
        "safetensors.malformed", f"{path.name[-120:]!r} is damaged: {why}. Download it again or save it with safetensors.torch.save_file."
    )


def _limit(path: Path, why: str) -> InputError:
    return InputError("safetensors.limit", f"{path.name[-120:]!r} is beyond the limits: {why}.")

"""Datasets as ``.npz``: the zip rules, then the header of every array, before numpy opens anything (security.md 3.2)."""

from __future__ import annotations

import ast
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from optimizer.errors import InputError
from optimizer.formats.zip_reader import Archive, Member, ZipCaps, open_archive
from optimizer.units import GIB

MAGIC = b"\x93NUMPY"
MAX_MEMBERS = 1_000
MAX_HEADER_BYTES = 10_000
MAX_TEXT_BYTES = 1_024
MAX_RANK = 16
CAPS = ZipCaps(total_bytes=8 * GIB)
DESCRIPTION = re.compile(r"[<>|=]?([biufcSU])([0-9]{1,7})")
OBJECTS = re.compile(r"[<>|=]?O([0-9]{1,2})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArraySpec:
    """One array of a dataset: its name without ``.npy``, dtype (numpy's name, or ``U12`` for text) and shape; ``header_bytes`` come before its data."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    header_bytes: int
    fortran_order: bool


def read_npz(path: Path) -> dict[str, ArraySpec]:
    """The arrays of a dataset, every byte of it checked (sizes, checksums) but none interpreted.

    Raises InputError ``npz.malformed``, ``npz.object_dtype``, ``npz.limit``, and those of ``open_archive`` and ``Archive.pieces``.
    """
    with open_archive(path, caps=CAPS) as archive:
        if len(archive.members) > MAX_MEMBERS:
            raise InputError("npz.limit", f"The .npz holds {len(archive.members):,} arrays; at most {MAX_MEMBERS:,}.")
        arrays = [_array(archive, member) for member in archive.members.values()]
    if not arrays:
        raise InputError("npz.malformed", "The .npz holds no array; write it with numpy.savez(path, **arrays).")
    return {array.name: array for array in arrays}


def _array(archive: Archive, member: Member) -> ArraySpec:
    name = member.name.removesuffix(".npy")
    if name == member.name or not name:
        raise _malformed(member, "is no .npy array")
    head = b""
    for piece in archive.pieces(member):
        if len(head) < MAX_HEADER_BYTES + 16:
            head += piece[: MAX_HEADER_BYTES + 16]
    start, length = _header_place(member, head)
    description, fortran_order, shape = _header(member, head[start : start + length])
    dtype = _dtype(member, description)
    if start + length + math.prod(shape) * dtype.itemsize != member.size_bytes:
        raise _malformed(member, f"has {member.size_bytes - start - length:,} bytes of data, not those of {dtype} {list(shape)}")
    return ArraySpec(
        name=name,
        dtype=dtype.str[1:] if dtype.kind in "SU" else dtype.name,
        shape=shape,
        header_bytes=start + length,
        fortran_order=fortran_order,
    )


def _header_place(member: Member, head: bytes) -> tuple[int, int]:
    """Offset and length of the header text."""
    if head[:6] != MAGIC or len(head) < 12 or (head[6], head[7]) not in ((1, 0), (2, 0), (3, 0)):
        raise _malformed(member, "does not start as a .npy array")
    start = 10 if head[6] == 1 else 12
    length = int.from_bytes(head[8:start], "little")
    if length > MAX_HEADER_BYTES:
        raise InputError("npz.limit", f"The header of {member.name[:120]!r} has {length:,} bytes; at most {MAX_HEADER_BYTES:,}.")
    if start + length > len(head):
        raise _malformed(member, "is cut off in its header")
    return start, length


def _header(member: Member, text: bytes) -> tuple[str, bool, tuple[int, ...]]:
    try:
        header = ast.literal_eval(text.decode("utf-8").strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise _malformed(member, "has an unreadable header") from None
    if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
        raise _malformed(member, "has a header without exactly descr, fortran_order and shape")
    description, fortran_order, shape = header["descr"], header["fortran_order"], header["shape"]
    if not isinstance(description, str):
        raise InputError("npz.object_dtype", f"{member.name[:120]!r} has a structured dtype; save each field as an array of numbers.")
    if not isinstance(fortran_order, bool) or not isinstance(shape, tuple) or len(shape) > MAX_RANK:
        raise _malformed(member, "has an unreadable header")
    if any(type(size) is not int or not 0 <= size < 1 << 62 for size in shape):
        raise _malformed(member, f"has the impossible shape {str(shape)[:80]}")
    return description, fortran_order, shape


def _dtype(member: Member, description: str) -> np.dtype[np.generic]:
    if OBJECTS.fullmatch(description):
        raise InputError(
            "npz.object_dtype",
            f"{member.name[:120]!r} holds Python objects, which can run code when opened; save arrays of numbers "
            "(rows of equal length: pad them first).",
        )
    match = DESCRIPTION.fullmatch(description)
    try:
        dtype = np.dtype(description) if match else None
    except (TypeError, ValueError):
        dtype = None
    if match is None or dtype is None or dtype.name == "complex128":
        raise _malformed(member, f"has the unsupported dtype {description[:40]!r}")
    if dtype.kind in "SU" and not 0 < dtype.itemsize <= MAX_TEXT_BYTES:
        raise InputError("npz.limit", f"{member.name[:120]!r} holds text of {dtype.itemsize:,} bytes; at most {MAX_TEXT_BYTES:,}.")
    return dtype


def _malformed(member: Member, what: str) -> InputError:
    return InputError("npz.malformed", f"The member {member.name[:120]!r} {what}; write the file with numpy.savez(path, **arrays).")

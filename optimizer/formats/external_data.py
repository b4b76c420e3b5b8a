"""External tensor data: which file and bytes a model may point to (security.md 3.2).

``onnx.checker`` and the runtimes follow links, negative offsets and lengths past the end; here they are refused before a
loader sees the model.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from optimizer.errors import InputError
from optimizer.formats.onnx_facts import ExternalRef, TensorFact

KEYS = frozenset({"location", "offset", "length", "checksum"})
LOCATION = re.compile(r"[A-Za-z0-9._/-]{1,512}")
NUMBER = re.compile(r"[0-9]{1,19}")
MAX_FILES = 1_000


def external_ref(pairs: Sequence[tuple[str, str]], *, tensor: str, byte_count: int) -> ExternalRef:
    """The reference written in a tensor's ``external_data``.

    Raises InputError ``onnx.external_key`` (unknown or repeated key), ``onnx.external_path`` (a location that is no plain
    relative path), ``onnx.external_range`` (a number that cannot be, a length that is not the tensor's).
    """
    entries = dict(pairs)
    unknown = sorted(set(entries) - KEYS)
    if unknown or len(entries) != len(pairs):
        what = f"the unknown key {unknown[0][:80]!r}" if unknown else "a key twice"
        raise InputError(
            "onnx.external_key", f"The external data of tensor {tensor[:80]!r} names {what}; save the model again with onnx.save."
        )
    location = _checked_location(entries.get("location", ""), tensor=tensor)
    offset = _number(entries.get("offset", "0"), key="offset", tensor=tensor)
    length = _number(entries["length"], key="length", tensor=tensor) if "length" in entries else None
    if length is not None and length != byte_count:
        raise InputError(
            "onnx.external_range",
            f"Tensor {tensor[:80]!r} needs {byte_count:,} bytes and its external data gives {length:,}; save it again.",
        )
    return ExternalRef(location=location, offset=offset, length=length)


def _checked_location(location: str, *, tensor: str) -> str:
    parts = location.split("/")
    if not LOCATION.fullmatch(location) or any(part in ("", ".", "..") for part in parts):
        raise InputError(
            "onnx.external_path",
            f"Tensor {tensor[:80]!r} points to {location[:120]!r}; external data must be a plain relative path of letters, digits, "
            "'.', '_', '-' and '/' beside the model. Save the model again with onnx.save(..., save_as_external_data=True).",
        )
    return location


def _number(text: str, *, key: str, tensor: str) -> int:
    if not NUMBER.fullmatch(text) or int(text) >= 1 << 62:
        raise InputError(
            "onnx.external_range", f"The {key} of the external data of tensor {tensor[:80]!r} is {text[:40]!r}, not a usable number."
        )
    return int(text)


def external_files(tensors: Iterable[TensorFact]) -> tuple[str, ...]:
    """The distinct locations, sorted. Raises InputError ``onnx.limit`` beyond 1,000 files."""
    names = sorted({tensor.external.location for tensor in tensors if tensor.external is not None})
    if len(names) > MAX_FILES:
        raise InputError(
            "onnx.limit", f"The model spreads over {len(names):,} external files; at most {MAX_FILES:,}. Save it into one file."
        )
    return tuple(names)


def check_external(tensors: Iterable[TensorFact], *, folder: Path) -> None:
    """Every reference lies within a regular, singly linked file of ``folder``.

    Raises InputError ``onnx.external_missing``, ``onnx.external_path``, ``onnx.external_range``.
    """
    sizes: dict[str, int] = {}
    for tensor in tensors:
        ref = tensor.external
        if ref is None:
            continue
        if ref.location not in sizes:
            sizes[ref.location] = _regular_size(folder, ref.location)
        end = ref.offset + (tensor.byte_count if ref.length is None else ref.length)
        if end > sizes[ref.location]:
            raise InputError(
                "onnx.external_range",
                f"Tensor {tensor.name[:80]!r} ends at byte {end:,} of {ref.location}, which has only {sizes[ref.location]:,}; "
                "the data file is cut off or belongs to another model.",
            )


def _regular_size(folder: Path, location: str) -> int:
    """Size of a file that is reached through real folders only."""
    current = folder
    *parents, name = location.split("/")
    try:
        for part in parents:
            current = current / part
            if not stat.S_ISDIR(os.lstat(current).st_mode):
                raise _not_regular(location)
        status = os.lstat(current / name)
    except FileNotFoundError:
        raise missing(location) from None
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise _not_regular(location)
    return status.st_size


def missing(location: str) -> InputError:
    """The refusal of a model whose data file is not there."""
    return InputError(
        "onnx.external_missing",
        f"The model keeps weights in the file {location!r}, which is not there; upload one zip that holds the .onnx and {location!r}.",
    )


def _not_regular(location: str) -> InputError:
    return InputError("onnx.external_path", f"The external data file {location!r} is a link or no regular file; pack the file itself.")

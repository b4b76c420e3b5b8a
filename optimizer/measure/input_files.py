"""The files of an input set: one stored .npz that is read by mapping, one JSON, one list of content digests."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

ARRAYS, DESCRIPTION, EXAMPLES = "inputs.npz", "inputs.json", "examples.json"
LABEL = "label"
LOCAL_HEADER_BYTES = 30

Array = np.ndarray[Any, Any]


def write_arrays(folder: Path, arrays: Mapping[str, Array]) -> None:
    """Write ``inputs.npz``, uncompressed, so that single examples can be mapped."""
    with zipfile.ZipFile(folder / ARRAYS, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)


def example_digests(arrays: Mapping[str, Array]) -> list[str]:
    """sha256 of each example's inputs; labels do not count, so the same input with two labels is one example."""
    names = sorted(name for name in arrays if name != LABEL)
    count = len(arrays[names[0]]) if names else 0
    digests = []
    for index in range(count):
        state = hashlib.sha256()
        for name in names:
            example = np.ascontiguousarray(arrays[name][index])
            state.update(f"{name}\0{example.dtype.str}\0{example.shape}\0".encode())
            state.update(example.tobytes())
        digests.append(state.hexdigest())
    return digests


def write_digests(folder: Path, digests: list[str]) -> str:
    """Write ``examples.json``; returns the digest of all of them, in order."""
    (folder / EXAMPLES).write_text(json.dumps(digests))
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def read_digests(folder: Path) -> list[str]:
    """The content digests of the examples."""
    return [str(digest) for digest in json.loads((folder / EXAMPLES).read_text())]


def load_feeds(inputs_npz: Path, index: int) -> dict[str, Array]:
    """The feeds of one example, by input name; arrays are contiguous copies.

    Raises IndexError when there is no such example.
    """
    return {name: np.array(array[index]) for name, array in _mapped(inputs_npz).items() if name != LABEL}


def load_label(inputs_npz: Path, index: int) -> Any:
    """The label of one example, or None."""
    labels = _mapped(inputs_npz).get(LABEL)
    return None if labels is None else labels[index].item()


def _mapped(inputs_npz: Path) -> dict[str, Array]:
    status = inputs_npz.stat()
    return _mapped_version(inputs_npz, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)
def _mapped_version(inputs_npz: Path, modified_ns: int, size: int) -> dict[str, Array]:
    """Every array as a read-only map of the file; the last two arguments tell versions apart."""
    arrays: dict[str, Array] = {}
    with zipfile.ZipFile(inputs_npz) as archive, inputs_npz.open("rb") as file:
        for member in archive.infolist():
            file.seek(member.header_offset + LOCAL_HEADER_BYTES - 4)
            name_and_extra = file.read(4)
            file.seek(int.from_bytes(name_and_extra[:2], "little") + int.from_bytes(name_and_extra[2:], "little"), 1)
            arrays[member.filename.removesuffix(".npy")] = _mapped_array(inputs_npz, file)
    return arrays


def _mapped_array(inputs_npz: Path, file: Any) -> Array:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read(file)
    if 0 in shape:
        return np.zeros(shape, dtype)
    return np.memmap(inputs_npz, dtype=dtype, mode="r", offset=file.tell(), shape=shape, order="F" if fortran_order else "C")

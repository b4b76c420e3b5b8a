"""Outputs of a model over many examples, on disk between the child that made them and the one that compares them.

The file is an uncompressed zip of ``.npy`` entries named ``<output>/<example>.npy``: written as a stream, read one example at
a time, so that neither side holds all of it. The reader trusts nothing in the file.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from optimizer.errors import EngineFault
from optimizer.rounding import is_float

Array = np.ndarray[Any, Any]
FILE_NAME = "outputs.npz"


class OutputWriter:
    """Context manager; ``add`` takes one example's outputs in graph order. ``sha256`` and ``finite`` cover all of them."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)
        self._hash = hashlib.sha256()
        self.examples = 0
        self.finite = True

    def __enter__(self) -> OutputWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._zip.close()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def add(self, outputs: Sequence[Array]) -> None:
        for index, output in enumerate(outputs):
            array = _portable(output)
            if is_float(array) and not np.isfinite(array).all():
                self.finite = False
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, allow_pickle=False)
            self._hash.update(buffer.getbuffer())
            self._zip.writestr(zipfile.ZipInfo(f"{index}/{self.examples}.npy"), buffer.getbuffer())
        self.examples += 1


def _portable(output: Array) -> Array:
    """An array that ``.npy`` can hold: text as fixed-width characters, half-size floats of other libraries as float32."""
    array = np.ascontiguousarray(output).reshape(output.shape)
    if array.dtype.kind in "OS":
        return array.astype(str)
    return array.astype(np.float32) if array.dtype.kind == "V" or array.dtype.name == "bfloat16" else array


class StoredOutputs(Sequence[list[Array]]):
    """The outputs of each example, read when asked for."""

    def __init__(self, path: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
            places = [_place(name) for name in self._zip.namelist()]
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise _malformed(f"{error}") from error
        self._size = path.stat().st_size
        self._outputs = 1 + max((output for output, _ in places), default=-1)
        self._examples = 1 + max((example for _, example in places), default=-1)
        if len(set(places)) != self._outputs * self._examples:
            raise _malformed("entries are missing")

    def __len__(self) -> int:
        return self._examples

    def __getitem__(self, example: Any) -> Any:
        if isinstance(example, slice):
            return [self[index] for index in range(*example.indices(len(self)))]
        number = example + self._examples if example < 0 else example
        if not 0 <= number < self._examples:
            raise IndexError(example)
        return [self._read(f"{output}/{number}.npy") for output in range(self._outputs)]

    def __enter__(self) -> StoredOutputs:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._zip.close()

    def _read(self, name: str) -> Array:
        try:
            info = self._zip.getinfo(name)
            if info.file_size > self._size:
                raise _malformed("an entry claims more than the file holds")
            return _array(self._zip.read(info))
        except (KeyError, ValueError, zipfile.BadZipFile) as error:
            raise _malformed(f"{name}: {error}") from error


def _place(name: str) -> tuple[int, int]:
    output, _, example = name.removesuffix(".npy").partition("/")
    return int(output), int(example)


def _array(data: bytes) -> Array:
    """Parse a ``.npy`` without allocating more than it holds."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(stream)
    if fortran:
        raise ValueError("not in C order")
    return np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape)


def _malformed(why: str) -> EngineFault:
    return EngineFault("child.output_invalid", f"The outputs written by the child cannot be read ({why}); run the trial again.")

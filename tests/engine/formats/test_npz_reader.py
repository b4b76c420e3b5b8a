"""Datasets: headers are read by our own reader before numpy opens anything."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optimizer.formats.npz_reader import read_npz
from tests.engine.formats.codes import refusal_of
from tests.engine.formats.raw_zip import RawMember, raw_zip


def npy(header: str, data: bytes = b"", *, version: bytes = b"\x01\x00") -> bytes:
    text = header.encode() + b"\n"
    size = len(text).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    return b"\x93NUMPY" + version + size + text + data


def code_of(tmp_path: Path, *members: tuple[str, bytes]) -> str:
    path = tmp_path / "x.npz"
    path.write_bytes(raw_zip(*[RawMember(name=name.encode(), content=content) for name, content in members]))
    return refusal_of(lambda: read_npz(path))


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6).reshape(2, 3), np.zeros((0, 4), np.float16), np.array(3.0), np.array([True]), np.array(["a", "bcd"]), np.array([b"xy"]),
        np.asfortranarray(np.ones((3, 4), np.float32)), np.array([1 + 2j], np.complex64), np.array([1], ">i4"), np.zeros((2, 2), np.uint8),
    ],
)  # fmt: skip
@pytest.mark.parametrize("compressed", [False, True])
def test_what_numpy_writes_is_read(tmp_path: Path, array: np.ndarray[Any, Any], compressed: bool) -> None:
    (np.savez_compressed if compressed else np.savez)(tmp_path / "x.npz", x=array)
    spec = read_npz(tmp_path / "x.npz")["x"]
    assert (spec.shape, np.dtype(spec.dtype)) == (array.shape, array.dtype.newbyteorder("="))


@pytest.mark.parametrize("version", [b"\x01\x00", b"\x02\x00", b"\x03\x00"])
def test_every_header_version_is_read(tmp_path: Path, version: bytes) -> None:
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"
    assert code_of(tmp_path, ("x.npy", npy(header, bytes(8), version=version))) == ""


@pytest.mark.parametrize("array", [np.array([{"a": 1}], object), np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")])])
def test_objects_and_records_are_refused(tmp_path: Path, array: np.ndarray[Any, Any]) -> None:
    np.savez(tmp_path / "x.npz", x=array)
    assert refusal_of(lambda: read_npz(tmp_path / "x.npz")) == "npz.object_dtype"


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (True,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': [2], }",
        "{'descr': '<f4', 'fortran_order': 0, 'shape': (2,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}",
        "{'descr': '<f4', 'shape': (2,)}",
        "{'descr': '<M8[ns]', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '<c16', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '<f3', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '<V8', 'fortran_order': False, 'shape': (1,), }",
        "__import__('os').system('true')",
        "{'descr': '<f4'",
        "(" * 5000,
        "1" * 5000,
        f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({'1,' * 17}), }}",
    ],
)
def test_headers_that_lie_are_refused(tmp_path: Path, header: str) -> None:
    assert code_of(tmp_path, ("x.npy", npy(header, bytes(8)))) == "npz.malformed"


def test_members_that_are_no_arrays_are_refused(tmp_path: Path) -> None:
    good = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", bytes(8))
    assert code_of(tmp_path, ("x.npy", good), ("notes.txt", b"hello")) == "npz.malformed"
    assert code_of(tmp_path, ("x.npy", pickle.dumps([1]))) == "npz.malformed"
    assert code_of(tmp_path, ("x.npy", b"")) == "npz.malformed"
    assert code_of(tmp_path, ("x.npy", good[:40])) == "npz.malformed"
    assert code_of(tmp_path, ("x.npy", good + b"x")) == "npz.malformed"
    assert code_of(tmp_path, (".npy", good)) == "npz.malformed"
    assert code_of(tmp_path) == "npz.malformed"


def test_limits_have_their_code(tmp_path: Path) -> None:
    good = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", bytes(8))
    assert code_of(tmp_path, *[(f"a{index}.npy", good) for index in range(1_001)]) == "npz.limit"
    assert code_of(tmp_path, ("x.npy", npy("{" + " " * 10_001))) == "npz.limit"
    wide = np.array(["x" * 300])
    np.savez(tmp_path / "x.npz", x=wide)
    assert refusal_of(lambda: read_npz(tmp_path / "x.npz")) == "npz.limit"


def test_a_damaged_array_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.arange(1000))
    data = bytearray((tmp_path / "x.npz").read_bytes())
    data[500] ^= 1
    (tmp_path / "x.npz").write_bytes(data)
    assert refusal_of(lambda: read_npz(tmp_path / "x.npz")) == "zip.crc"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(st.tuples(st.integers(0, 127), st.integers(0, 255)), max_size=5))
def test_a_mutated_header_is_read_or_refused_with_a_code(tmp_path: Path, edits: list[tuple[int, int]]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((2, 3), np.float32))
    data = bytearray(buffer.getvalue())
    for place, byte in edits:
        data[place] = byte
    assert code_of(tmp_path, ("x.npy", bytes(data))).split(".")[0] in ("", "npz")

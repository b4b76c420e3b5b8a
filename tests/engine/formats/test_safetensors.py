"""The safetensors header: every tensor has its place, and what is not plain is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from optimizer.errors import InputError
from optimizer.formats.safetensors import MAX_HEADER_BYTES, MAX_TENSORS, read_header

PLAIN = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def written(path: Path, header: Any, data: bytes = b"\0" * 8) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + data)
    return path


def test_tensors_are_read_with_their_types_and_shapes(tmp_path: Path) -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "b": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [8, 16]},
        "a": PLAIN,
        "empty": {"dtype": "I64", "shape": [0], "data_offsets": [16, 16]},
    }
    found = read_header(written(tmp_path / "x.safetensors", header, b"\0" * 16))
    assert {name: (tensor.dtype, tensor.shape, tensor.elements) for name, tensor in found.items()} == {
        "a": ("float32", (2,), 2),
        "b": ("bfloat16", (2, 2), 4),
        "empty": ("int64", (0,), 0),
    }


@pytest.mark.parametrize(
    ("header", "data"),
    [
        (b"{", b""),
        (b"[]", b""),
        (b'{"a":1,"a":1}', b""),
        (b"[" * 100_000, b""),
        ({"a": PLAIN}, b"\0" * 9),
        ({"a": PLAIN}, b"\0" * 7),
        ({"a": PLAIN, "b": PLAIN}, b"\0" * 8),
        ({"a": PLAIN, "b": {**PLAIN, "data_offsets": [12, 20]}}, b"\0" * 20),
        ({"a": {**PLAIN, "shape": [3]}}, b"\0" * 8),
        ({"a": {**PLAIN, "shape": [-2]}}, b"\0" * 8),
        ({"a": {**PLAIN, "shape": [True, 2]}}, b"\0" * 8),
        ({"a": {**PLAIN, "shape": [1 << 62, 1 << 62]}}, b"\0" * 8),
        ({"a": {**PLAIN, "dtype": "F31"}}, b"\0" * 8),
        ({"a": {**PLAIN, "data_offsets": [8, 0]}}, b"\0" * 8),
        ({"a": {"dtype": "F32"}}, b"\0" * 8),
        ({"a": None}, b"\0" * 8),
    ],
)
def test_a_damaged_header_is_refused(tmp_path: Path, header: Any, data: bytes) -> None:
    with pytest.raises(InputError) as refusal:
        read_header(written(tmp_path / "x.safetensors", header, data))
    assert refusal.value.code == "safetensors.malformed"


@pytest.mark.parametrize("content", [b"", b"\0" * 7, (1 << 63).to_bytes(8, "little") + b"{}"])
def test_a_header_longer_than_the_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(InputError) as refusal:
        read_header(tmp_path / "x.safetensors")
    assert refusal.value.code == "safetensors.malformed"


def test_a_file_beyond_the_limits_is_refused(tmp_path: Path) -> None:
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    headers = [
        b" " * (MAX_HEADER_BYTES + 1),
        {str(number): empty for number in range(MAX_TENSORS + 1)},
        {"n" * 513: empty},
        {"a": {**empty, "shape": [0] * 9}},
    ]
    for header in headers:
        with pytest.raises(InputError) as refusal:
            read_header(written(tmp_path / "x.safetensors", header, b""))
        assert refusal.value.code == "safetensors.limit"

"""Writes zip archives byte by byte, so that every header can lie."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from functools import cache
from typing import Any


@cache
def _deflated(content: bytes) -> bytes:
    deflater = zlib.compressobj(1, zlib.DEFLATED, -15)
    return deflater.compress(content) + deflater.flush()


@dataclass(kw_only=True)
class RawMember:
    """One member; ``local`` and ``central`` override header fields (flags, method, crc, packed, size, name, start, mode, made_by)."""

    name: bytes
    content: bytes = b""
    deflate: bool = False
    local: dict[str, Any] = field(default_factory=dict)
    central: dict[str, Any] = field(default_factory=dict)
    tail: bytes = b""

    @property
    def packed(self) -> bytes:
        if not self.deflate:
            return self.content
        return _deflated(self.content)

    def fields(self, overrides: dict[str, Any]) -> dict[str, Any]:
        plain = {
            "flags": 0, "method": 8 if self.deflate else 0, "crc": zlib.crc32(self.content), "packed": len(self.packed),
            "size": len(self.content), "name": self.name, "mode": 0o100644, "made_by": 3, "extra": b"",
        }  # fmt: skip
        return {**plain, **overrides}


def raw_zip(*members: RawMember, before: bytes = b"", after: bytes = b"", comment: bytes = b"", count: int | None = None) -> bytes:
    """The archive's bytes."""
    body, directory = bytearray(before), bytearray()
    for member in members:
        start = len(body)
        local, central = member.fields(member.local), member.fields(member.central)
        body += b"PK\x03\x04" + struct.pack(
            "<HHHHHIIIHH", 20, local["flags"], local["method"], 0, 0x21, local["crc"], local["packed"], local["size"], len(local["name"]),
            len(local["extra"]),
        )  # fmt: skip
        body += local["name"] + local["extra"] + member.packed + member.tail
        directory += b"PK\x01\x02" + struct.pack(
            "<HHHHHHIIIHHHHHII", central["made_by"] << 8 | 20, 20, central["flags"], central["method"], 0, 0x21, central["crc"],
            central["packed"], central["size"], len(central["name"]), len(central["extra"]), 0, 0, 0, central["mode"] << 16,
            central.get("start", start),
        )  # fmt: skip
        directory += central["name"] + central["extra"]
    number = len(members) if count is None else count
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, number, number, len(directory), len(body), len(comment)) + comment
    return bytes(body + directory + end + after)

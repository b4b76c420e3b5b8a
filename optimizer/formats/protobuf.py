"""A bounded reader of protobuf's wire format over a buffer.

It looks at one message at a time and never descends by itself, so nesting costs no stack; sizes are Python integers, so
nothing wraps. What the libraries tolerate and an attacker could use (a field given twice, groups, a wrong wire type, text
that is not UTF-8) is refused. Wire format: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from optimizer.errors import InputError

Buffer = bytes | mmap.mmap
Span = tuple[int, int]
Fields = dict[str, Any]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_VARINT_BYTES = 10


class Kind(Enum):
    """What a field holds: its wire type, and whether several may be packed into one run of bytes."""

    INT = VARINT
    FLOAT = FIXED32
    DOUBLE = FIXED64
    TEXT = "text"
    DATA = "bytes"
    MESSAGE = "message"

    @property
    def wire(self) -> int:
        return self.value if isinstance(self.value, int) else BYTES

    @property
    def packable(self) -> bool:
        return isinstance(self.value, int)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message; ``most`` bounds how often a repeated field may occur."""

    name: str
    kind: Kind
    repeated: bool = False
    most: int = 1_000_000


Schema = Mapping[int, Field]


@dataclass(frozen=True, slots=True, kw_only=True)
class Codes:
    """Refusal codes of the format that is being read."""

    malformed: str
    limit: str


class Reader:
    """Reads messages of one buffer with one budget of fields for all of them.

    Numbers come back as ``int``, text as ``str``, bytes and messages as ``(start, end)`` spans of the buffer. Repeated numbers
    come back as a list of spans of packed runs or plain integers; see ``integers``.
    Raises InputError with the codes it was given.
    """

    __slots__ = ("_codes", "_fields_left", "_text_bytes", "buffer")

    def __init__(self, buffer: Buffer, *, codes: Codes, fields: int, text_bytes: int) -> None:
        self.buffer = buffer
        self._codes = codes
        self._fields_left = fields
        self._text_bytes = text_bytes

    def malformed(self, offset: int, what: str) -> InputError:
        """The refusal of broken bytes."""
        return InputError(self._codes.malformed, f"The file is damaged at byte {offset}: {what}. Export or download it again.")

    def beyond(self, offset: int, what: str) -> InputError:
        """The refusal of what exceeds a bound."""
        return InputError(self._codes.limit, f"The file exceeds a limit at byte {offset}: {what}.")

    def message(self, span: Span, schema: Schema) -> Fields:
        """The known fields of the message at ``span``; absent ones are missing, repeated ones are lists."""
        found: Fields = {}
        for number, wire, value, offset in self._scan(span):
            field = schema.get(number)
            if field is not None:
                self._store(found, field, wire=wire, value=value, offset=offset)
        return found

    def _store(self, found: Fields, field: Field, *, wire: int, value: Any, offset: int) -> None:
        packed = field.repeated and field.kind.packable and wire == BYTES
        if wire != field.kind.wire and not packed:
            raise self.malformed(offset, f"the field {field.name!r} has the wrong wire type {wire}")
        if field.kind is Kind.TEXT:
            value = self.text(value, field.name)
        if not field.repeated:
            if field.name in found:
                raise self.malformed(offset, f"the field {field.name!r} occurs twice")
            found[field.name] = value
            return
        values = found.setdefault(field.name, [])
        if len(values) >= field.most:
            raise self.beyond(offset, f"more than {field.most:,} entries of {field.name!r}")
        values.append(value)

    def _scan(self, span: Span) -> Iterator[tuple[int, int, Any, int]]:
        """Each field of a message as (number, wire type, integer or span, offset)."""
        position, end = span
        while position < end:
            offset = position
            self._fields_left -= 1
            if self._fields_left < 0:
                raise self.beyond(offset, "too many fields in all")
            tag, position = self.varint(position, end)
            number, wire = tag >> 3, tag & 7
            if not 0 < number < 1 << 29:
                raise self.malformed(offset, f"field number {number}")
            value: int | Span
            if wire == VARINT:
                value, position = self.varint(position, end)
            elif wire == BYTES:
                length, start = self.varint(position, end)
                position = start + length
                value = (start, position)
            elif wire in (FIXED32, FIXED64):
                start, position = position, position + (4 if wire == FIXED32 else 8)
                value = (start, position)
            else:
                raise self.malformed(offset, f"wire type {wire}")
            if position > end:
                raise self.malformed(offset, f"a field ends {position - end:,} bytes after its message")
            yield number, wire, value, offset

    def varint(self, position: int, end: int) -> tuple[int, int]:
        """An unsigned 64-bit varint and the position after it."""
        buffer, value, shift, start = self.buffer, 0, 0, position
        while position < end:
            byte = buffer[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >> 64:
                    break
                return value, position
            shift += 7
            if shift >= 7 * MAX_VARINT_BYTES:
                break
        raise self.malformed(start, "a number that does not end")

    def text(self, span: Span, what: str) -> str:
        """UTF-8 text of bounded size."""
        start, end = span
        if end - start > self._text_bytes:
            raise self.beyond(start, f"{what!r} has {end - start:,} bytes; at most {self._text_bytes:,} are read")
        try:
            return self.buffer[start:end].decode()
        except UnicodeDecodeError:
            raise self.malformed(start, f"{what!r} is not UTF-8 text") from None

    def integers(self, runs: list[int | Span] | None, *, most: int, what: str) -> tuple[int, ...]:
        """Signed 64-bit values of a repeated integer field, packed or not."""
        values: list[int] = []
        for run in runs or ():
            if isinstance(run, int):
                values.append(signed(run))
            else:
                position, end = run
                while position < end and len(values) <= most:
                    number, position = self.varint(position, end)
                    values.append(signed(number))
            if len(values) > most:
                offset = run[0] if isinstance(run, tuple) else 0
                raise self.beyond(offset, f"{what} has more than {most:,} values")
        return tuple(values)


def signed(number: int) -> int:
    """Two's complement of an unsigned 64-bit varint."""
    return number - (1 << 64) if number >> 63 else number

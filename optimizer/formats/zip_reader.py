"""A strict reader of zip archives: what is not plain is refused, never repaired (security.md 3.3).

``zipfile`` renames, overwrites and trusts one of the two headers; here every byte of the file belongs to exactly one member
or to the directory, and both headers of a member agree. Format: PKWARE APPNOTE 6.3.10.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from optimizer.errors import InputError
from optimizer.formats.zip_names import check_name, folded
from optimizer.units import GIB, MIB

LOCAL, CENTRAL, END, END64, LOCATOR64, DESCRIPTOR = (
    b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"PK\x07\x08"
)  # fmt: skip
END_BYTES, END64_BYTES, LOCATOR_BYTES, LOCAL_BYTES, CENTRAL_BYTES = 22, 56, 20, 30, 46
STORED, DEFLATED = 0, 8
ENCRYPTED, DESCRIBED, UTF8 = 1 << 0 | 1 << 6 | 1 << 13, 1 << 3, 1 << 11
MASK32, MASK16 = 0xFFFFFFFF, 0xFFFF
PIECE = 1 * MIB
UNIX, REGULAR, FOLDER, TYPE_BITS = 3, 0o10, 0o4, 12


@dataclass(frozen=True, slots=True, kw_only=True)
class ZipCaps:
    """Bounds of one archive; ``ratio`` holds once a member has passed ``ratio_from_bytes``."""

    entries: int = 10_000
    total_bytes: int = 8 * GIB
    ratio: int = 200
    ratio_from_bytes: int = 64 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file or folder of the archive; ``start`` is its local header, ``data`` its first byte of content."""

    name: str
    start: int
    data: int
    packed_bytes: int
    size_bytes: int
    crc: int
    method: int

    @property
    def is_folder(self) -> bool:
        return self.name.endswith("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A row of the central directory."""

    raw_name: bytes
    name: str
    flags: int
    method: int
    crc: int
    packed_bytes: int
    size_bytes: int
    start: int


def refuse(code: str, what: str) -> InputError:
    """A refusal of the archive."""
    return InputError(f"zip.{code}", f"{what} Pack the files again as a plain .zip (stored or deflated).")


@dataclass(slots=True)
class Archive:
    """The checked members of an open archive; content is read only through ``pieces``, which counts what it inflates."""

    buffer: mmap.mmap
    caps: ZipCaps
    members: dict[str, Member]
    inflated_bytes: int = field(default=0)

    def files(self) -> list[Member]:
        return [member for member in self.members.values() if not member.is_folder]

    def head(self, member: Member, *, size: int = 512) -> bytes:
        """The first bytes of a member. Raises InputError ``zip.header`` when they cannot be inflated."""
        packed = self.buffer[member.data : member.data + min(member.packed_bytes, 4 * size + 64)]
        if member.method == STORED:
            return packed[:size]
        try:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, size)
        except zlib.error:
            raise refuse("crc", f"The content of {member.name[:120]!r} is damaged.") from None

    def pieces(self, member: Member) -> Iterator[bytes]:
        """Content of a member, piece by piece; ratio, total, size and CRC are checked on the way.

        Raises InputError ``zip.ratio``, ``zip.limit``, ``zip.header``, ``zip.crc``.
        """
        crc, size = 0, 0
        for piece in self._inflated(member):
            size += len(piece)
            self.inflated_bytes += len(piece)
            self._check_progress(member, size)
            crc = zlib.crc32(piece, crc)
            yield piece
        if size != member.size_bytes:
            raise refuse("header", f"{member.name[:120]!r} holds {size:,} bytes and promises {member.size_bytes:,}.")
        if crc != member.crc:
            raise refuse("crc", f"The checksum of {member.name[:120]!r} is wrong: the archive is damaged.")

    def _check_progress(self, member: Member, size: int) -> None:
        if size > member.size_bytes:
            raise refuse("header", f"{member.name[:120]!r} holds more than the {member.size_bytes:,} bytes it promises.")
        if size > self.caps.ratio_from_bytes and size > self.caps.ratio * max(1, member.packed_bytes):
            raise refuse("ratio", f"{member.name[:120]!r} inflates to more than {self.caps.ratio} times its packed size.")
        if self.inflated_bytes > self.caps.total_bytes:
            raise refuse("limit", f"The archive holds more than {self.caps.total_bytes / GIB:g} GiB.")

    def _inflated(self, member: Member) -> Iterator[bytes]:
        end = member.data + member.packed_bytes
        if member.method == STORED:
            for start in range(member.data, end, PIECE):
                yield self.buffer[start : min(start + PIECE, end)]
            return
        inflater, position = zlib.decompressobj(-zlib.MAX_WBITS), member.data
        try:
            while not inflater.eof:
                packed = inflater.unconsumed_tail or self.buffer[position : min(position + PIECE, end)]
                position += 0 if inflater.unconsumed_tail else len(packed)
                piece = inflater.decompress(packed, PIECE)
                if not packed and not piece and not inflater.eof:
                    raise refuse("header", f"The content of {member.name[:120]!r} is cut off.")
                yield piece
        except zlib.error:
            raise refuse("crc", f"The content of {member.name[:120]!r} is damaged.") from None
        if inflater.unused_data or position != end:
            raise refuse("header", f"Bytes follow the content of {member.name[:120]!r}.")


@contextmanager
def open_archive(path: Path, *, caps: ZipCaps | None = None) -> Iterator[Archive]:
    """The archive at ``path`` with every member's headers checked; no content is inflated yet.

    Raises InputError ``zip.header``, ``zip.limit``, ``zip.path``, ``zip.duplicate``, ``zip.encrypted``, ``zip.overlap``,
    ``format.polyglot``.
    """
    caps = caps or ZipCaps()
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) < END_BYTES:
            raise refuse("header", "The archive is cut off.")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            yield Archive(view, caps, _members(view, caps))


def extract(archive: Archive, member: Member, target: Path) -> None:
    """Write a member to the new file ``target`` (0600, never through a link, never over a file).

    Raises InputError like ``Archive.pieces``; what was written so far is removed.
    """
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            for piece in archive.pieces(member):
                file.write(piece)
    except BaseException:
        target.unlink()
        raise


def _members(view: mmap.mmap, caps: ZipCaps) -> dict[str, Member]:
    directory, directory_end, count = _directory(view, caps)
    entries = _entries(view, directory, directory_end, count)
    _check_names(entries)
    if sum(entry.size_bytes for entry in entries) > caps.total_bytes:
        raise refuse("limit", f"The archive promises more than {caps.total_bytes / GIB:g} GiB.")
    ordered = sorted(entries, key=lambda entry: entry.start)
    ends = [*[entry.start for entry in ordered[1:]], directory][: len(ordered)]
    if ordered and ordered[0].start != 0:
        raise InputError("format.polyglot", "Bytes stand before the first member of the archive; upload a plain .zip.")
    if not ordered and directory != 0:
        raise InputError("format.polyglot", "The archive is empty but other bytes surround it; upload a plain .zip.")
    checked = {entry.name: _member(view, entry, end) for entry, end in zip(ordered, ends, strict=True)}
    return {entry.name: checked[entry.name] for entry in entries}


def _directory(view: mmap.mmap, caps: ZipCaps) -> tuple[int, int, int]:
    """Start, end and row count of the central directory."""
    size = len(view)
    end = size - END_BYTES
    if view[end : end + 4] != END or struct.unpack_from("<H", view, end + 20)[0] != 0:
        if view.rfind(END, max(0, size - END_BYTES - MASK16)) >= 0:
            raise InputError("format.polyglot", "Bytes or a comment follow the archive; upload a plain .zip without a comment.")
        raise refuse("header", "The archive is cut off: its directory is missing.")
    narrow = struct.unpack_from("<HHHHII", view, end + 4)
    disk, first_disk, here, count, length, start = narrow
    directory_end = end
    is_wide = MASK16 in narrow[:4] or MASK32 in narrow[4:]
    if is_wide or view[max(0, end - LOCATOR_BYTES) : end][:4] == LOCATOR64:  # torch writes the wide record always
        *wide, directory_end = _directory64(view, end)
        if any(small not in (MASK16, MASK32) and small != large for small, large in zip(narrow, wide, strict=True)):
            raise refuse("header", "The archive's two directory records contradict each other.")
        disk, first_disk, here, count, length, start = wide
    if disk or first_disk or here != count:
        raise refuse("header", "The archive is split over several files.")
    if count > caps.entries:
        raise refuse("limit", f"The archive has {count:,} entries; at most {caps.entries:,}.")
    if start + length != directory_end:
        if start + length < directory_end:
            raise InputError("format.polyglot", "Bytes surround the archive; upload a plain .zip.")
        raise refuse("header", "The archive's directory lies outside the file.")
    return start, directory_end, count


def _directory64(view: mmap.mmap, end: int) -> tuple[int, int, int, int, int, int, int]:
    locator = end - LOCATOR_BYTES
    if locator < 0 or view[locator : locator + 4] != LOCATOR64:
        raise refuse("header", "The archive's zip64 locator is missing.")
    _, record, disks = struct.unpack_from("<IQI", view, locator + 4)
    if disks > 1 or record + END64_BYTES != locator or view[record : record + 4] != END64:
        raise refuse("header", "The archive's zip64 record is damaged.")
    remaining, _, _, disk, first_disk, here, count, length, start = struct.unpack_from("<QHHIIQQQQ", view, record + 4)
    if remaining != END64_BYTES - 12:
        raise refuse("header", "The archive's zip64 record is damaged.")
    return disk, first_disk, here, count, length, start, record


def _entries(view: mmap.mmap, position: int, end: int, count: int) -> list[_Entry]:
    entries: list[_Entry] = []
    for _ in range(count):
        if position + CENTRAL_BYTES > end or view[position : position + 4] != CENTRAL:
            raise refuse("header", "The archive's directory is damaged.")
        entry, position = _entry(view, position, end)
        entries.append(entry)
    if position != end:
        raise refuse("header", "The archive's directory has more rows than it promises.")
    return entries


def _entry(view: mmap.mmap, position: int, end: int) -> tuple[_Entry, int]:
    (made_by, _, flags, method, _, _, crc, packed, size, name_bytes, extra_bytes, comment_bytes, disk, _, mode, start) = struct.unpack_from(
        "<HHHHHHIIIHHHHHII", view, position + 4
    )
    position += CENTRAL_BYTES
    if position + name_bytes + extra_bytes + comment_bytes > end:
        raise refuse("header", "The archive's directory is damaged.")
    raw_name = view[position : position + name_bytes]
    extra = view[position + name_bytes : position + name_bytes + extra_bytes]
    name = _decoded(raw_name, flags)
    size, packed, start, disk = _resolve64(extra, [(size, MASK32), (packed, MASK32), (start, MASK32), (disk, MASK16)], name)
    if disk:
        raise refuse("header", "The archive is split over several files.")
    _check_kind(name, flags, method, mode >> 16 if made_by >> 8 == UNIX else 0)
    entry = _Entry(
        raw_name=raw_name, name=name, flags=flags, method=method, crc=crc, packed_bytes=packed, size_bytes=size, start=start
    )  # fmt: skip
    return entry, position + name_bytes + extra_bytes + comment_bytes


def _decoded(raw_name: bytes, flags: int) -> str:
    try:
        return raw_name.decode("utf-8" if flags & UTF8 else "cp437")
    except UnicodeDecodeError:
        raise refuse("path", "A member's name is not UTF-8 text.") from None


def _check_kind(name: str, flags: int, method: int, mode: int) -> None:
    if flags & ENCRYPTED:
        raise refuse("encrypted", f"{name[:120]!r} is encrypted.")
    if method not in (STORED, DEFLATED):
        raise refuse("header", f"{name[:120]!r} is packed with method {method}.")
    if mode >> TYPE_BITS not in (0, REGULAR, FOLDER) or (mode >> TYPE_BITS == FOLDER) > name.endswith("/"):
        raise refuse("path", f"{name[:120]!r} is a link or a device, not a file.")


def _resolve64(extra: bytes, values: list[tuple[int, int]], name: str) -> list[int]:
    """Replace the values that say "see zip64" by those of the zip64 extra field, in order."""
    wide: list[int] = []
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, position)
        body = extra[position + 4 : position + 4 + length]
        if len(body) != length:
            raise refuse("header", f"An extra field of {name[:120]!r} is damaged.")
        if kind == 1:
            if wide:
                raise refuse("header", f"{name[:120]!r} has two zip64 fields.")
            wide = [struct.unpack_from("<Q", body, at)[0] for at in range(0, length - 7, 8)]
            wide += [struct.unpack_from("<I", body, length - 4)[0]] if length % 8 == 4 else []
        position += 4 + length
    resolved: list[int] = []
    for value, mask in values:
        if value != mask:
            resolved.append(value)
        elif wide:
            resolved.append(wide.pop(0))
        else:
            raise refuse("header", f"The zip64 sizes of {name[:120]!r} are missing.")
    return resolved


def _check_names(entries: list[_Entry]) -> None:
    seen: dict[str, str] = {}
    for entry in entries:
        check_name(entry.name)
        key = folded(entry.name)
        if key in seen:
            raise refuse("duplicate", f"{entry.name[:120]!r} and {seen[key][:120]!r} would be the same file.")
        seen[key] = entry.name
    files = {folded(entry.name) for entry in entries if not entry.name.endswith("/")}
    for key, name in seen.items():
        parts = key.split("/")
        if any("/".join(parts[:depth]) in files for depth in range(1, len(parts))):
            raise refuse("duplicate", f"A folder of {name[:120]!r} is also a file.")


def _member(view: mmap.mmap, entry: _Entry, end: int) -> Member:
    """The member, once its local header agrees with the directory and its bytes end at ``end``."""
    name = entry.name[:120]
    if entry.start + LOCAL_BYTES > end or view[entry.start : entry.start + 4] != LOCAL:
        raise refuse("overlap" if entry.start + LOCAL_BYTES > end else "header", f"The header of {name!r} is not where the directory says.")
    _, flags, method, _, _, crc, packed, size, name_bytes, extra_bytes = struct.unpack_from("<HHHHHIIIHH", view, entry.start + 4)
    data = entry.start + LOCAL_BYTES + name_bytes + extra_bytes
    raw_name = view[entry.start + LOCAL_BYTES : data - extra_bytes]
    if (raw_name, flags, method) != (entry.raw_name, entry.flags, entry.method):
        raise refuse("header", f"The two headers of {name!r} disagree.")
    if data + entry.packed_bytes > end:
        raise refuse("overlap", f"{name!r} overlaps what follows it.")
    described = bool(flags & DESCRIBED)
    size, packed = _resolve64(view[data - extra_bytes : data], [(size, MASK32), (packed, MASK32)], entry.name)
    wanted = (entry.crc, entry.packed_bytes, entry.size_bytes)
    if (crc, packed, size) != wanted and not (described and (crc, packed, size) == (0, 0, 0)):
        raise refuse("header", f"The two headers of {name!r} disagree.")
    _check_tail(view[data + entry.packed_bytes : min(end, data + entry.packed_bytes + 25)], wanted, described, name)
    if entry.method == STORED and entry.packed_bytes != entry.size_bytes:
        raise refuse("header", f"The sizes of {name!r} disagree.")
    return Member(
        name=entry.name, start=entry.start, data=data, packed_bytes=entry.packed_bytes, size_bytes=entry.size_bytes, crc=entry.crc,
        method=entry.method,
    )  # fmt: skip


def _check_tail(tail: bytes, wanted: tuple[int, int, int], described: bool, name: str) -> None:
    """Between a member's content and the next header stands its data descriptor, or nothing."""
    if not described:
        if tail:
            raise InputError("format.polyglot", f"Bytes that belong to no member follow {name!r}; upload a plain .zip.")
        return
    body = tail.removeprefix(DESCRIPTOR) if len(tail) in (16, 24) else tail
    if len(body) not in (12, 20) or struct.unpack("<III" if len(body) == 12 else "<IQQ", body) != wanted:
        raise refuse("header", f"The data descriptor of {name!r} disagrees with the directory.")

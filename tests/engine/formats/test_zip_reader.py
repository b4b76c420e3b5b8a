"""Zip archives are read strictly: honest ones of every writer pass, everything else has its code."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optimizer.errors import InputError
from optimizer.formats.zip_reader import Member, ZipCaps, extract, open_archive
from optimizer.units import MIB
from tests.engine.formats.codes import refusal_of
from tests.engine.formats.raw_zip import RawMember, raw_zip


class Unseekable(io.RawIOBase):
    """A stream as a web server sees it: members get data descriptors."""

    def __init__(self, file: io.BufferedWriter) -> None:
        self.file = file

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        return self.file.write(data)


def read_all(path: Path, *, caps: ZipCaps | None = None) -> dict[str, bytes]:
    with open_archive(path, caps=caps) as archive:
        return {member.name: b"".join(archive.pieces(member)) for member in archive.files()}


def code_of(data: bytes, path: Path, *, caps: ZipCaps | None = None) -> str:
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_all(path, caps=caps)
    return caught.value.code


def _streamed(path: Path) -> None:
    with path.open("wb") as file, zipfile.ZipFile(Unseekable(file), "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[arg-type]
        archive.writestr("a/b.txt", "hello " * 1000)
        archive.writestr("empty.txt", "")


def _plain(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("a")
        archive.writestr("a/b.txt", "hello " * 1000)
        archive.writestr("empty.txt", "")


def _zip64(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in (("a/b.txt", b"hello " * 1000), ("empty.txt", b"")):
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(text)


@pytest.mark.parametrize("write", [_plain, _streamed, _zip64])
def test_honest_archives_of_every_writer_are_read(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path / "x.zip")
    assert read_all(tmp_path / "x.zip") == {"a/b.txt": b"hello " * 1000, "empty.txt": b""}


def test_numpy_archives_are_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(10), y=np.zeros((2, 2)))
    np.savez_compressed(tmp_path / "b.npz", x=np.zeros(10_000))
    assert set(read_all(tmp_path / "a.npz")) == {"x.npy", "y.npy"}
    assert set(read_all(tmp_path / "b.npz")) == {"x.npy"}


def test_a_member_that_inflates_over_many_pieces_is_whole(tmp_path: Path) -> None:
    content = np.random.default_rng(0).integers(0, 4, 3 * MIB + 77, dtype=np.uint8).tobytes()
    (tmp_path / "x.zip").write_bytes(raw_zip(RawMember(name=b"x", content=content, deflate=True)))
    assert read_all(tmp_path / "x.zip") == {"x": content}


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "/etc/passwd",
        "C:\\x",
        "c:x",
        "a\\b",
        "a//b",
        "./a",
        "a/../b",
        "nul",
        "COM1.txt",
        "a.",
        "a ",
        "a\x01b",
        "a\u202eb",
        "x" * 2000,
    ],
)
def test_names_that_climb_or_deceive_are_refused(tmp_path: Path, name: str) -> None:
    data = raw_zip(RawMember(name=name.encode(), local={"flags": 1 << 11}, central={"flags": 1 << 11}))
    assert code_of(data, tmp_path / "x.zip") == "zip.path"


def test_a_name_with_a_nul_byte_is_refused(tmp_path: Path) -> None:
    assert code_of(raw_zip(RawMember(name=b"model.onnx\0.txt")), tmp_path / "x.zip") == "zip.path"


@pytest.mark.parametrize("mode", [0o120777, 0o020644, 0o060644, 0o010644, 0o140644])
def test_links_and_devices_are_refused(tmp_path: Path, mode: int) -> None:
    assert code_of(raw_zip(RawMember(name=b"x", content=b"/etc/passwd", central={"mode": mode})), tmp_path / "x.zip") == "zip.path"


@pytest.mark.parametrize(
    ("first", "second"), [("a.txt", "a.txt"), ("A.txt", "a.TXT"), ("\u00e9", "e\u0301"), ("a", "a/b"), ("stra\u00dfe", "STRASSE")]
)
def test_twins_are_refused(tmp_path: Path, first: str, second: str) -> None:
    flags = {"flags": 1 << 11}
    members = [RawMember(name=name.encode(), local=flags, central=flags) for name in (first, second)]
    assert code_of(raw_zip(*members), tmp_path / "x.zip") == "zip.duplicate"


def test_more_entries_than_allowed_are_refused(tmp_path: Path) -> None:
    members = [RawMember(name=f"f{index}".encode()) for index in range(10_001)]
    assert code_of(raw_zip(*members), tmp_path / "x.zip") == "zip.limit"


def test_a_promise_of_too_many_entries_is_refused_before_they_are_read(tmp_path: Path) -> None:
    assert code_of(raw_zip(RawMember(name=b"x"), count=60_000), tmp_path / "x.zip") == "zip.limit"


def test_a_bomb_is_stopped_in_the_stream_and_its_space_is_freed(tmp_path: Path) -> None:
    content = bytes(70 * MIB)
    path = tmp_path / "x.zip"
    path.write_bytes(raw_zip(RawMember(name=b"bomb", content=content, deflate=True)))
    with open_archive(path) as archive, pytest.raises(InputError, match=r"zip\.ratio"):
        extract(archive, archive.members["bomb"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_total_beyond_the_quota_is_refused_by_promise_and_by_count(tmp_path: Path) -> None:
    members = [RawMember(name=name, content=bytes(60_000)) for name in (b"a", b"b")]
    (tmp_path / "x.zip").write_bytes(raw_zip(*members))
    with pytest.raises(InputError, match=r"zip\.limit"), open_archive(tmp_path / "x.zip", caps=ZipCaps(total_bytes=100_000)):
        pass
    (tmp_path / "y.zip").write_bytes(raw_zip(members[0]))
    with open_archive(tmp_path / "y.zip", caps=ZipCaps(total_bytes=100_000)) as archive:
        list(archive.pieces(archive.members["a"]))
        with pytest.raises(InputError, match=r"zip\.limit"):
            list(archive.pieces(archive.members["a"]))


def test_a_member_that_holds_more_than_it_promises_is_refused(tmp_path: Path) -> None:
    lie = {"size": 10}
    data = raw_zip(RawMember(name=b"x", content=bytes(5000), deflate=True, local=lie, central=lie))
    assert code_of(data, tmp_path / "x.zip") == "zip.header"
    lie = {"size": 6000}
    data = raw_zip(RawMember(name=b"x", content=bytes(5000), deflate=True, local=lie, central=lie))
    assert code_of(data, tmp_path / "x.zip") == "zip.header"


def test_a_member_that_outgrows_its_promise_is_stopped_in_the_stream(tmp_path: Path) -> None:
    lie = {"size": 10}
    (tmp_path / "x.zip").write_bytes(raw_zip(RawMember(name=b"x", content=bytes(20 * MIB), deflate=True, local=lie, central=lie)))
    with open_archive(tmp_path / "x.zip") as archive:
        with pytest.raises(InputError, match=r"zip\.header"):
            list(archive.pieces(archive.members["x"]))
        assert archive.inflated_bytes <= 2 * MIB


def test_overlapping_members_are_refused(tmp_path: Path) -> None:
    one = RawMember(name=b"a", content=b"x" * 100)
    twice = RawMember(name=b"b", content=b"x" * 100, central={"start": 0})
    assert code_of(raw_zip(one, twice), tmp_path / "x.zip") in ("zip.overlap", "zip.header")
    quoted = raw_zip(RawMember(name=b"b", content=b"y" * 10))[: 30 + 1 + 10]
    outer = RawMember(name=b"a", content=quoted)
    inner = RawMember(name=b"b", content=b"y" * 10, central={"start": 31})
    assert code_of(raw_zip(outer, inner), tmp_path / "x.zip") == "zip.overlap"


@pytest.mark.parametrize(
    "local", [{"name": b"y"}, {"method": 8}, {"flags": 2}, {"crc": 1}, {"size": 99}, {"packed": 2}, {"name": b"xx"}]
)  # fmt: skip
def test_headers_that_disagree_are_refused(tmp_path: Path, local: dict[str, object]) -> None:
    assert code_of(raw_zip(RawMember(name=b"x", content=b"hello", local=local)), tmp_path / "x.zip") == "zip.header"


def test_a_wrong_data_descriptor_is_refused(tmp_path: Path) -> None:
    flags = {"flags": 1 << 3}
    for tail in (b"", b"PK\x07\x08" + bytes(12), b"PK\x07\x08" + bytes(13)):
        data = raw_zip(RawMember(name=b"x", content=b"hello", local=flags | {"crc": 0, "packed": 0, "size": 0}, central=flags, tail=tail))
        assert code_of(data, tmp_path / "x.zip") == "zip.header"


def test_a_bad_checksum_is_refused(tmp_path: Path) -> None:
    lie = {"crc": 12345}
    assert code_of(raw_zip(RawMember(name=b"x", content=b"hello", local=lie, central=lie)), tmp_path / "x.zip") == "zip.crc"


def test_damaged_content_is_refused(tmp_path: Path) -> None:
    data = bytearray(raw_zip(RawMember(name=b"x", content=os.urandom(64) * 40, deflate=True)))
    data[40] ^= 0xFF
    assert code_of(bytes(data), tmp_path / "x.zip") in ("zip.crc", "zip.header")


@pytest.mark.parametrize("flags", [1, 1 << 6, 1 << 13])
def test_encrypted_members_are_refused(tmp_path: Path, flags: int) -> None:
    lie = {"flags": flags}
    assert code_of(raw_zip(RawMember(name=b"x", local=lie, central=lie)), tmp_path / "x.zip") == "zip.encrypted"


@pytest.mark.parametrize("method", [1, 9, 12, 14, 93, 99])
def test_unusual_packing_methods_are_refused(tmp_path: Path, method: int) -> None:
    lie = {"method": method}
    assert code_of(raw_zip(RawMember(name=b"x", local=lie, central=lie)), tmp_path / "x.zip") == "zip.header"


def test_bytes_outside_the_members_make_a_polyglot(tmp_path: Path) -> None:
    member = RawMember(name=b"x", content=b"hello")
    for data in (
        raw_zip(member, before=b"#!/bin/sh\n"),
        raw_zip(member, after=b"more"),
        raw_zip(member, comment=b"a comment"),
        raw_zip(RawMember(name=b"x", content=b"hello", tail=b"hidden")),
        raw_zip(before=b"hidden"),
    ):
        assert code_of(data, tmp_path / "x.zip") == "format.polyglot"


def test_a_directory_with_another_count_is_refused(tmp_path: Path) -> None:
    members = [RawMember(name=b"a"), RawMember(name=b"b")]
    assert code_of(raw_zip(*members, count=1), tmp_path / "x.zip") == "zip.header"
    assert code_of(raw_zip(*members, count=3), tmp_path / "x.zip") == "zip.header"


def test_a_truncated_archive_is_refused_at_every_length(tmp_path: Path) -> None:
    _plain(tmp_path / "whole.zip")
    whole = (tmp_path / "whole.zip").read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 100)):
        assert code_of(whole[:length], tmp_path / "x.zip").startswith(("zip.", "format."))


def test_extraction_follows_no_link_and_overwrites_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(raw_zip(RawMember(name=b"x", content=b"new")))
    victim = tmp_path / "victim"
    victim.write_text("old")
    (tmp_path / "link").symlink_to(victim)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with open_archive(path) as archive:
        member: Member = archive.members["x"]
        for target in (victim, tmp_path / "link", tmp_path / "dangling"):
            with pytest.raises(OSError, match=r"exists|Too many"):
                extract(archive, member, target)
        extract(archive, member, tmp_path / "fresh")
    assert victim.read_text() == "old"
    assert not (tmp_path / "nowhere").exists()
    assert (tmp_path / "fresh").stat().st_mode & 0o777 == 0o600


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("seeds")
    found = []
    for write in (_plain, _streamed, _zip64):
        write(folder / "x.zip")
        found.append((folder / "x.zip").read_bytes())
    return found


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_archive_is_read_or_refused_with_a_code(tmp_path: Path, seeds: list[bytes], data: st.DataObject) -> None:
    archive = bytearray(data.draw(st.sampled_from(seeds)))
    for place, byte in data.draw(st.lists(st.tuples(st.integers(0, len(archive) - 1), st.integers(0, 255)), max_size=6)):
        archive[place] = byte
    start = data.draw(st.integers(0, len(archive)))
    archive[start:start] = data.draw(st.binary(max_size=8))
    (tmp_path / "x.zip").write_bytes(archive)
    code = refusal_of(lambda: read_all(tmp_path / "x.zip", caps=ZipCaps(total_bytes=10 * MIB)))
    assert code.split(".")[0] in ("", "zip", "format")


def _always_wide(archive: bytes, *, rows: int | None = None) -> bytes:
    """The archive with a zip64 record that nothing made necessary, as PyTorch writes one."""
    end = len(archive) - 22
    count, length, start = struct.unpack_from("<HII", archive, end + 10)
    shown = count if rows is None else rows
    record = b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, shown, shown, length, start)
    locator = b"PK\x06\x07" + struct.pack("<IQI", 0, end, 1)
    return archive[:end] + record + locator + archive[end:]


def test_a_zip64_record_that_nothing_made_necessary_is_read_and_must_agree(tmp_path: Path) -> None:
    plain = raw_zip(RawMember(name=b"a.txt", content=b"a"), RawMember(name=b"b.txt", content=b"b"))
    (tmp_path / "wide.zip").write_bytes(_always_wide(plain))
    with open_archive(tmp_path / "wide.zip") as archive:
        assert [member.name for member in archive.files()] == ["a.txt", "b.txt"]
    (tmp_path / "lying.zip").write_bytes(_always_wide(plain, rows=1))
    with pytest.raises(InputError) as refusal, open_archive(tmp_path / "lying.zip"):
        pass
    assert refusal.value.code == "zip.header"

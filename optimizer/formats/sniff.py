"""What a file is, by its content; the name only has to agree (security.md 3.1)."""

from __future__ import annotations

import bz2
import lzma
import os
import pickletools
import re
import zlib
from enum import StrEnum
from pathlib import Path

from optimizer.errors import InputError
from optimizer.formats.architecture import declared_in
from optimizer.formats.refusals import refusal
from optimizer.formats.zip_reader import END, END_BYTES, open_archive

HEAD_BYTES = 4096
TEXT_BYTES = frozenset(b"\t\n\r") | frozenset(range(32, 127))


class FileKind(StrEnum):
    """Formats that intake tells apart."""

    ONNX = "onnx"
    ZIP = "zip"
    NPZ = "npz"
    NPY = "npy"
    SAFETENSORS = "safetensors"
    GGUF = "gguf"
    OPENVINO_IR = "openvino_ir"
    HUGGING_FACE = "hugging_face"
    DECLARED = "declared_layers"
    ORT = "ort"
    TFLITE = "tflite"
    SAVED_MODEL = "saved_model"
    FROZEN_GRAPH = "frozen_graph"
    COREML = "coreml"
    TORCH = "torch"
    TORCHSCRIPT = "torchscript"
    TORCH_EXPORT = "torch_export"
    KERAS = "keras"
    PICKLE = "pickle"
    ARCHIVE = "archive"
    NATIVE_CODE = "native_code"
    IMAGE = "image"
    LFS_POINTER = "lfs_pointer"
    WEB_PAGE = "web_page"
    TEXT = "text"
    UNKNOWN = "unknown"


MAGICS: tuple[tuple[int, bytes, FileKind], ...] = (
    (0, b"PK\x03\x04", FileKind.ZIP),
    (0, b"PK\x05\x06", FileKind.ZIP),
    (0, b"\x89HDF\r\n\x1a\n", FileKind.KERAS),
    (0, b"\x93NUMPY", FileKind.NPY),
    (0, b"GGUF", FileKind.GGUF),
    (0, b"GGML", FileKind.GGUF),
    (0, b"ggjt", FileKind.GGUF),
    (4, b"TFL3", FileKind.TFLITE),
    (4, b"ORTM", FileKind.ORT),
    (0, b"ftrt", FileKind.NATIVE_CODE),
    (0, b"ptrt", FileKind.NATIVE_CODE),
    (0, b"\x7fELF", FileKind.NATIVE_CODE),
    (0, b"MZ", FileKind.NATIVE_CODE),
    (0, b"\xfe\xed\xfa\xce", FileKind.NATIVE_CODE),
    (0, b"\xfe\xed\xfa\xcf", FileKind.NATIVE_CODE),
    (0, b"\xce\xfa\xed\xfe", FileKind.NATIVE_CODE),
    (0, b"\xcf\xfa\xed\xfe", FileKind.NATIVE_CODE),
    (0, b"\xca\xfe\xba\xbe", FileKind.NATIVE_CODE),
    (0, b"!<arch>\n", FileKind.NATIVE_CODE),
    (0, b"\x00asm", FileKind.NATIVE_CODE),
    (0, b"\x1f\x8b", FileKind.ARCHIVE),
    (0, b"BZh", FileKind.ARCHIVE),
    (0, b"\xfd7zXZ\x00", FileKind.ARCHIVE),
    (0, b"\x28\xb5\x2f\xfd", FileKind.ARCHIVE),
    (0, b"7z\xbc\xaf\x27\x1c", FileKind.ARCHIVE),
    (0, b"Rar!\x1a\x07", FileKind.ARCHIVE),
    (0, b"\x04\x22\x4d\x18", FileKind.ARCHIVE),
    (0, b"\x1f\x9d", FileKind.ARCHIVE),
    (0, b"MSCF", FileKind.ARCHIVE),
    (257, b"ustar", FileKind.ARCHIVE),
    (0, b"\x89PNG\r\n", FileKind.IMAGE),
    (0, b"\xff\xd8\xff", FileKind.IMAGE),
    (0, b"GIF8", FileKind.IMAGE),
    (0, b"%PDF", FileKind.IMAGE),
    (0, b"version https://git-lfs", FileKind.LFS_POINTER),
)
OLD_PICKLE_STARTS = frozenset(bytes([opcode]) for opcode in b"(])}cISVFLNiXUGKMJT")
AFTER_IR_VERSION = frozenset(bytes([tag]) for tag in (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42, 0x72, 0xA2, 0xCA)) | {b""}
LENGTH = rb"[\x80-\xff]{0,4}[\x01-\x7f]"
FROZEN_NODE = re.compile(rb"\n" + LENGTH + rb"\n[\x01-\x7f][\w./-]+\x12[\x01-\x7f][A-Z]\w+", re.ASCII)
"""A NodeDef: its name, then its operator."""
CORE_ML_START = re.compile(rb"\x08[\x01-\x1f]\x12" + LENGTH + rb"[\nR]" + LENGTH + rb"\n", re.ASCII)
"""The specification's version, then a description whose first member is an input or output."""
MAX_XZ_BYTES = 64 << 20
EXTENSIONS: dict[str, frozenset[FileKind]] = {
    ".onnx": frozenset({FileKind.ONNX}),
    ".zip": frozenset({FileKind.ZIP, FileKind.NPZ, FileKind.OPENVINO_IR, FileKind.HUGGING_FACE, FileKind.DECLARED}),
    ".xml": frozenset({FileKind.OPENVINO_IR}),
    ".npz": frozenset({FileKind.NPZ}),
}


def magic_kind(head: bytes) -> FileKind | None:
    """The format whose magic number the first bytes carry."""
    return next((kind for offset, magic, kind in MAGICS if head[offset : offset + len(magic)] == magic), None)


def sniff(path: Path) -> FileKind:
    """The format of a file.

    Raises InputError ``format.polyglot`` when a zip archive hangs at the end of another format, and those of
    ``open_archive`` for a broken zip.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - END_BYTES - 0xFFFF))
        tail = file.read()
    kind = magic_kind(head)
    if kind is FileKind.ZIP:
        return _zip_kind(path)
    if kind is FileKind.ARCHIVE and _unpacks_to_pickle(head):
        return FileKind.PICKLE
    if _ends_as_zip(tail):
        raise InputError("format.polyglot", "The file is a zip archive and something else at once; upload one plain file.")
    return kind or _kind_without_magic(head, size=size, last=tail[-1:])


def check_name(kind: FileKind, file_name: str) -> None:
    """The extension agrees with the content. Raises InputError ``format.mismatch``."""
    allowed = EXTENSIONS.get(Path(file_name).suffix.lower())
    if allowed is not None and kind not in allowed:
        raise InputError(
            "format.mismatch", f"The name {file_name[-120:]!r} says one format and the content is {kind}; give it its true extension."
        )


def require(path: Path, wanted: frozenset[FileKind], *, file_name: str = "") -> FileKind:
    """The kind of the file, when it is one of ``wanted`` and its name agrees.

    Raises InputError with the refusal of what it is instead (``format.*``, ``model.code_disabled``).
    """
    kind = sniff(path)
    if kind not in wanted:
        raise refusal(kind, file_name or path.name)
    check_name(kind, file_name or path.name)
    return kind


def _ends_as_zip(tail: bytes) -> bool:
    """A zip end record whose comment ends exactly with the file."""
    place = tail.rfind(END)
    while place >= 0:
        if len(tail) - place >= END_BYTES and place + END_BYTES + int.from_bytes(tail[place + 20 : place + 22], "little") == len(tail):
            return True
        place = tail.rfind(END, 0, place)
    return False


def _zip_kind(path: Path) -> FileKind:
    with open_archive(path) as archive:
        names = [member.name for member in archive.files()]
    last = {name.rsplit("/", 1)[-1] for name in names}
    if names and all(name.endswith(".npy") for name in names):
        return FileKind.NPZ
    kind = _torch_kind(names, last)
    if kind is not None:
        return kind
    if {"config.json", "metadata.json", "model.weights.h5"} <= last or any(name.endswith((".keras", ".h5")) for name in last):
        return FileKind.KERAS
    if any(name.endswith(".onnx") for name in last):
        return FileKind.ZIP
    if declared_in(last) is not None:
        return FileKind.DECLARED
    return _unpacked_kind(names, last)


def _torch_kind(names: list[str], last: set[str]) -> FileKind | None:
    """PyTorch's own archives: exported programs, TorchScript (which holds its code), pickled weights."""
    if "serialized_exported_program.json" in last or ("archive_format" in last and any("models/" in name for name in names)):
        return FileKind.TORCH_EXPORT
    if "constants.pkl" in last and any(f"/{name}".find("/code/") >= 0 for name in names):
        return FileKind.TORCHSCRIPT
    return FileKind.TORCH if {"data.pkl", "constants.pkl", "archive_format", ".format_version"} & last else None


def _unpacked_kind(names: list[str], last: set[str]) -> FileKind:
    """Folders of other tools that somebody packed, told by the files they always hold."""
    if {"saved_model.pb", "saved_model.pbtxt"} & last:
        return FileKind.SAVED_MODEL
    if any("com.apple.CoreML" in name or name.endswith(".mlmodel") for name in names):
        return FileKind.COREML
    if any(name.endswith(".xml") for name in last):
        return FileKind.OPENVINO_IR
    if any(name.endswith(".safetensors") for name in last) or ("config.json" in last and any(name.endswith(".bin") for name in last)):
        return FileKind.HUGGING_FACE
    return FileKind.OPENVINO_IR if any(name.endswith(".bin") for name in last) else FileKind.ZIP


def _kind_without_magic(head: bytes, *, size: int, last: bytes) -> FileKind:
    if _is_pickle(head, size=size, last=last):
        return FileKind.PICKLE
    if head[8:10] in (b'{"', b"{}", b"{ ", b"{\n"):
        return FileKind.SAFETENSORS
    if set(head) <= TEXT_BYTES or _starts_as_markup(head):
        return _text_kind(head)
    return _protobuf_kind(head)


def _protobuf_kind(head: bytes) -> FileKind:
    """ONNX writes its IR version first; a TensorFlow SavedModel starts alike and names its serving tag; Core ML starts alike and
    goes on with a message where ONNX has its producer's name; a frozen TensorFlow graph starts with its first node."""
    if FROZEN_NODE.match(head):
        return FileKind.FROZEN_GRAPH
    if head[:1] != b"\x08" or head[1:2] in (b"", b"\x00"):
        return FileKind.UNKNOWN
    if head[1:3] == b"\x01\x12" and b"serve" in head:
        return FileKind.SAVED_MODEL
    if CORE_ML_START.match(head):
        return FileKind.COREML
    return FileKind.ONNX if head[2:3] in AFTER_IR_VERSION else FileKind.UNKNOWN


def _is_pickle(head: bytes, *, size: int, last: bytes) -> bool:
    """Protocol 2 and later start with 0x80; older ones are recognised by decoding opcodes, which executes nothing."""
    if head[:1] == b"\x80" and len(head) > 1 and 2 <= head[1] <= 5:
        return True
    if head[:2] in (b"x\x01", b"x\x5e", b"x\x9c", b"x\xda", b"]\x00"):
        return _unpacks_to_pickle(head)
    if last != b"." or head[:1] not in OLD_PICKLE_STARTS:
        return False
    decoded = 0
    try:
        for _ in pickletools.genops(head):
            decoded += 1
    except ValueError:
        return size > len(head) and decoded > 8
    return decoded > 1


def _unpacks_to_pickle(head: bytes) -> bool:
    """joblib packs pickles by zlib, gzip, bzip2 or xz; two bytes of the content decide."""
    openers = (lambda: zlib.decompressobj(zlib.MAX_WBITS | 32), bz2.BZ2Decompressor, lambda: lzma.LZMADecompressor(memlimit=MAX_XZ_BYTES))
    for opener in openers:
        try:
            if opener().decompress(head, 2)[:1] == b"\x80":
                return True
        except (zlib.error, OSError, lzma.LZMAError):
            continue
    return False


def _starts_as_markup(head: bytes) -> bool:
    return head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<"


def _text_kind(head: bytes) -> FileKind:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if re.search(rb"<net[\s>]", head) and start.startswith((b"<?xml", b"<net", b"<!doctype net")):
        return FileKind.OPENVINO_IR
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        return FileKind.WEB_PAGE
    return FileKind.TEXT

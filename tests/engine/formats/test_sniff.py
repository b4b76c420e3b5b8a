"""Uploads are told apart by content, and every refusal says what to do."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from optimizer.errors import InputError
from optimizer.formats import FileKind, prepare, sniff
from optimizer.formats.refusals import REFUSALS
from tests import samples
from tests.engine.formats.codes import refusal_of
from tests.engine.formats.raw_zip import RawMember, raw_zip


class Marker:
    """A pickle that would leave a mark when opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (open, (str(self.path), "w"))


def code_of(path: Path, tmp_path: Path) -> str:
    return refusal_of(lambda: prepare(path, tmp_path / "flat"))


def named(tmp_path: Path, name: str, data: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["x.onnx", "x.safetensors", "x.gguf", "x.joblib", "x"])
@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_pickle_is_refused_under_any_name_and_never_opened(tmp_path: Path, name: str, protocol: int) -> None:
    data = pickle.dumps({"weights": list(range(3000)), "x": Marker(tmp_path / "mark")}, protocol=protocol)
    assert code_of(named(tmp_path, name, data), tmp_path) == "format.pickle"
    assert not (tmp_path / "mark").exists()


def test_joblib_files_are_pickles(tmp_path: Path) -> None:
    data = pickle.dumps({"x": list(range(100))}, protocol=4)
    assert code_of(named(tmp_path, "a.joblib", zlib.compress(data)), tmp_path) == "format.pickle"


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.onnx"), io.BytesIO())
    return buffer.getvalue()


def _zip(**members: bytes) -> bytes:
    return raw_zip(
        *[RawMember(name=name.replace("__", "/").replace("_dot_", ".").encode(), content=content) for name, content in members.items()]
    )


def _safetensors() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(4)


def _npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "format.keras"),
        (_zip(config_dot_json=b"{}", metadata_dot_json=b"{}", model_dot_weights_dot_h5=b"\x89HDF"), "format.keras"),
        (_tar(), "format.archive"),
        (gzip.compress(b"x" * 100, mtime=0), "format.archive"),
        (b"BZh91AY&SY" + bytes(50), "format.archive"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(50), "format.archive"),
        (b"\x7fELF" + bytes(100), "format.native_code"),
        (b"MZ" + bytes(100), "format.native_code"),
        (b"\xca\xfe\xba\xbe" + bytes(100), "format.native_code"),
        (b"ftrt" + bytes(100), "format.native_code"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "format.not_yet"),
        (_safetensors(), "format.not_yet"),
        (b'<?xml version="1.0"?><net name="m" version="11"></net>', "format.not_yet"),
        (_zip(config_dot_json=b"{}", model_dot_safetensors=_safetensors()), "huggingface.architecture"),
        (_zip(m_dot_xml=b"<net>", m_dot_bin=b"x"), "format.not_yet"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(50), "format.not_yet"),
        (b"\x1c\x00\x00\x00ORTM" + bytes(50), "format.not_yet"),
        (b"\x08\x01\x12\xff\x01\x0a\x05serve" + bytes(50), "format.not_yet"),
        (_zip(archive__data_dot_pkl=b"\x80\x02.", archive__version=b"3"), "model.code_disabled"),
        (_zip(m__code__a_dot_py=b"", m__constants_dot_pkl=b"\x80\x02."), "model.code_disabled"),
        (_zip(x_dot_npy=_npy()), "format.not_model"),
        (_npy(), "format.not_model"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "format.unknown"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "format.unknown"),
        (b"just text", "format.unknown"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "format.unknown"),
        (b"\xf3\x11\x22" * 50, "format.unknown"),
        (b"", "format.unknown"),
        (_zip(readme_dot_txt=b"hello"), "format.no_model"),
        (_zip(a_dot_onnx=b"x", b_dot_onnx=b"y"), "format.many_models"),
    ],
)  # fmt: skip
def test_every_other_format_has_its_code(tmp_path: Path, data: bytes, code: str) -> None:
    assert code_of(named(tmp_path, "upload", data), tmp_path) == code


def test_every_refusal_says_what_to_do() -> None:
    assert set(REFUSALS) == {str(kind) for kind in FileKind}
    verbs = ("export", "upload", "convert", "run ", "pack", "download", "write")
    for code, sentence in REFUSALS.values():
        assert "." in code
        assert any(verb in sentence.lower() for verb in verbs)


def test_a_shared_object_of_this_machine_is_refused(tmp_path: Path) -> None:
    assert sniff(Path(sys.executable).resolve()) is FileKind.NATIVE_CODE


def test_two_formats_in_one_file_are_refused(tmp_path: Path) -> None:
    archive = _zip(model_dot_onnx=samples.mlp(tmp_path / "m.onnx").read_bytes())
    for prefix in (b"\x7fELF" + bytes(100), (tmp_path / "m.onnx").read_bytes(), b"#!/bin/sh\n", b"GGUF\x03\0\0\0"):
        assert code_of(named(tmp_path, "x", prefix + archive), tmp_path) == "format.polyglot"


def test_the_extension_must_agree_with_the_content(tmp_path: Path) -> None:
    model = samples.mlp(tmp_path / "m.onnx")
    assert refusal_of(lambda: prepare(model, tmp_path / "a", file_name="m.zip")) == "format.mismatch"
    assert refusal_of(lambda: prepare(model, tmp_path / "b", file_name="m.bin")) == ""
    archive = samples.external_zip(tmp_path / "x.zip")
    assert refusal_of(lambda: prepare(archive, tmp_path / "c", file_name="m.onnx")) == "format.mismatch"


def test_garbage_named_onnx_is_called_a_damaged_model(tmp_path: Path) -> None:
    assert code_of(named(tmp_path, "x.onnx", b"\xf3\x11\x22" * 50), tmp_path) == "onnx.malformed"
    assert refusal_of(lambda: prepare(named(tmp_path, "blob", b"\xf3\x11\x22"), tmp_path / "flat", file_name="x.onnx")) == "onnx.malformed"


@pytest.mark.parametrize("inner", [_tar(), gzip.compress(b"x", mtime=0), _zip(a=b"b"), b"7z\xbc\xaf\x27\x1c"])
def test_an_archive_inside_the_zip_is_refused(tmp_path: Path, inner: bytes) -> None:
    data = _zip(model_dot_onnx=samples.mlp(tmp_path / "m.onnx").read_bytes(), inner_dot_dat=inner)
    assert code_of(named(tmp_path, "x.zip", data), tmp_path) == "zip.nested"


def test_a_pickle_named_onnx_inside_a_zip_is_refused(tmp_path: Path) -> None:
    data = _zip(model_dot_onnx=pickle.dumps({"x": 1}))
    assert code_of(named(tmp_path, "x.zip", data), tmp_path) == "format.pickle"


def test_a_zip_with_one_model_and_mac_litter_is_taken(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.write(samples.mlp(tmp_path / "m.onnx"), "my net/model v1.onnx")
        archive.writestr("__MACOSX/my net/._model v1.onnx", b"\0\5\x16\7")
        archive.writestr("my net/.DS_Store", b"Bud1")
    prepared = prepare(tmp_path / "x.zip", tmp_path / "flat")
    assert prepared.warnings == ()
    assert prepared.entry.read_bytes() == (tmp_path / "m.onnx").read_bytes()


def test_an_upload_never_overwrites_what_is_there(tmp_path: Path) -> None:
    model = samples.mlp(tmp_path / "m.onnx")
    prepare(model, tmp_path / "flat")
    with pytest.raises(FileExistsError):
        prepare(model, tmp_path / "flat")


def test_a_folder_is_taken_when_it_holds_one_model(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    assert refusal_of(lambda: prepare(folder, tmp_path / "a", beside=True)) == "format.no_model"
    (folder / "config.json").write_text("{}")
    assert refusal_of(lambda: prepare(folder, tmp_path / "b", beside=True)) == "format.no_model"
    samples.mlp(folder / "m.onnx")
    assert prepare(folder, tmp_path / "c", beside=True).entry.exists()


def test_an_onnx_file_of_two_gibibytes_is_refused_without_copying(tmp_path: Path) -> None:
    path = samples.mlp(tmp_path / "m.onnx")
    with path.open("r+b") as file:
        file.truncate(2 << 30)
    with pytest.raises(InputError, match="2 GiB") as caught:
        prepare(path, tmp_path / "flat")
    assert caught.value.code == "onnx.limit"
    assert not (tmp_path / "flat" / "model.onnx").exists()

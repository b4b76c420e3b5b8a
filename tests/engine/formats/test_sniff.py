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
from pathlib import Path

import numpy as np
import onnx
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


@pytest.mark.parametrize("packing", [0, ("zlib", 3), ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)])
def test_joblib_files_are_pickles_however_they_are_packed(tmp_path: Path, packing: object) -> None:
    joblib = pytest.importorskip("joblib")
    joblib.dump({"weights": np.arange(100.0), "x": Marker(tmp_path / "mark")}, tmp_path / "a.joblib", compress=packing)
    assert code_of(tmp_path / "a.joblib", tmp_path) == "format.pickle"
    assert not (tmp_path / "mark").exists()


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


def _node(name: bytes, op: bytes) -> bytes:
    return samples.wire_field(1, samples.wire_field(1, name) + samples.wire_field(2, op))


def _core_ml() -> bytes:
    port = samples.wire_field(1, samples.wire_field(1, b"image"))
    return b"\x08\x05" + samples.wire_field(2, port)


OTHER_TOOLS = {
    "torch_export": ("m.pt2", lambda: _zip(m__archive_format=b"pt2", m__models__model_dot_json=b"{}"), "model.code_disabled", "torch.export.load("),
    "torch_export, first form": ("m.pt2", lambda: _zip(serialized_exported_program_dot_json=b"{}"), "model.code_disabled", "torch.onnx.export("),
    "torchscript": ("m.jit", lambda: _zip(m__code__a_dot_py=b"", m__constants_dot_pkl=b"\x80\x02.", m__data_dot_pkl=b"\x80\x02."), "model.code_disabled", "torch.jit.load("),
    "torch weights": ("m.pth", lambda: _zip(archive__data_dot_pkl=b"\x80\x02.", archive__version=b"3"), "model.code_disabled", "torch.onnx.export("),
    "torch weights, old form": ("m.pth", lambda: pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2), "format.pickle", "torch.onnx.export("),
    "keras h5": ("m.h5", lambda: b"\x89HDF\r\n\x1a\n" + bytes(100), "format.keras", "format='onnx'"),
    "keras 3": ("m.keras", lambda: _zip(config_dot_json=b"{}", metadata_dot_json=b"{}", model_dot_weights_dot_h5=b"\x89HDF"), "format.keras", "format='onnx'"),
    "saved model, packed": ("m.zip", lambda: _zip(m__saved_model_dot_pb=b"\x08\x01", m__variables__variables_dot_index=b"x"), "format.not_yet", "--saved-model"),
    "saved model": ("saved_model.pb", lambda: b"\x08\x01\x12\xff\x01\x0a\x05serve" + bytes(50), "format.not_yet", "--saved-model"),
    "frozen graph": ("graph.pb", lambda: _node(b"input/x", b"Placeholder") + _node(b"w", b"Const"), "format.not_yet", "--graphdef"),
    "frozen graph, long node": ("graph.pb", lambda: samples.wire_field(1, samples.wire_field(1, b"w") + samples.wire_field(2, b"Const") + samples.wire_field(5, bytes(70_000))), "format.not_yet", "--graphdef"),
    "core ml": ("m.mlmodel", _core_ml, "format.not_yet", "torch.onnx.export("),
    "core ml package": ("m.zip", lambda: _zip(m__Manifest_dot_json=b"{}", m__Data__com_dot_apple_dot_CoreML__model_dot_mlmodel=_core_ml()), "format.not_yet", "torch.onnx.export("),
    "gguf": ("m.gguf", lambda: b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "format.not_yet", "optimum-cli export onnx"),
    "tflite": ("m.tflite", lambda: b"\x1c\x00\x00\x00TFL3" + bytes(50), "format.not_yet", "--tflite"),
    "safetensors": ("m.safetensors", _safetensors, "format.not_yet", "optimum-cli export onnx"),
    "safetensors, packed": ("m.zip", lambda: _zip(model_dot_safetensors=_safetensors()), "format.not_yet", "optimum-cli export onnx"),
    "scikit-learn": ("m.pkl", lambda: pickle.dumps({"coef": [1.0]}), "format.pickle", "skl2onnx.to_onnx("),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHER_TOOLS)
def test_models_of_other_tools_are_refused_with_the_command_that_exports_them(tmp_path: Path, kind: str) -> None:
    name, data, code, command = OTHER_TOOLS[kind]
    for given in (name, "renamed.bin"):
        with pytest.raises(InputError) as refused:
            prepare(named(tmp_path, given, data()), tmp_path / "flat")
        assert refused.value.code == code
        assert command in refused.value.message
        assert "upload" in refused.value.message


def test_an_onnx_file_whose_producer_has_any_name_is_still_onnx(tmp_path: Path) -> None:
    for producer in ("", "x", "tf2onnx", "Rabcdefgh", "π"):
        model = onnx.load(samples.mlp(tmp_path / "m.onnx"))
        model.producer_name = producer
        onnx.save(model, tmp_path / "m.onnx")
        assert sniff(tmp_path / "m.onnx") is FileKind.ONNX


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
        (b'<?xml version="1.0"?><net name="m" version="11"></net>', "openvino.xml"),
        (_zip(config_dot_json=b"{}", model_dot_safetensors=_safetensors()), "huggingface.architecture"),
        (_zip(model_dot_safetensors=_safetensors()), "format.not_yet"),
        (_zip(config_dot_json=b"{}", pytorch_model_dot_bin=b"x"), "format.no_model"),
        (_zip(m_dot_xml=b"<net>", m_dot_bin=b"x"), "openvino.xml"),
        (_zip(m_dot_xml=b"<html>", m_dot_bin=b"x"), "format.unknown"),
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

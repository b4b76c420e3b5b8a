"""OpenVINO IRs are described as their runtime sees them, or refused with a code; nothing outside their two files is read."""

from __future__ import annotations

import hashlib
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from optimizer.backends import backend
from optimizer.conformance import graphs
from optimizer.errors import InputError
from optimizer.formats import inspect_model, prepare
from optimizer.formats.openvino_rules import MAX_OPSET
from optimizer.formats.openvino_xml import IrCaps, read_ir
from optimizer.rounding import all_agree
from optimizer.specs import BackendSettings, ModelCard, TaskKind, TensorSpec
from tests import samples
from tests.engine.formats.codes import refusal_of

openvino = pytest.importorskip("openvino")

BUILDERS = {
    "mlp": samples.mlp, "dynamic batch": samples.dynamic_batch, "conv": samples.conv, "encoder": samples.encoder,
    "recurrent": samples.recurrent, "branch": samples.branch, "loop": samples.loop, "identity": samples.identity, "odd names": graphs.odd_names,
}  # fmt: skip
FIXED = ("mlp", "conv", "identity")


def card_of(path: Path, folder: Path) -> ModelCard:
    prepared = prepare(path, folder, beside=True)
    return inspect_model(prepared.entry, warnings=prepared.warnings)


def edited(path: Path, *changes: tuple[str, str]) -> Path:
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text)
    return path


def zipped(path: Path, *files: Path, folder: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in files:
            archive.write(file, folder + file.name)
    return path


def without_symbols(tensor: TensorSpec) -> tuple[str, str, tuple[int | None, ...]]:
    return tensor.name, tensor.dtype, tuple(dim if isinstance(dim, int) else None for dim in tensor.shape)


@pytest.mark.parametrize("name", BUILDERS)
def test_the_card_names_the_ports_that_the_runtime_answers_with(tmp_path: Path, name: str) -> None:
    path = samples.openvino_ir(tmp_path / "m.xml", build=BUILDERS[name])
    card = card_of(path, tmp_path / "flat")
    session = backend("openvino").open(tmp_path / "flat" / card.entry, BackendSettings(threads=1))
    assert [without_symbols(one) for one in card.inputs] == [without_symbols(one) for one in session.inputs]
    assert [without_symbols(one) for one in card.outputs] == [without_symbols(one) for one in session.outputs]
    assert (card.format, card.ir_version) == ("openvino_ir", 11)


@pytest.mark.parametrize("name", FIXED)
def test_work_and_parameters_equal_those_of_the_onnx_model_it_came_from(tmp_path: Path, name: str) -> None:
    origin = inspect_model(BUILDERS[name](tmp_path / "m.onnx"))
    card = card_of(samples.openvino_ir(tmp_path / "m.xml", build=BUILDERS[name]), tmp_path / "flat")
    assert card.flops == origin.flops
    assert card.task is origin.task
    assert card.precisions.get("float32", 0) == origin.precisions.get("float32", 0)
    assert card.parameters == origin.parameters
    assert 0.5 < ((card.traffic_bytes or 0) + 1) / ((origin.traffic_bytes or 0) + 1) < 2


@pytest.mark.parametrize("sample", ["S1", "S2.rec"])
def test_the_card_of_a_real_model_agrees_with_its_onnx_and_with_the_runtime(tmp_path: Path, sample: str) -> None:
    source = samples.sample_path(sample)
    card = card_of(samples.openvino_ir(tmp_path / "m.xml", build=lambda to: Path(shutil.copy(source, to))), tmp_path / "flat")
    origin = inspect_model(source)
    assert (card.task, set(card.vocabularies.values())) == (origin.task, set(origin.vocabularies.values())) or sample == "S2.rec"
    assert card.parameters == pytest.approx(origin.parameters, rel=0.02)
    model = openvino.Core().read_model(str(tmp_path / "flat" / card.entry))
    kinds = [op.get_type_name() for op in model.get_ops()]
    assert card.node_count == sum(kind not in ("Parameter", "Result", "Constant") for kind in kinds)
    assert {tensor.name for tensor in card.outputs} == {port.get_any_name() for port in model.outputs}


def test_the_digest_covers_both_files(tmp_path: Path) -> None:
    card = card_of(samples.openvino_ir(tmp_path / "m.xml"), tmp_path / "a")
    bent = bytearray((tmp_path / "m.bin").read_bytes())
    bent[5] ^= 1
    (tmp_path / "m.bin").write_bytes(bent)
    other = card_of(tmp_path / "m.xml", tmp_path / "b")
    assert card.sha256 != other.sha256
    assert card.external_files == ("model.bin",)
    assert card.size_bytes == (tmp_path / "m.xml").stat().st_size + (tmp_path / "m.bin").stat().st_size
    assert len(card.sha256) == len(hashlib.sha256().hexdigest())


def test_the_encoder_has_its_vocabulary_symbols_and_task(tmp_path: Path) -> None:
    card = card_of(samples.openvino_ir(tmp_path / "m.xml", build=samples.encoder), tmp_path / "flat")
    assert card.vocabularies == {"input_ids": 64}
    assert card.bindings["input_ids[1]"] == 128
    assert card.task is TaskKind.EMBEDDING
    assert card.flops is None
    assert any("not fixed in the file" in note for note in card.warnings)
    bound = inspect_model(tmp_path / "flat" / card.entry, bindings={"input_ids[1]": 7})
    assert bound.bindings["input_ids[1]"] == 7
    assert refusal_of(lambda: inspect_model(tmp_path / "flat" / card.entry, bindings={"seq": 7})) == "input.refused"


def test_precision_control_flow_state_and_quantization_are_seen(tmp_path: Path) -> None:
    half = card_of(samples.openvino_ir(tmp_path / "half.xml", half=True), tmp_path / "a")
    assert set(half.precisions) == {"float16"}
    assert half.flops == inspect_model(samples.mlp(tmp_path / "m.onnx")).flops, "converting weights is done once, not per call"
    assert card_of(samples.openvino_ir(tmp_path / "b.xml", build=samples.branch), tmp_path / "b").control_flow
    recurrent = card_of(samples.openvino_ir(tmp_path / "r.xml", build=samples.recurrent), tmp_path / "c")
    assert recurrent.state_pairs == (("state", "stateN"),)
    assert not half.quantized
    assert card_of(_int8(tmp_path / "q.xml"), tmp_path / "d").quantized
    assert card_of(_fake_quantized(tmp_path / "f.xml"), tmp_path / "e").quantized


def _saved(path: Path, output: object, inputs: list[object]) -> Path:
    openvino.save_model(openvino.Model([output], inputs, "m"), str(path), compress_to_fp16=False)
    return path


def _int8(path: Path) -> Path:
    ops = openvino.opset13
    x = ops.parameter([1, 8], np.float32, name="x")
    table = ops.convert(ops.constant(np.ones((8, 8), np.int8)), "f32")
    return _saved(path, ops.matmul(x, table, False, False), [x])


def _fake_quantized(path: Path) -> Path:
    ops = openvino.opset13
    x = ops.parameter([1, 8], np.float32, name="x")
    low, high = ops.constant(np.float32(-1)), ops.constant(np.float32(1))
    return _saved(path, ops.fake_quantize(x, low, high, low, high, 256), [x])


def _stateful(path: Path) -> Path:
    ops = openvino.opset13
    x = ops.parameter([1, 8], np.float32, name="x")
    kept = ops.read_value(ops.constant(np.zeros((1, 8), np.float32)), "memory")
    total = ops.add(x, kept)
    model = openvino.Model([ops.result(total)], [ops.assign(total, "memory")], [x], "m")
    openvino.save_model(model, str(path), compress_to_fp16=False)
    return path


def test_a_network_that_keeps_state_between_calls_is_refused(tmp_path: Path) -> None:
    assert refusal_of(lambda: prepare(_stateful(tmp_path / "m.xml"), tmp_path / "flat", beside=True)) == "openvino.stateful"


@pytest.mark.parametrize("folder", ["", "exported/int8/"])
def test_a_zip_of_both_files_is_taken(tmp_path: Path, folder: str) -> None:
    path = samples.openvino_ir(tmp_path / "net v1.xml")
    (tmp_path / "notes.txt").write_text("made on Monday")
    upload = zipped(tmp_path / "x.zip", path, path.with_suffix(".bin"), tmp_path / "notes.txt", folder=folder)
    prepared = prepare(upload, tmp_path / "flat", file_name="x.zip")
    assert sorted(file.name for file in (tmp_path / "flat").iterdir()) == ["model.bin", "model.xml"]
    assert "notes.txt" in prepared.warnings[0]
    assert (tmp_path / "flat" / "model.bin").read_bytes() == path.with_suffix(".bin").read_bytes()


def test_weights_that_look_like_an_archive_are_weights(tmp_path: Path) -> None:
    path = samples.openvino_ir(tmp_path / "m.xml")
    path.with_suffix(".bin").write_bytes(b"\x1f\x8b" + path.with_suffix(".bin").read_bytes()[2:])
    upload = zipped(tmp_path / "x.zip", path, path.with_suffix(".bin"))
    assert refusal_of(lambda: prepare(upload, tmp_path / "flat")) == ""


def test_a_folder_of_both_files_is_taken(tmp_path: Path) -> None:
    (tmp_path / "ir").mkdir()
    samples.openvino_ir(tmp_path / "ir" / "m.xml")
    assert prepare(tmp_path / "ir", tmp_path / "flat", beside=True).entry.name == "model.xml"


def test_each_missing_half_says_what_to_add(tmp_path: Path) -> None:
    path = samples.openvino_ir(tmp_path / "m.xml")
    weights = path.with_suffix(".bin")
    alone = {
        "openvino.weights_missing": [(path, "m.xml"), (zipped(tmp_path / "a.zip", path), "a.zip")],
        "openvino.xml_missing": [(weights, "m.bin"), (zipped(tmp_path / "b.zip", weights), "b.zip")],
    }
    for code, uploads in alone.items():
        for upload, name in uploads:
            with pytest.raises(InputError, match="upload one zip") as refused:
                prepare(upload, tmp_path / f"flat-{name}", file_name=name)
            assert refused.value.code == code
    path.unlink()
    assert refusal_of(lambda: prepare(tmp_path, tmp_path / "flat", beside=True)) == "openvino.xml_missing"


def test_a_model_without_constants_needs_no_weights_file(tmp_path: Path) -> None:
    path = samples.openvino_ir(tmp_path / "m.xml", build=samples.identity)
    assert prepare(path, tmp_path / "flat", file_name="m.xml").entry.exists()


def test_two_models_in_one_zip_are_refused(tmp_path: Path) -> None:
    first, second = samples.openvino_ir(tmp_path / "a.xml"), samples.openvino_ir(tmp_path / "b.xml")
    upload = zipped(tmp_path / "x.zip", first, second, first.with_suffix(".bin"))
    assert refusal_of(lambda: prepare(upload, tmp_path / "flat")) == "format.many_models"


ENTITY_BOMB = '<!DOCTYPE net [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
OUTSIDE = '<!DOCTYPE net [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
PARAMETER_ENTITY = '<!DOCTYPE net SYSTEM "http://127.0.0.1:9/x.dtd">'


@pytest.mark.parametrize("declaration", [ENTITY_BOMB, OUTSIDE, PARAMETER_ENTITY])
@pytest.mark.parametrize("header", ['<?xml version="1.0"?>', ""])
def test_a_document_type_is_refused_before_anything_is_expanded(tmp_path: Path, declaration: str, header: str) -> None:
    path = samples.openvino_ir(tmp_path / "m.xml")
    edited(path, ('<?xml version="1.0"?>', header + declaration), ("<layers>", "<layers><!-- &b; -->"))
    with pytest.raises(InputError, match="document type") as refused:
        prepare(path, tmp_path / "flat", beside=True)
    assert refused.value.code == "openvino.xml"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda text: text.replace('version="11"', 'version="10"', 1), "openvino.version"),
        (lambda text: re.sub(r'offset="\d+"', 'offset="4000000000"', text, count=1), "openvino.range"),
        (lambda text: re.sub(r'offset="\d+"', 'offset="-1"', text, count=1), "openvino.xml"),
        (lambda text: re.sub(r' size="\d+"', ' size="8"', text, count=1), "openvino.range"),
        (lambda text: re.sub(r'(element_type="f32" shape=)"[\d, ]+"', r'\1"4611686018427387904, 4"', text, count=1), "openvino.xml"),
        (lambda text: re.sub(r'(element_type="f32" shape=)"[\d, ]+"', r'\1"99999999, 99999999"', text, count=1), "openvino.range"),
        (lambda text: text.replace('type="MatMul" version="opset1"', 'type="MatMul" version="extension"', 1), "openvino.op"),
        (lambda text: text.replace('version="opset1"', f'version="opset{MAX_OPSET + 1}"', 1), "openvino.op"),
        (lambda text: text.replace("<dim>16</dim>", "<dim>sixteen</dim>", 1), "openvino.xml"),
        (lambda text: text.replace("<dim>16</dim>", "<dim>16</dim>" * 17, 1), "openvino.xml"),
        (lambda text: text.replace('<layer id="0"', "<layer", 1), "openvino.xml"),
        (lambda text: text.replace('type="Result"', 'type="Relu"'), "openvino.xml"),
        (lambda text: text.replace("</layers>", "", 1), "openvino.xml"),
        (lambda text: text[: len(text) // 2], "openvino.xml"),
        (lambda text: text.replace('shape="1,16"', 'shape="1,many"', 1), "openvino.xml"),
    ],
)
def test_a_bent_description_has_its_code(tmp_path: Path, change: Callable[[str], str], code: str) -> None:
    path = samples.openvino_ir(tmp_path / "m.xml")
    before = path.read_text()
    path.write_text(change(before))
    assert path.read_text() != before
    assert refusal_of(lambda: card_of(path, tmp_path / "flat")) == code


def test_a_cut_weights_file_is_refused(tmp_path: Path) -> None:
    path = samples.openvino_ir(tmp_path / "m.xml")
    weights = path.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:-1])
    assert refusal_of(lambda: card_of(path, tmp_path / "flat")) == "openvino.range"


def test_a_description_cut_or_bent_anywhere_is_described_or_refused_with_a_code(tmp_path: Path) -> None:
    path = samples.openvino_ir(tmp_path / "m.xml", build=samples.branch)
    data = path.read_bytes()
    codes = set()
    for place in range(1, len(data), len(data) // 97):
        for bent in (data[:place], data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]):
            path.write_bytes(bent)
            shutil.rmtree(tmp_path / "flat", ignore_errors=True)
            codes.add(refusal_of(lambda: card_of(path, tmp_path / "flat")))
    assert {code.split(".")[0] for code in codes} <= {"", "openvino", "format"}
    assert {"", "openvino.xml"} <= codes


@pytest.mark.parametrize(
    ("caps", "text"),
    [
        (IrCaps(depth=20), "<net>" + "<a>" * 30 + "</a>" * 30 + "</net>"),
        (IrCaps(elements=50), "<net>" + "<a/>" * 60 + "</net>"),
        (IrCaps(layers=5), "<net><layers>" + '<layer id="1" type="Relu"/>' * 6 + "</layers></net>"),
        (IrCaps(file_bytes=10), "<net>           </net>"),
    ],
)
def test_each_cap_of_the_description_holds(tmp_path: Path, caps: IrCaps, text: str) -> None:
    path = tmp_path / "m.xml"
    path.write_text(text)
    read_ir(path)
    assert refusal_of(lambda: read_ir(path, caps=caps)) == "openvino.xml"


def test_the_newest_operator_set_is_that_of_the_installed_runtime() -> None:
    assert max(int(name.removeprefix("opset")) for name in dir(openvino) if re.fullmatch(r"opset\d+", name)) == MAX_OPSET


@pytest.mark.parametrize("name", ["mlp", "conv", "odd names"])
def test_the_ir_computes_what_its_onnx_computes(tmp_path: Path, name: str) -> None:
    source = BUILDERS[name](tmp_path / "m.onnx")
    feeds = {
        one.name: np.ones([dim if isinstance(dim, int) else 1 for dim in one.shape], one.dtype) for one in inspect_model(source).inputs
    }
    path = samples.openvino_ir(tmp_path / "ir.xml", build=BUILDERS[name])
    ours = backend("onnxruntime").open(BUILDERS[name](tmp_path / "m.onnx"), BackendSettings(threads=1)).run(feeds)
    theirs = backend("openvino").open(path, BackendSettings(threads=1)).run(feeds)
    assert all_agree(ours, theirs)

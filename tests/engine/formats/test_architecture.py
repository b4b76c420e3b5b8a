"""Declared architectures: what is accepted of the file, what is refused and how, and when one is looked for at all. No PyTorch needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from optimizer.errors import InputError
from optimizer.formats import FileKind, prepare, sniff
from optimizer.formats.architecture import LAYERS, declared_in, read_architecture, weights_of
from optimizer.formats.prepare import is_declared_folder
from tests import folders, samples

RELU = {"type": "ReLU"}
INPUT = {"name": "x", "shape": ["batch", 4]}


def written(folder: Path, table: object, *, name: str = "architecture.json") -> Path:
    (folder / name).write_text(table if isinstance(table, str) else json.dumps(table))
    return folder / name


def test_layers_input_and_places_are_read(tmp_path: Path) -> None:
    linear = {"type": "Linear", "name": "head", "in_features": 4, "out_features": 2}
    found = read_architecture(written(tmp_path, {"input": INPUT, "layers": [linear, RELU], "prefix": "net.", "within": "state"}))
    assert [(layer.type, layer.name, layer.params) for layer in found.layers] == [
        ("Linear", "head", {"in_features": 4, "out_features": 2}),
        ("ReLU", "", {}),
    ]
    assert found.input is not None
    assert (found.input.name, found.input.dtype, found.input.shape) == ("x", "float32", ("batch", 4))
    assert (found.output, found.prefix, found.within) == ("output", "net.", "state")


def test_toml_says_the_same_as_json(tmp_path: Path) -> None:
    text = '[input]\nname = "x"\nshape = ["batch", 4]\n[[layers]]\ntype = "ReLU"\n'
    assert read_architecture(written(tmp_path, text, name="architecture.toml")) == read_architecture(
        written(tmp_path, {"input": INPUT, "layers": [RELU]})
    )


@pytest.mark.parametrize(
    ("table", "code", "sentence"),
    [
        ("{", "architecture.malformed", "cannot be read"),
        ("[]", "architecture.malformed", "no table"),
        ("[" * 100_000, "architecture.malformed", "cannot be read"),
        ({"layers": [RELU]}, "architecture.malformed", '"input" must be like'),
        ({"input": {"name": "x", "shape": []}, "layers": [RELU]}, "architecture.malformed", '"input" must be like'),
        ({"input": {"name": "x", "shape": [0]}, "layers": [RELU]}, "architecture.malformed", '"input" must be like'),
        ({"input": {**INPUT, "dtype": "object"}, "layers": [RELU]}, "architecture.malformed", '"input" must be like'),
        ({"input": INPUT, "layers": []}, "architecture.malformed", "must list 1 to"),
        ({"input": INPUT, "layers": [RELU] * 2_001}, "architecture.malformed", "must list 1 to"),
        ({"input": INPUT, "layers": [RELU], "code": "import os"}, "architecture.malformed", "'code'"),
        ({"input": INPUT, "layers": [RELU], "prefix": 3}, "architecture.malformed", "'prefix' must be a short text"),
        ({"input": INPUT, "layers": [{"type": "Lambda"}]}, "architecture.layer", "'Lambda', which is not known"),
        ({"input": INPUT, "layers": [{"type": "__init__"}]}, "architecture.layer", "not known"),
        ({"input": INPUT, "layers": ["ReLU"]}, "architecture.layer", "not known"),
        ({"input": INPUT, "layers": [{"type": "ReLU", "hook": 1}]}, "architecture.parameter", "has no parameter 'hook' here"),
        ({"input": INPUT, "layers": [{"type": "Linear", "in_features": 1 << 60}]}, "architecture.parameter", "cannot take in_features"),
        ({"input": INPUT, "layers": [{"type": "Linear", "bias": "yes"}]}, "architecture.parameter", "cannot take bias"),
        ({"input": INPUT, "layers": [{"type": "GELU", "approximate": "exec"}]}, "architecture.parameter", "cannot take approximate"),
    ],
)
def test_a_declaration_is_refused_with_what_is_wrong(tmp_path: Path, table: Any, code: str, sentence: str) -> None:
    with pytest.raises(InputError) as refusal:
        read_architecture(written(tmp_path, table))
    assert refusal.value.code == code
    assert sentence in refusal.value.message


def test_a_declaration_counts_only_beside_weights(tmp_path: Path) -> None:
    assert declared_in({"architecture.json", "net.pth"}) == "architecture.json"
    assert declared_in({"architecture.json", "readme.txt"}) is None
    assert declared_in({"net.pth"}) is None
    written(tmp_path, {})
    folders.write_safetensors(tmp_path / "net.safetensors", {})
    assert is_declared_folder(tmp_path)
    samples.mlp(tmp_path / "model.onnx")
    assert not is_declared_folder(tmp_path)


def test_one_of_several_weight_files_must_be_named(tmp_path: Path) -> None:
    found = read_architecture(written(tmp_path, {"input": INPUT, "layers": [RELU], "weights": "b.pt"}))
    assert weights_of(found, {"a.pt", "b.pt"}) == "b.pt"
    for names in ({"a.pt"}, {"a.pt", "c.pt"}):
        with pytest.raises(InputError, match="which file holds the weights"):
            weights_of(found, names)


def test_a_zip_of_both_is_told_from_other_zips(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    written(tmp_path / "net", {"input": INPUT, "layers": [RELU]})
    folders.write_safetensors(tmp_path / "net" / "w.safetensors", {})
    assert sniff(samples.zipped(tmp_path / "net", tmp_path / "net.zip", prefix="net/")) is FileKind.DECLARED


def test_pytorchs_own_weights_are_not_opened_outside_a_child(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    written(tmp_path / "net", {"input": INPUT, "layers": [RELU]})
    (tmp_path / "parts" / "net").mkdir(parents=True)
    (tmp_path / "parts" / "net" / "data.pkl").write_bytes(b"\x80\x02.")
    (tmp_path / "parts" / "net" / "version").write_text("3")
    samples.zipped(tmp_path / "parts", tmp_path / "net" / "w.pth")
    with pytest.raises(InputError) as refusal:
        prepare(tmp_path / "net", tmp_path / "taken", beside=True)
    assert refusal.value.code == "agent.sandbox_too_weak"
    assert "safetensors" in refusal.value.message


def test_every_layer_is_of_the_librarys_plain_ones() -> None:
    assert all(name.isidentifier() and name[0].isupper() for name in LAYERS)

